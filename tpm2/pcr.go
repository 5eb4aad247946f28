package tpm2

import (
	"fmt"
	"slices"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/antievilmaid/aem/tpm"
)

// selection marshals one bank's PCRs: three bytes of bitmap, the least
// significant bit of the first being PCR 0 (Part 2, clause 10.6.1).
func selection(a tpm.Alg, set tpm.PCRs) gotpm.TPMSPCRSelection {
	return gotpm.TPMSPCRSelection{
		Hash:      gotpm.TPMIAlgHash(a),
		PCRSelect: []byte{byte(set), byte(set >> 8), byte(set >> 16)},
	}
}

func selections(algs []tpm.Alg, set tpm.PCRs) gotpm.TPMLPCRSelection {
	var l gotpm.TPMLPCRSelection
	for _, a := range algs {
		l.PCRSelections = append(l.PCRSelections, selection(a, set))
	}
	return l
}

// members is the inverse of selection.
func members(s gotpm.TPMSPCRSelection) tpm.PCRs {
	var set tpm.PCRs
	for i, b := range s.PCRSelect {
		if i < tpm.NumPCRs/8 {
			set |= tpm.PCRs(b) << (8 * i)
		}
	}
	return set
}

// PCRBanks lists the banks that the TPM keeps, in its own order. Banks that are
// implemented and not allocated are left out.
func (t *TPM) PCRBanks() ([]tpm.Alg, error) {
	rsp, err := run(t, "TPM2_GetCapability", gotpm.GetCapability{
		Capability: gotpm.TPMCapPCRs, PropertyCount: 1,
	})
	if err != nil {
		return nil, err
	}
	assigned, err := rsp.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return nil, fmt.Errorf("read the TPM's list of PCR banks: %w", err)
	}
	var algs []tpm.Alg
	for _, s := range assigned.PCRSelections {
		if a := tpm.Alg(s.Hash); members(s) != 0 && !slices.Contains(algs, a) {
			algs = append(algs, a)
		}
	}
	if len(algs) == 0 {
		return nil, fmt.Errorf("the TPM keeps no PCR bank; the firmware's setup may offer one")
	}
	return algs, nil
}

// ReadPCRs reads the PCRs of a set in every bank that the TPM keeps.
//
// The values are not authenticated: they serve to choose and to explain. What
// opens a sealed object is the TPM's own comparison.
func (t *TPM) ReadPCRs(set tpm.PCRs) (tpm.Banks, error) {
	algs, err := t.PCRBanks()
	if err != nil {
		return nil, err
	}
	banks := make(tpm.Banks, len(algs))
	wanted := make([]tpm.PCRs, len(algs))
	for i, a := range algs {
		banks[i].Alg, wanted[i] = a, set
	}
	// One command returns eight digests at most; ask again for the rest.
	for {
		var ask gotpm.TPMLPCRSelection
		for i, a := range algs {
			if wanted[i] != 0 {
				ask.PCRSelections = append(ask.PCRSelections, selection(a, wanted[i]))
			}
		}
		if len(ask.PCRSelections) == 0 {
			return banks, nil
		}
		got, err := t.readSome(ask, banks)
		if err != nil {
			return nil, err
		}
		progress := false
		for i, a := range algs {
			progress = progress || got[a]&wanted[i] != 0
			wanted[i] &^= got[a]
		}
		if !progress {
			return nil, fmt.Errorf("the TPM has no value for PCRs %s", set)
		}
	}
}

// readSome sends one TPM2_PCR_Read, puts the values into banks and returns
// which PCRs of which bank were among them.
func (t *TPM) readSome(ask gotpm.TPMLPCRSelection, banks tpm.Banks) (map[tpm.Alg]tpm.PCRs, error) {
	rsp, err := run(t, "TPM2_PCR_Read", gotpm.PCRRead{PCRSelectionIn: ask})
	if err != nil {
		return nil, err
	}
	got := map[tpm.Alg]tpm.PCRs{}
	digests := rsp.PCRValues.Digests
	for _, s := range rsp.PCRSelectionOut.PCRSelections {
		b := banks.Bank(tpm.Alg(s.Hash))
		for p := range members(s).All() {
			if b == nil || len(digests) == 0 {
				return nil, fmt.Errorf("the TPM's answer about PCR %d does not fit the question", p)
			}
			if size := b.Alg.Size(); size != 0 && len(digests[0].Buffer) != size {
				return nil, fmt.Errorf("the TPM gave PCR %d of the %s bank %d bytes", p, b.Alg, len(digests[0].Buffer))
			}
			b.Values[p] = digests[0].Buffer
			got[b.Alg] |= tpm.PCRSet(p)
			digests = digests[1:]
		}
	}
	return got, nil
}

// Extend extends a PCR in the banks of the given digests. A bank that the TPM
// keeps and that is not among them stays as it was: pass a digest for each.
func (t *TPM) Extend(p tpm.PCR, digests []tpm.TaggedDigest) error {
	var l gotpm.TPMLDigestValues
	for _, d := range digests {
		l.Digests = append(l.Digests, gotpm.TPMTHA{HashAlg: gotpm.TPMIAlgHash(d.Alg), Digest: d.Digest})
	}
	_, err := run(t, "TPM2_PCR_Extend", gotpm.PCRExtend{
		PCRHandle: gotpm.AuthHandle{Handle: gotpm.TPMHandle(p), Auth: gotpm.PasswordAuth(nil)},
		Digests:   l,
	})
	if err != nil {
		return fmt.Errorf("extend PCR %d: %w", p, err)
	}
	return nil
}

// Event extends a PCR with the hash of data, which the TPM computes itself, in every
// bank that it keeps (TPM2_PCR_Event, Part 3, clause 22.3). data has at most 1024
// bytes. So it reaches all banks also where nobody could learn which there are.
func (t *TPM) Event(p tpm.PCR, data []byte) error {
	_, err := run(t, "TPM2_PCR_Event", gotpm.PCREvent{
		PCRHandle: gotpm.AuthHandle{Handle: gotpm.TPMHandle(p), Auth: gotpm.PasswordAuth(nil)},
		EventData: gotpm.TPM2BEvent{Buffer: data},
	})
	if err != nil {
		return fmt.Errorf("extend PCR %d with the hash of an event: %w", p, err)
	}
	return nil
}
