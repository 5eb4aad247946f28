package aem

import (
	"errors"
	"fmt"
	"time"

	"github.com/antievilmaid/aem/internal/totp"
)

// Codes are the one-time codes that a machine proves itself with, made one by one
// while its owner looks. It is not for use by several goroutines.
type Codes struct {
	// Issuer and Account are what the phone calls them.
	Issuer, Account string
	// Doubt says why the machine's clock is not believed; nil where nothing speaks
	// against it. It wraps [totp.ErrBehind], [totp.ErrAhead] or [totp.ErrHistory], or
	// says that the TPM's clock could not be asked.
	Doubt error

	params      totp.Params
	secret      []byte // all that is to be wiped; mac uses it in place
	mac         totp.MAC
	from, until time.Time // when At computes no new code
	code        string
	err         error
}

// codes makes the codes of a secret that was opened, which it takes over: also where
// it returns an error the secret is wiped.
func (m *Machine) codes(secret []byte) (*Codes, error) {
	s, err := parseCodeSecret(secret)
	var mac totp.MAC
	if err == nil {
		mac, err = m.Chip.CodeMAC(s.held, s.params.Alg)
	}
	if err != nil {
		clear(secret)
		return nil, err
	}
	c := &Codes{Issuer: s.params.Issuer, Account: s.params.Account, params: s.params, secret: secret, mac: mac}
	// A machine that can't make the first one does not prove itself.
	if _, _, err := c.At(m.Now()); err != nil {
		c.Wipe()
		return nil, err
	}
	_, c.Doubt = m.sight(s.sighting)
	return c, nil
}

// retry is how long a code that could not be made is not asked for again: a screen
// is drawn often, and each code is five commands to a TPM.
const retry = 10 * time.Second

// At is the code at a time, and how long it stays. The TPM is asked once for each
// period. Where the code can't be made, left is the time to the next attempt.
func (c *Codes) At(now time.Time) (code string, left time.Duration, err error) {
	now = now.Round(0) // a clock that was set must show
	if now.Before(c.from) || !now.Before(c.until) {
		c.code, left, c.err = c.compute(now)
		c.from, c.until = now, now.Add(left)
	}
	return c.code, c.until.Sub(now), c.err
}

func (c *Codes) compute(now time.Time) (string, time.Duration, error) {
	if c.mac == nil {
		return "", retry, errors.New("the key of the one-time codes was wiped")
	}
	code, left, err := totp.Code(c.mac, now, c.params)
	if err != nil {
		return "", retry, err
	}
	return code, left, nil
}

// Wipe forgets the key, or what its use demands of the TPM.
func (c *Codes) Wipe() {
	clear(c.secret)
	c.mac, c.code = nil, ""
	c.from, c.until = time.Time{}, time.Time{}
}

// sight reads both clocks. doubt is why they are not believed, after an earlier
// sighting.
func (m *Machine) sight(before totp.Sighting) (now totp.Sighting, doubt error) {
	clock, has, err := m.Chip.Clock()
	now = totp.Sighting{Wall: m.Now().Truncate(time.Second), TPM: clock}
	switch {
	case err != nil:
		return now, fmt.Errorf("the TPM's clock can't be read: %w", err)
	case !has:
		return now, totp.NotBefore(now.Wall, before.Wall)
	}
	return now, totp.Plausible(now, before)
}

// sightAnew replaces the sighting in a secret by one of this moment, so that a clock
// that is set back later is noticed from here on. One that is in doubt already
// replaces nothing: the first sighting was confirmed by a phone.
func (m *Machine) sightAnew(secret []byte) ([]byte, error) {
	s, err := parseCodeSecret(secret)
	if err != nil {
		return nil, err
	}
	if now, doubt := m.sight(s.sighting); doubt == nil {
		s.sighting = now
	}
	return s.bytes()
}
