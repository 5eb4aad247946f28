package totp

import (
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/antievilmaid/aem/tpm"
)

var base32Encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// Base32 is a key as it is typed into a phone that has no camera. It is as secret
// as the key; the caller wipes it.
func Base32(key []byte) []byte {
	return base32Encoding.AppendEncode(make([]byte, 0, base32Encoding.EncodedLen(len(key))), key)
}

// URI is an otpauth address, which carries the key to a phone (Google
// Authenticator's Key Uri Format). What equals an app's default is left out, for a
// smaller QR code. The result is as secret as the key; the caller wipes it.
func URI(key []byte, p Params) ([]byte, error) {
	p, err := p.Complete()
	if err != nil {
		return nil, err
	}
	if len(key) < 16 {
		return nil, fmt.Errorf("the key of one-time codes has 16 bytes at least (RFC 4226, section 4), not %d", len(key))
	}
	if err := errors.Join(checkLabel("issuer", p.Issuer), checkLabel("account", p.Account)); err != nil {
		return nil, err
	}
	// Everything is put into one allocation, so that wiping the result wipes all of it.
	front := "otpauth://totp/" + escape(p.Issuer) + ":" + escape(p.Account) + "?secret="
	back := "&issuer=" + escape(p.Issuer)
	if p.Alg == tpm.SHA256 {
		back += "&algorithm=SHA256"
	}
	if p.Digits != defaultDigits {
		back += "&digits=" + strconv.Itoa(p.Digits)
	}
	if p.Period != defaultPeriod {
		back += "&period=" + strconv.Itoa(int(p.Period/time.Second))
	}
	encoded := Base32(key)
	defer clear(encoded)
	return slices.Concat([]byte(front), encoded, []byte(back)), nil
}

// checkLabel refuses names that a phone would show otherwise than they are.
func checkLabel(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("the %s that the phone shows is empty", what)
	case !utf8.ValidString(s):
		return fmt.Errorf("the %s that the phone shows is not UTF-8", what)
	case strings.ContainsFunc(s, func(r rune) bool { return r == ':' || !unicode.IsPrint(r) }):
		return fmt.Errorf("the %s that the phone shows contains a colon or an invisible character", what)
	}
	return nil
}

// escape percent-encodes all but the unreserved characters (RFC 3986, section
// 2.3). A space becomes %20: phones show a plus sign as a plus sign.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
