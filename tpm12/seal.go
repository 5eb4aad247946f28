package tpm12

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/antievilmaid/aem/tpm"
)

// Release says in which state of the machine a blob opens.
type Release struct {
	PCRs       tpm.PCRs
	Digest     tpm.Digest // what [Composite] says of the PCRs' values
	Localities uint8      // bit n is locality n; 0 stands for any
}

// anyLocality are the five localities that exist (TPM_LOCALITY_SELECTION).
const anyLocality = 0x1f

// MaxSecret is the most that a TPM 1.2 seals under its storage root key, in
// bytes: an RSA-2048 block without the padding (42) and what the TPM adds (65;
// TPM_SEALED_DATA, Part 2, clause 9.3).
const MaxSecret = 256 - 42 - 65

const tagPCRInfoLong = 0x0006 // TPM_TAG_PCR_INFO_LONG

// pcrInfo is the release as a TPM_PCR_INFO_LONG (Part 2, clause 8.4). The state
// in which the blob was made is of no interest, so no PCR is recorded for it.
func (r *Release) pcrInfo() ([]byte, error) {
	switch {
	case r.PCRs.Len() == 0:
		return nil, errNoPCRs
	case len(r.Digest) != digestSize:
		return nil, fmt.Errorf("the composite to seal to has %d bytes, not %d", len(r.Digest), digestSize)
	case r.Localities > anyLocality:
		return nil, fmt.Errorf("%#x names localities that don't exist", r.Localities)
	}
	localities := r.Localities
	if localities == 0 {
		localities = anyLocality
	}
	return slices.Concat(u16(tagPCRInfoLong), []byte{anyLocality, localities},
		selection(0), selection(r.PCRs), make([]byte, digestSize), r.Digest), nil
}

// Seal makes a blob that only this TPM opens, only in the state that release
// names, only with the authorisation value data (Part 3, clause 10.1). With a nil
// release the state does not matter. The secret has 1 to [MaxSecret] bytes and
// stays the caller's.
//
// The blob is a TPM_STORED_DATA or TPM_STORED_DATA12. Errors to decide on:
// [ErrAuthFail] where the storage root key has another value, [ErrNoSRK].
func (t *TPM) Seal(srk, data Auth, release *Release, secret []byte) ([]byte, error) {
	if len(secret) == 0 || len(secret) > MaxSecret {
		return nil, fmt.Errorf("a TPM 1.2 seals 1 to %d bytes, not %d", MaxSecret, len(secret))
	}
	var info []byte
	if release != nil {
		var err error
		if info, err = release.pcrInfo(); err != nil {
			return nil, err
		}
	}
	s, err := t.osap(entitySRK, handleSRK, srk)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	blob, err := t.run(ordSeal, u32(handleSRK),
		slices.Concat(s.encrypt(data), sized(info), u32(uint32(len(secret))), secret), s)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if err := checkBlob(blob); err != nil {
		return nil, fmt.Errorf("seal: the TPM's answer is no blob: %w", err)
	}
	return bytes.Clone(blob), nil
}

// checkBlob checks a blob's outer shape (Part 2, clauses 9.1 and 9.2). A blob
// comes from a medium that others had in their hands; one of another length
// would shift the proofs that follow it in the command, and a blob that can't be
// one should not cost a try.
func checkBlob(blob []byte) error {
	r := reader{b: blob}
	head := r.take(4)
	r.sized() // the release; empty where there is none
	encrypted := r.sized()
	old, new := []byte{1, 1, 0, 0}, []byte{0, 0x16, 0, 0}
	if r.done("a blob") != nil || len(encrypted) == 0 || !bytes.Equal(head, old) && !bytes.Equal(head, new) {
		return ErrNotSealedBlob
	}
	return nil
}

// Fits reports whether a blob names this release; a nil release stands for a blob that
// opens in any state. The name stands outside of what the TPM encrypted, so that it
// says nothing about the TPM's own view; but where it differs, somebody changed the
// blob or the release. A blob of a form that is not known fits: the TPM is to judge it.
func (r *Release) Fits(blob []byte) bool {
	outer := reader{b: blob}
	outer.take(4)
	info := reader{b: outer.sized()}
	if r == nil {
		return len(info.b) == 0
	}
	if len(info.b) == 0 {
		return false
	}
	tag, _, localities := info.u16(), info.u8(), info.u8()
	info.selection() // of what was recorded at the making
	pcrs := info.selection()
	info.take(digestSize)
	digest := info.take(digestSize)
	if info.done("a release") != nil || tag != tagPCRInfoLong {
		return true
	}
	want := r.Localities
	if want == 0 {
		want = anyLocality
	}
	return pcrs == r.PCRs && localities == want && r.Digest.Equal(digest)
}

// Unseal opens a blob (Part 3, clause 10.2). The caller wipes the secret.
//
// Errors to decide on: [ErrWrongPCR], [ErrBadLocality], [ErrAuth2Fail] where
// data is wrong, [ErrAuthFail] where srk is, [ErrDefendLock],
// [ErrNotSealedBlob] and [ErrDecrypt] where the blob is damaged or another TPM's.
// Each wrong authorisation value counts as a try.
func (t *TPM) Unseal(srk, data Auth, blob []byte) ([]byte, error) {
	if err := checkBlob(blob); err != nil {
		return nil, fmt.Errorf("open the sealed blob: %w", err)
	}
	parent, err := t.oiap(srk)
	if err != nil {
		return nil, fmt.Errorf("open the sealed blob: %w", err)
	}
	own, err := t.oiap(data)
	if err != nil {
		t.end(err, parent)
		return nil, fmt.Errorf("open the sealed blob: %w", err)
	}
	rsp, err := t.run(ordUnseal, u32(handleSRK), bytes.Clone(blob), parent, own)
	if err != nil {
		return nil, fmt.Errorf("open the sealed blob: %w", err)
	}
	defer clear(rsp)
	r := reader{b: rsp}
	secret := bytes.Clone(r.sized())
	if err := r.done("a secret"); err != nil {
		clear(secret)
		return nil, fmt.Errorf("open the sealed blob: %w", err)
	}
	return secret, nil
}
