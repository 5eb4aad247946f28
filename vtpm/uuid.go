package vtpm

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// UUID names a vTPM for life. It is no secret and proves nothing.
type UUID [16]byte

// NewUUID returns a random one (RFC 9562, version 4).
func NewUUID() UUID {
	var u UUID
	rand.Read(u[:])
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

// ParseUUID reads the text form, 8-4-4-4-12 digits, in either case.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, fmt.Errorf("%.40q is not a UUID such as 11111111-2222-3333-4444-555555555555", s)
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(u[:], []byte(digits)); err != nil {
		return UUID{}, fmt.Errorf("%q is not a UUID: %w", s, err)
	}
	return u, nil
}

// String is the text form in lower case, as libxl and libvirt write it.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
