// Package wire reads little-endian structures from bytes that somebody else
// wrote. A read past the end gives zeros and is remembered, so that a structure is
// read field by field and checked once.
package wire

import "encoding/binary"

// Reader reads fields one after the other.
type Reader struct {
	b     []byte
	off   int
	short bool
}

// NewReader begins at the first byte. The bytes are not copied: what Bytes returns
// is part of them.
func NewReader(b []byte) Reader { return Reader{b: b} }

// Short reports whether a field lay, in part or whole, behind the end. It and all
// that were read after it are zero.
func (r *Reader) Short() bool { return r.short }

// Offset is where the next field begins.
func (r *Reader) Offset() int { return r.off }

// Left counts the bytes that were not read yet.
func (r *Reader) Left() int { return len(r.b) - r.off }

// Bytes reads n bytes; nil where fewer are left.
func (r *Reader) Bytes(n uint32) []byte {
	if r.short || uint64(n) > uint64(len(r.b)-r.off) {
		r.short = true
		return nil
	}
	r.off += int(n)
	return r.b[r.off-int(n) : r.off : r.off]
}

// Rest reads all that is left.
func (r *Reader) Rest() []byte {
	rest := r.b[r.off:len(r.b):len(r.b)]
	r.off = len(r.b)
	return rest
}

// U8 reads a byte.
func (r *Reader) U8() uint8 {
	if b := r.Bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// U16 reads two bytes.
func (r *Reader) U16() uint16 {
	if b := r.Bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

// U32 reads four bytes.
func (r *Reader) U32() uint32 {
	if b := r.Bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// U64 reads eight bytes.
func (r *Reader) U64() uint64 {
	if b := r.Bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}
