package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// probeLen is what tells a header's kind: magic and version.
const probeLen = 8

type magic uint8

const (
	magicNone magic = iota
	magicPrimary
	magicSecondary
	// magicReencrypt is what cryptsetup-reencrypt, the tool that was before cryptsetup 2.4,
	// writes into a LUKS1 header so that nobody opens the volume meanwhile.
	magicReencrypt
)

// identify reads magic and version (LUKS1, figure 1; LUKS2, section 2.1).
func identify(b []byte) (magic, uint16) {
	if len(b) < probeLen {
		return magicNone, 0
	}
	version := binary.BigEndian.Uint16(b[6:])
	switch string(b[:6]) {
	case "LUKS\xba\xbe":
		return magicPrimary, version
	case "SKUL\xba\xbe":
		return magicSecondary, version
	case "LUKS\xde\xad":
		return magicReencrypt, version
	}
	return magicNone, 0
}

// device is the volume, or the file, that a header lies in.
type device struct {
	r    io.ReaderAt
	size int64
}

// has reports whether the device has that many bytes.
func (d device) has(end uint64) bool { return d.size >= 0 && end <= uint64(d.size) }

// read returns up to n bytes, fewer only at the end of the device. A device that can't be
// read is an error and never "no header there": an evil maid can make a sector unreadable.
func (d device) read(off uint64, n int) ([]byte, error) {
	if !d.has(off) {
		return nil, nil
	}
	b := make([]byte, min(uint64(n), uint64(d.size)-off))
	got, err := d.r.ReadAt(b, int64(off))
	if got < len(b) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("the header can't be read at byte %d: %w", off, err)
	}
	return b, nil
}

// sum hashes a key slot's stripes.
func (d device) sum(off, n uint64) ([sha256.Size]byte, error) {
	h := sha256.New()
	copied, err := io.Copy(h, io.NewSectionReader(d.r, int64(off), int64(n)))
	if err == nil && uint64(copied) < n {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("the key material at byte %d can't be read: %w", off, err)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// text is a field that a zero byte ends. What comes after it, and the field's last byte,
// cryptsetup never looks at.
func text(field []byte) string {
	field = field[:len(field)-1]
	if i := bytes.IndexByte(field, 0); i >= 0 {
		field = field[:i]
	}
	return string(field)
}
