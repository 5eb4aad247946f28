package totp

import (
	"fmt"
	"time"

	"github.com/antievilmaid/aem/tpm"
)

// Params are what machine and phone have to agree on. Zero values stand for what
// every phone's app supports, and what some apps use whatever they are told: six
// digits, thirty seconds, SHA-1.
type Params struct {
	Digits int           // 6 to 8
	Period time.Duration // for which a code is valid: whole seconds, 15 to 120
	Alg    tpm.Alg       // SHA-1 or SHA-256
	// Issuer and Account are what the phone shows above the code.
	Issuer, Account string
}

const (
	defaultDigits = 6
	defaultPeriod = 30 * time.Second
	defaultAlg    = tpm.SHA1
)

// Complete fills the zero values in and refuses the others that are out of bounds.
// The names are not looked at.
func (p Params) Complete() (Params, error) {
	if p.Digits == 0 {
		p.Digits = defaultDigits
	}
	if p.Period == 0 {
		p.Period = defaultPeriod
	}
	if p.Alg == 0 {
		p.Alg = defaultAlg
	}
	switch {
	case p.Digits < 6 || p.Digits > 8:
		return p, fmt.Errorf("a one-time code has 6 to 8 digits, not %d", p.Digits)
	case p.Period < 15*time.Second || p.Period > 2*time.Minute || p.Period%time.Second != 0:
		return p, fmt.Errorf("a one-time code is valid for 15 to 120 whole seconds, not for %s", p.Period)
	case p.Alg != tpm.SHA1 && p.Alg != tpm.SHA256:
		return p, fmt.Errorf("one-time codes are computed with sha1 or sha256, not with %s", p.Alg)
	}
	return p, nil
}
