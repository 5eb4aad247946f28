package aem

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/internal/totp"
	"github.com/antievilmaid/aem/internal/wire"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

// chip20 is a TPM 2.0.
type chip20 struct{ *tpm2.TPM }

func (chip20) Version() tpm.Version { return tpm.V20 }

func (c chip20) Backend(anchor []byte) (seal.Backend, error) { return seal.OpenTPM2(c.TPM, anchor) }

// Provision defines a counter; what moves it is the owner's password itself.
func (c chip20) Provision(owner []byte) (seal.Backend, []byte, error) {
	b, err := seal.ProvisionTPM2(c.TPM, owner)
	if err != nil {
		return nil, nil, err
	}
	return b, append([]byte(nil), owner...), nil
}

// ProvisionMore needs the owner's password, which is the credential.
func (c chip20) ProvisionMore(credential []byte) (seal.Backend, []byte, error) {
	return c.Provision(credential)
}

func (c chip20) Provisioned() (bool, error) { return c.HasCounters() }

func (c chip20) SwitchedOff() (bool, error) {
	on, err := c.OwnerEnabled()
	return !on && err == nil, err
}

func (c chip20) Guesses() (Guesses, error) {
	l, err := c.Lockout()
	return Guesses{Left: l.Left(), Wait: l.Recovery, Lock: l.Left() == 0}, err
}

// codePolicy is the policy of keys for one-time codes: whoever knows a random value
// may use them. What guards the value, and so the key, is the record that it is sealed
// in; so a key made once serves every later sealing, whatever it is sealed to.
var codePolicy = &tpm2.Policy{PIN: true}

// HoldCodeKey makes a key object of it, under the storage key of the anchor. What it
// returns has the handle and the public area of that storage key, which another medium's
// record need not name, both halves of the object, and the value that its use demands.
func (c chip20) HoldCodeKey(anchor []byte, alg tpm.Alg, key []byte) ([]byte, error) {
	backend, err := seal.OpenTPM2(c.TPM, anchor)
	if err != nil {
		return nil, err
	}
	parent := backend.StorageKey()
	auth := make([]byte, tpm2.LongPIN)
	defer clear(auth)
	rand.Read(auth) // never returns an error
	for i := range auth {
		auth[i] |= 1 // a TPM takes zeros off the end, and go-tpm cuts at the first
	}
	object, err := c.MakeHMACKey(parent, codePolicy, auth, alg, key)
	if errors.Is(err, tpm2.ErrNoHMAC) {
		return nil, fmt.Errorf("%w with %s: %w", err, alg, ErrNotPossible)
	}
	if err != nil {
		return nil, err
	}
	size := 4
	for _, part := range [][]byte{parent.Public(), object.Public, object.Private, auth} {
		size += 2 + len(part)
	}
	held := binary.LittleEndian.AppendUint32(make([]byte, 0, size), parent.Handle) // never grows
	for _, part := range [][]byte{parent.Public(), object.Public, object.Private, auth} {
		held = appendCounted(held, part)
	}
	return held, nil
}

func (c chip20) CodeMAC(held []byte, _ tpm.Alg) (totp.MAC, error) {
	r := wire.NewReader(held)
	handle, public := r.U32(), counted(&r)
	object := &tpm2.Object{Public: counted(&r), Private: counted(&r)}
	auth := counted(&r)
	if r.Short() || r.Left() != 0 {
		return nil, fmt.Errorf("%w: its key for one-time codes can't be read", seal.ErrDamaged)
	}
	parent, err := tpm2.PinnedKey(handle, public)
	if err != nil {
		return nil, fmt.Errorf("%w: its key for one-time codes: %w", seal.ErrDamaged, err)
	}
	return func(counter []byte) ([]byte, error) {
		return c.HMAC(parent, object, codePolicy, 0, auth, counter)
	}, nil
}

func (c chip20) Clock() (tpm2.Clock, bool, error) {
	clock, err := c.ReadClock()
	return clock, err == nil, err
}

func (c chip20) Describe() (string, error) {
	maker, err := c.Manufacturer()
	return fmt.Sprintf("%s by %s", tpm.V20, maker), err
}
