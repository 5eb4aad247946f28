package tpm12

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// PublicKey is a TPM_PUBKEY as the TPM gives it (Part 2, clause 10.5).
type PublicKey []byte

// Digest is the SHA-256 of the key's bytes: the identity by which a TPM is told
// from another.
func (k PublicKey) Digest() [32]byte { return sha256.Sum256(k) }

// Algorithms and schemes of keys (Part 2, clauses 4.8 and 5.8).
const (
	algRSA       = 0x00000001
	schemeOAEP   = 0x0003 // TPM_ES_RSAESOAEP_SHA1_MGF1
	schemeNoSign = 0x0001
)

// rsa reads the key. The TPM's own keys are RSA of 2048 bits.
func (k PublicKey) rsa() (*rsa.PublicKey, error) {
	r := reader{b: k}
	alg := r.u32()
	r.take(4) // the schemes
	params := reader{b: r.sized()}
	bits, primes := params.u32(), params.u32()
	exponent := new(big.Int).SetBytes(params.sized())
	modulus := new(big.Int).SetBytes(r.sized())
	if err := errors.Join(params.done("RSA parameters"), r.done("a public key")); err != nil {
		return nil, err
	}
	e := 65537 // what an empty exponent stands for
	if exponent.Sign() != 0 {
		if exponent.BitLen() > 31 {
			return nil, fmt.Errorf("the TPM's endorsement key has an exponent of %d bits: %w", exponent.BitLen(), ErrResponse)
		}
		e = int(exponent.Int64())
	}
	if alg != algRSA || bits != 2048 || primes != 2 || modulus.BitLen() != 2048 {
		return nil, fmt.Errorf("the TPM's endorsement key is not RSA of 2048 bits: %w", ErrResponse)
	}
	return &rsa.PublicKey{N: modulus, E: e}, nil
}

// ReadEK reads the endorsement key of a TPM that has no owner (Part 3, clause
// 14.4); a TPM that has one refuses with [ErrDisabledCommand]. The answer is
// fresh, as its checksum shows, but anybody can compute that checksum: that the
// key is a TPM's is for its certificate to say.
func (t *TPM) ReadEK() (PublicKey, error) {
	fresh := nonce()
	rsp, err := t.send(ordReadPubek, 0, fresh[:])
	if err != nil {
		return nil, fmt.Errorf("read the endorsement key: %w", err)
	}
	n := len(rsp) - sha1.Size
	if n <= 0 {
		return nil, fmt.Errorf("read the endorsement key: the answer has %d bytes: %w", len(rsp), ErrResponse)
	}
	want := sha1.Sum(slices.Concat(rsp[:n], fresh[:]))
	if subtle.ConstantTimeCompare(want[:], rsp[n:]) != 1 {
		return nil, fmt.Errorf("read the endorsement key: the answer's checksum is wrong: %w", ErrResponse)
	}
	return endorsementKey(rsp[:n])
}

// OwnerReadEK reads the endorsement key of a TPM with an owner (Part 3, clause
// 14.5). The answer is authenticated by the owner's authorisation value.
func (t *TPM) OwnerReadEK(owner Auth) (PublicKey, error) {
	rsp, err := t.authorise(ordOwnerReadPub, owner, u32(handleEK))
	if err != nil {
		return nil, fmt.Errorf("read the endorsement key: %w", err)
	}
	return endorsementKey(rsp)
}

func endorsementKey(b []byte) (PublicKey, error) {
	k := PublicKey(bytes.Clone(b))
	if _, err := k.rsa(); err != nil {
		return nil, fmt.Errorf("read the endorsement key: %w", err)
	}
	return k, nil
}

// TakeOwnership gives the TPM an owner and makes a storage root key, RSA of 2048
// bits (Part 3, clause 6.1). Both authorisation values go to the TPM encrypted
// with its endorsement key; who stands between and shows a key of his own learns
// them, so this belongs on a machine that is still trusted.
//
// Errors to decide on: [ErrOwnerSet], [ErrNoEndorsement], [ErrDisabled], [ErrDeactivated].
func (t *TPM) TakeOwnership(owner, srk Auth) error {
	ek, err := t.ReadEK()
	if err != nil {
		// A TPM with an owner does not show its key to others, and says so with
		// a code that helps nobody who came to take ownership.
		if owned, asked := t.Owned(); asked == nil && owned {
			err = ErrOwnerSet
		}
		return fmt.Errorf("take ownership of the TPM: %w", err)
	}
	public, err := ek.rsa()
	if err != nil {
		return fmt.Errorf("take ownership of the TPM: %w", err)
	}
	var sealed [2][]byte
	for i, a := range []Auth{owner, srk} {
		// The label is the specification's (Part 1, clause 31.1.1), without a zero byte at its end.
		if sealed[i], err = rsa.EncryptOAEP(sha1.New(), rand.Reader, public, a[:], []byte("TCPA")); err != nil {
			return fmt.Errorf("encrypt for the TPM's endorsement key: %w", err)
		}
	}
	// The protocol is TPM_PID_OWNER.
	rsp, err := t.authorise(ordTakeOwnership, owner, u16(0x0005), sized(sealed[0]), sized(sealed[1]), srkTemplate())
	if err != nil {
		return fmt.Errorf("take ownership of the TPM: %w", err)
	}
	if len(rsp) == 0 {
		return fmt.Errorf("take ownership of the TPM: the answer holds no storage root key: %w", ErrResponse)
	}
	return nil
}

// srkTemplate is the storage root key's TPM_KEY before the TPM made it (Part 2, clause 10.2).
func srkTemplate() []byte {
	params := slices.Concat(u32(2048), u32(2), u32(0)) // bits, primes, the usual exponent
	return slices.Concat(
		[]byte{1, 1, 0, 0},     // version
		u16(0x0011),            // TPM_KEY_STORAGE
		u32(0),                 // not migratable, not volatile
		[]byte{1},              // TPM_AUTH_ALWAYS
		u32(algRSA),            //
		u16(schemeOAEP),        //
		u16(schemeNoSign),      //
		sized(params),          //
		u32(0), u32(0), u32(0), // no PCRs, no public key and no private one yet
	)
}

// OwnerClear removes the owner and with it the storage root key, all that was
// ever sealed under it, the counters and the areas that the owner defined (Part
// 3, clause 6.2). Afterwards the firmware has to enable the TPM again.
func (t *TPM) OwnerClear(owner Auth) error {
	if _, err := t.authorise(ordOwnerClear, owner); err != nil {
		return fmt.Errorf("clear the TPM: %w", err)
	}
	return nil
}
