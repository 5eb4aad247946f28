package txt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

var le = binary.LittleEndian

// PublicBase is the physical address of the public registers, and PublicSize the
// size of their space (SDG, appendix B).
const (
	PublicBase = 0xfed30000
	PublicSize = 0x10000
)

// Offsets of registers in the public space.
const (
	regSTS       = 0x000
	regESTS      = 0x008
	regErrorCode = 0x030
	regSpad      = 0x0a0
	regFSBIF     = 0x100
	regDIDVID    = 0x110
	regQPIIF     = 0x200
	regSinitBase = 0x270
	regSinitSize = 0x278
	regMLEJoin   = 0x290
	regHeapBase  = 0x300
	regHeapSize  = 0x308
	regACMError  = 0x328
	regDPR       = 0x330
	regACMPolicy = 0x378
	regPublicKey = 0x400
	regE2STS     = 0x8f0
	lastRegister = 0x8f8
)

// ErrAbsent says that the machine does not decode the registers: every read gives
// ones. There is no TXT, or it is switched off.
var ErrAbsent = errors.New("the TXT registers read as ones: this machine has no TXT, or its firmware switched it off")

// Registers are the public registers.
type Registers struct {
	STS, ESTS, E2STS uint64
	ErrorCode        ErrorCode
	BootStatus       uint64 // TXT.SPAD, what the startup module did
	FSBIF, QPIIF     uint64 // which of them is used depends on the chipset
	DIDVID           uint64
	SinitBase        uint64
	SinitSize        uint64
	MLEJoin          uint64
	HeapBase         uint64
	HeapSize         uint64
	ACMError         uint64
	DPR              DPR
	ACMPolicy        uint64
	PublicKey        [32]byte // the hash of the key that modules must be signed with
}

// ParseRegisters reads an image of the public space, at least up to E2STS. A space
// that is not decoded gives [ErrAbsent].
func ParseRegisters(b []byte) (*Registers, error) {
	if len(b) < lastRegister {
		return nil, fmt.Errorf("the image of the TXT registers has %d bytes, and at least %d are needed", len(b), lastRegister)
	}
	u64 := func(at int) uint64 { return le.Uint64(b[at:]) }
	r := &Registers{
		STS: u64(regSTS), ESTS: u64(regESTS), E2STS: u64(regE2STS), ErrorCode: ErrorCode(u64(regErrorCode)),
		BootStatus: u64(regSpad), FSBIF: u64(regFSBIF), QPIIF: u64(regQPIIF), DIDVID: u64(regDIDVID),
		SinitBase: u64(regSinitBase), SinitSize: u64(regSinitSize), MLEJoin: u64(regMLEJoin),
		HeapBase: u64(regHeapBase), HeapSize: u64(regHeapSize), ACMError: u64(regACMError),
		DPR: DPR(u64(regDPR)), ACMPolicy: u64(regACMPolicy), PublicKey: [32]byte(b[regPublicKey:]),
	}
	if r.STS == ^uint64(0) {
		return nil, ErrAbsent
	}
	return r, nil
}

// Bits of STS, ESTS and E2STS (SDG, appendix B.1).
const (
	stsSenterDone = 1 << 0
	stsSexitDone  = 1 << 1
	estsReset     = 1 << 0
	e2stsSecrets  = 1 << 1
)

// Launched reports whether the CPU is in a measured environment: it was entered
// and not left again.
func (r *Registers) Launched() bool {
	return r.STS&stsSenterDone != 0 && r.STS&stsSexitDone == 0
}

// Left reports whether a measured environment was entered and left.
func (r *Registers) Left() bool {
	return r.STS&(stsSenterDone|stsSexitDone) == stsSenterDone|stsSexitDone
}

// ResetPending reports whether TXT.ESTS says that TXT reset the machine. Until the
// power is switched off, no launch is possible.
func (r *Registers) ResetPending() bool { return r.ESTS&estsReset != 0 }

// Secrets reports whether an environment said that secrets lie in memory: the
// startup module will clear memory after a reset.
func (r *Registers) Secrets() bool { return r.E2STS&e2stsSecrets != 0 }

// Chipset is the chipset's PCI identity: vendor, device, revision.
func (r *Registers) Chipset() (vendor, device, revision uint16) {
	return uint16(r.DIDVID), uint16(r.DIDVID >> 16), uint16(r.DIDVID >> 32)
}

// interfaceVersion is the one of the two version registers that the chipset has.
func (r *Registers) interfaceVersion() uint64 {
	if r.FSBIF != 0 && r.FSBIF != ^uint64(0) && uint32(r.FSBIF) != ^uint32(0) {
		return r.FSBIF
	}
	return r.QPIIF
}

// Production reports whether the chipset takes production modules, and no debug ones.
func (r *Registers) Production() bool { return r.interfaceVersion()&(1<<31) != 0 }

// Status is what the registers say of the launch, in words.
func (r *Registers) Status() string {
	switch {
	case r.Launched():
		return "in a measured environment"
	case r.Left():
		return "a measured environment was entered and left"
	case r.ResetPending():
		return "TXT reset the machine; switch its power off to launch again"
	}
	return "not launched"
}

// TPMKind is what the ACM policy register says of the TPM (bits 14:13).
func (r *Registers) TPMKind() string {
	switch r.ACMPolicy >> 13 & 3 {
	case 1:
		return "TPM 1.2"
	case 2:
		return "TPM 2.0"
	case 3:
		return "TPM 2.0 in the firmware (PTT)"
	}
	return "none told"
}

// DPR is the register of the region that is protected from DMA.
type DPR uint64

// Locked reports whether the region can no longer be moved.
func (d DPR) Locked() bool { return d&1 != 0 }

// Size is the region's size in bytes.
func (d DPR) Size() uint64 { return uint64(d) >> 4 & 0xff << 20 }

// Base is the region's first address.
func (d DPR) Base() uint64 { return uint64(d)&0xfff00000 - d.Size() }

// String says where the region lies.
func (d DPR) String() string {
	if d.Size() == 0 {
		return "none"
	}
	locked := "not locked"
	if d.Locked() {
		locked = "locked"
	}
	return fmt.Sprintf("%d MiB at %#x, %s", d.Size()>>20, d.Base(), locked)
}

// Rows are the registers as lines of a table: name, value, meaning.
func (r *Registers) Rows() [][3]string {
	vendor, device, revision := r.Chipset()
	hex := func(v uint64) string { return fmt.Sprintf("%#x", v) }
	flags := []string{r.Status()}
	if r.Secrets() {
		flags = append(flags, "secrets in memory")
	}
	production := "debug chipset"
	if r.Production() {
		production = "production chipset"
	}
	return [][3]string{
		{"STS", hex(r.STS), strings.Join(flags, ", ")},
		{"ESTS", hex(r.ESTS), map[bool]string{true: "TXT reset the machine", false: ""}[r.ResetPending()]},
		{"E2STS", hex(r.E2STS), ""},
		{"ERRORCODE", hex(uint64(r.ErrorCode)), r.ErrorCode.String()},
		{"BOOTSTATUS", hex(r.BootStatus), ""},
		{"DIDVID", hex(r.DIDVID), fmt.Sprintf("chipset %04x:%04x revision %#x", vendor, device, revision)},
		{"VER.QPIIF", hex(r.interfaceVersion()), production},
		{"SINIT", hex(r.SinitBase), fmt.Sprintf("%d bytes", r.SinitSize)},
		{"HEAP", hex(r.HeapBase), fmt.Sprintf("%d bytes", r.HeapSize)},
		{"DPR", hex(uint64(r.DPR)), r.DPR.String()},
		{"ACM_ERROR", hex(r.ACMError), ""},
		{"ACM_POLICY", hex(r.ACMPolicy), "TPM: " + r.TPMKind()},
		{"PUBLIC.KEY", fmt.Sprintf("%x...", r.PublicKey[:8]), ""},
	}
}
