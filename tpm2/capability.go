package tpm2

import (
	"fmt"
	"time"

	gotpm "github.com/google/go-tpm/tpm2"
)

// handles lists the existing handles from first to last.
func (t *TPM) handles(first, last uint32) ([]uint32, error) {
	var list []uint32
	for {
		rsp, err := run(t, "TPM2_GetCapability", gotpm.GetCapability{
			Capability: gotpm.TPMCapHandles, Property: first, PropertyCount: 64,
		})
		if err != nil {
			return nil, err
		}
		l, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			return nil, fmt.Errorf("read the TPM's list of handles: %w", err)
		}
		for _, h := range l.Handle {
			if uint32(h) < first || uint32(h) > last {
				return list, nil
			}
			list = append(list, uint32(h))
			first = uint32(h) + 1
		}
		if !rsp.MoreData || len(l.Handle) == 0 {
			return list, nil
		}
	}
}

// properties reads TPM properties (Part 2, clause 6.13), from first on.
func (t *TPM) properties(first gotpm.TPMPT, count uint32) (map[gotpm.TPMPT]uint32, error) {
	rsp, err := run(t, "TPM2_GetCapability", gotpm.GetCapability{
		Capability: gotpm.TPMCapTPMProperties, Property: uint32(first), PropertyCount: count,
	})
	if err != nil {
		return nil, err
	}
	l, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil {
		return nil, fmt.Errorf("read the TPM's properties: %w", err)
	}
	m := map[gotpm.TPMPT]uint32{}
	for _, p := range l.TPMProperty {
		m[p.Property] = p.Value
	}
	return m, nil
}

// Lockout is the state of the TPM's defence against guessing (Part 1, clause 19.8).
type Lockout struct {
	Failed   uint32        // wrong tries that count at present
	Allowed  uint32        // tries after which the TPM refuses all
	Recovery time.Duration // after this time one failed try is forgiven
}

// Left is how many wrong tries are left.
func (l Lockout) Left() uint32 { return l.Allowed - min(l.Failed, l.Allowed) }

// Lockout reads the state of the defence. It costs no try.
func (t *TPM) Lockout() (Lockout, error) {
	p, err := t.properties(gotpm.TPMPTLockoutCounter, 4)
	if err != nil {
		return Lockout{}, err
	}
	return Lockout{
		Failed:   p[gotpm.TPMPTLockoutCounter],
		Allowed:  p[gotpm.TPMPTMaxAuthFail],
		Recovery: time.Duration(p[gotpm.TPMPTLockoutInterval]) * time.Second,
	}, nil
}

// OwnerEnabled reports whether the storage hierarchy is enabled in this boot: shEnable of
// TPMA_STARTUP_CLEAR (Part 2, clause 8.7). Firmware can switch it off until the next start
// (TPM2_HierarchyControl), and does so where it takes the TPM for broken. Keys and NV indices
// of the owner are then as if they were not there.
func (t *TPM) OwnerEnabled() (bool, error) {
	const shEnable = 1 << 1
	p, err := t.properties(gotpm.TPMPTStartupClear, 1)
	return p[gotpm.TPMPTStartupClear]&shEnable != 0, err
}

// Manufacturer is the TPM's vendor as four letters, such as IFX or STM.
func (t *TPM) Manufacturer() (string, error) {
	p, err := t.properties(gotpm.TPMPTManufacturer, 1)
	if err != nil {
		return "", err
	}
	v := p[gotpm.TPMPTManufacturer]
	letters := []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}
	name := ""
	for _, c := range letters {
		// The chip may answer anything; only letters and digits reach a terminal.
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			name += string(rune(c))
		}
	}
	return name, nil
}
