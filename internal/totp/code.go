package totp

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/antievilmaid/aem/tpm"
)

// MAC computes the HMAC of a counter of eight bytes with the key, wherever that is.
type MAC func(counter []byte) ([]byte, error)

// InMemory is the MAC of a key that this program holds: at setup, and on a TPM
// 1.2, which has no HMAC keys of its own. The key is used in place, so it has to
// stay until the last code was made; the caller wipes it then.
func InMemory(key []byte, alg tpm.Alg) MAC {
	return func(counter []byte) ([]byte, error) {
		if !alg.Available() {
			return nil, fmt.Errorf("an HMAC with %s can't be computed here", alg)
		}
		h := hmac.New(alg.New, key)
		h.Write(counter)
		return h.Sum(nil), nil
	}
}

// NewKey returns a random key as long as the hash (RFC 4226, section 4, R6). The
// caller wipes it.
func NewKey(alg tpm.Alg) []byte {
	key := make([]byte, alg.Size())
	rand.Read(key) // never returns an error
	return key
}

// Code returns the one-time code at a time, and how long it stays valid. It asks
// mac once.
func Code(mac MAC, at time.Time, p Params) (code string, left time.Duration, err error) {
	p, err = p.Complete()
	if err != nil {
		return "", 0, err
	}
	step, left, err := p.step(at)
	if err != nil {
		return "", 0, err
	}
	code, err = p.code(mac, step)
	return code, left, err
}

// step is the number of the period that a time falls in (RFC 6238, section 4.2),
// and what is left of it.
func (p Params) step(at time.Time) (step int64, left time.Duration, err error) {
	period := int64(p.Period / time.Second)
	seconds := at.Unix()
	if seconds < 0 {
		return 0, 0, fmt.Errorf("the clock says %s; there are no one-time codes before 1970", at.UTC().Format(time.DateOnly))
	}
	step = seconds / period
	passed := time.Duration(seconds%period)*time.Second + time.Duration(at.Nanosecond())
	return step, p.Period - passed, nil
}

// code is the one-time password of a counter (RFC 4226, section 5.3).
func (p Params) code(mac MAC, step int64) (string, error) {
	sum, err := mac(binary.BigEndian.AppendUint64(nil, uint64(step)))
	if err != nil {
		return "", fmt.Errorf("compute the one-time code: %w", err)
	}
	defer clear(sum)
	if len(sum) != p.Alg.Size() {
		return "", fmt.Errorf("the HMAC of the one-time code has %d bytes; one of %s has %d", len(sum), p.Alg, p.Alg.Size())
	}
	offset := sum[len(sum)-1] & 0xf
	number := binary.BigEndian.Uint32(sum[offset:]) & 0x7fffffff
	modulus := uint32(1)
	for range p.Digits {
		modulus *= 10
	}
	return fmt.Sprintf("%0*d", p.Digits, number%modulus), nil
}

// ErrWrongCode says that a code is none of the codes around its time.
var ErrWrongCode = errors.New("the code is not the machine's: the phone has another key, or its clock or the machine's is wrong")

// MaxSkew bounds the periods by which clocks may differ. Each costs one HMAC and
// makes a guess twice more likely.
const MaxSkew = 10

// Verify finds out whether a code that the owner read from the phone is the
// machine's, so that nobody relies on a phone that has no key, or on clocks that
// disagree. skew is how many periods the phone may be before or behind; steps is
// by how many it is, positive where it is before. Spaces in the code are ignored,
// since phones show them.
//
// It asks mac once where the clocks agree and 1+2*skew times at most. The error is
// [ErrWrongCode] where no code around the time is the given one.
func Verify(mac MAC, code string, at time.Time, skew int, p Params) (steps int, err error) {
	p, err = p.Complete()
	if err != nil {
		return 0, err
	}
	if skew < 0 || skew > MaxSkew {
		return 0, fmt.Errorf("a code can be compared with 0 to %d periods before and after it, not with %d", MaxSkew, skew)
	}
	now, _, err := p.step(at)
	if err != nil {
		return 0, err
	}
	typed := make([]byte, 0, len(code))
	for _, c := range []byte(code) {
		if c != ' ' {
			typed = append(typed, c)
		}
	}
	for i := range 1 + 2*skew {
		// 0, +1, -1, +2, -2 ...
		steps = (i + 1) / 2
		if i%2 == 0 {
			steps = -steps
		}
		want, err := p.code(mac, now+int64(steps))
		if err != nil {
			return 0, err
		}
		if subtle.ConstantTimeCompare(typed, []byte(want)) == 1 {
			return steps, nil
		}
	}
	return 0, ErrWrongCode
}
