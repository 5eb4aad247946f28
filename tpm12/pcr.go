package tpm12

import (
	"errors"
	"fmt"
	"slices"

	"github.com/antievilmaid/aem/tpm"
)

// digestSize is the size of all digests, nonces and authorisation values.
const digestSize = 20

// ReadPCRs reads the PCRs of a set, one command for each. The result has one
// bank, SHA-1. The values are not authenticated.
func (t *TPM) ReadPCRs(set tpm.PCRs) (tpm.Banks, error) {
	bank := tpm.Bank{Alg: tpm.SHA1}
	for p := range set.All() {
		rsp, err := t.send(ordPCRRead, 0, u32(uint32(p)))
		if err != nil {
			return nil, fmt.Errorf("read PCR %d: %w", p, err)
		}
		r := reader{b: rsp}
		value := r.take(digestSize)
		if err := r.done("a PCR"); err != nil {
			return nil, fmt.Errorf("read PCR %d: %w", p, err)
		}
		bank.Values[p] = value
	}
	return tpm.Banks{bank}, nil
}

// Extend extends a PCR with the SHA-1 digest among those given; a TPM 1.2 has
// no use for the others. A locality that may not extend the PCR gives
// [ErrBadLocality].
func (t *TPM) Extend(p tpm.PCR, digests []tpm.TaggedDigest) error {
	d := tpm.Find(digests, tpm.SHA1)
	if len(d) != digestSize {
		return fmt.Errorf("extend PCR %d: there is no SHA-1 digest, and a TPM 1.2 knows no other", p)
	}
	rsp, err := t.send(ordExtend, 0, u32(uint32(p)), d)
	if err != nil {
		return fmt.Errorf("extend PCR %d: %w", p, err)
	}
	r := reader{b: rsp}
	r.take(digestSize)
	if err := r.done("the PCR's new value"); err != nil {
		return fmt.Errorf("extend PCR %d: %w", p, err)
	}
	return nil
}

// selection is a TPM_PCR_SELECTION: the bitmap's length, then the bitmap, the
// least significant bit of its first byte being PCR 0 (Part 2, clause 8.1).
func selection(set tpm.PCRs) []byte {
	return []byte{0, 3, byte(set), byte(set >> 8), byte(set >> 16)}
}

// selection reads what the function of the same name wrote, or a TPM.
func (r *reader) selection() (set tpm.PCRs) {
	for i, b := range r.take(uint32(r.u16())) {
		if i < 4 {
			set |= tpm.PCRs(b) << (8 * i)
		}
	}
	return set
}

// Composite computes the TPM_COMPOSITE_HASH of PCR values that are given, not
// read: what [Release] demands is known before the machine was ever in that
// state. The values enter in ascending order of the PCRs, as in the TPM (Part 2,
// clauses 5.4.1 and 8.2).
func Composite(set tpm.PCRs, bank *tpm.Bank) (tpm.Digest, error) {
	if bank == nil || bank.Alg != tpm.SHA1 {
		return nil, errors.New("the values to seal to are not those of the SHA-1 bank")
	}
	var values []byte
	for p := range set.All() {
		if len(bank.Values[p]) != digestSize {
			return nil, fmt.Errorf("the value of PCR %d is not known", p)
		}
		values = append(values, bank.Values[p]...)
	}
	if len(values) == 0 {
		return nil, errNoPCRs
	}
	return tpm.SHA1.Sum(slices.Concat(selection(set), sized(values))), nil
}

// errNoPCRs: a TPM takes an empty selection and then compares nothing.
var errNoPCRs = errors.New("a release without PCRs would demand nothing")
