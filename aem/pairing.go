package aem

import (
	"errors"
	"time"

	"github.com/antievilmaid/aem/internal/totp"
	"github.com/antievilmaid/aem/seal"
)

// Pairing is a new key of one-time codes on its way to a phone. Until it is kept
// nothing on the machine has changed.
type Pairing struct {
	QR  *totp.QR // for the phone's camera
	Key []byte   // the same key in Base32, for a phone without one

	m       *Machine
	home    Home
	backend seal.Backend
	secret  codeSecret
	mac     totp.MAC
	tested  bool
}

// pairingSkew is by how many periods the phone's clock may differ. One is what a slow
// hand takes; more would let an owner rely on clocks that will soon disagree.
const pairingSkew = 1

// Pair makes a key of one-time codes for the machine and a phone. The caller wipes it,
// in any case.
func (m *Machine) Pair(h Home, p totp.Params) (_ *Pairing, err error) {
	x := &Pairing{m: m, home: h}
	defer func() {
		if err != nil {
			x.Wipe()
		}
	}()
	s, err := h.Setup()
	if err != nil {
		return nil, err
	}
	if x.backend, err = m.backend(s, s.anchor()); err != nil {
		return nil, err
	}
	if x.secret.params, err = p.Complete(); err != nil {
		return nil, err
	}
	key := totp.NewKey(x.secret.params.Alg)
	defer clear(key)
	uri, err := totp.URI(key, x.secret.params)
	if err != nil {
		return nil, err
	}
	defer clear(uri)
	if x.QR, err = totp.NewQR(uri); err != nil {
		return nil, err
	}
	x.Key = totp.Base32(key)
	if x.secret.held, err = m.Chip.HoldCodeKey(s.anchor(), x.secret.params.Alg, key); err != nil {
		return nil, err
	}
	x.mac, err = m.Chip.CodeMAC(x.secret.held, x.secret.params.Alg)
	return x, err
}

// Test compares a code from the phone with the one that this machine makes as it will
// at a boot. It returns [totp.ErrWrongCode] where they differ. steps is by how many
// periods the phone's clock is ahead.
func (x *Pairing) Test(code string) (steps int, err error) {
	if x.mac == nil {
		return 0, errors.New("the key of the one-time codes was wiped")
	}
	steps, err = totp.Verify(x.mac, code, x.m.Now(), pairingSkew, x.secret.params)
	x.tested = x.tested || err == nil
	return steps, err
}

// Keep keeps the key to be sealed, in place of the secret that was kept before. It
// refuses one with which no code agreed.
func (x *Pairing) Keep() error {
	if !x.tested {
		return errors.New("no code from the phone agreed with this key yet; it is not kept")
	}
	clock, _, err := x.m.Chip.Clock()
	if err != nil {
		return err
	}
	x.secret.sighting = totp.Sighting{Wall: x.m.Now().Truncate(time.Second), TPM: clock}
	b, err := x.secret.bytes()
	if err != nil {
		return err
	}
	defer clear(b)
	return x.home.keep(secretFile, seal.KindTOTP, x.backend, b)
}

// Wipe forgets the key.
func (x *Pairing) Wipe() {
	if x.QR != nil {
		x.QR.Wipe()
	}
	clear(x.Key)
	clear(x.secret.held)
	x.mac = nil
}
