package seal

import (
	"encoding/binary"
	"fmt"
)

// writer appends big-endian integers and counted bytes.
type writer struct{ b []byte }

func (w *writer) u8(v uint8)   { w.b = append(w.b, v) }
func (w *writer) u16(v uint16) { w.b = binary.BigEndian.AppendUint16(w.b, v) }
func (w *writer) u32(v uint32) { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64) { w.b = binary.BigEndian.AppendUint64(w.b, v) }
func (w *writer) raw(v []byte) { w.b = append(w.b, v...) }

// counted16 and counted32 put the length before the bytes.
func (w *writer) counted16(v []byte) { w.u16(uint16(len(v))); w.raw(v) }
func (w *writer) counted32(v []byte) { w.u32(uint32(len(v))); w.raw(v) }

// reader is the inverse of writer. The first read past the end sets err; what
// is returned afterwards is zero. Counted bytes alias the input.
type reader struct {
	b   []byte
	off int
	err error
}

func (r *reader) raw(n int) []byte {
	if r.err == nil && (n < 0 || n > len(r.b)-r.off) {
		r.err = fmt.Errorf("%d bytes are wanted at offset %d and %d are there", n, r.off, len(r.b)-r.off)
	}
	if r.err != nil {
		return nil
	}
	r.off += n
	return r.b[r.off-n : r.off : r.off]
}

func (r *reader) u8() uint8 {
	if b := r.raw(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.raw(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.raw(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.raw(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) counted16() []byte { return r.raw(int(r.u16())) }
func (r *reader) counted32() []byte { return r.raw(int(r.u32())) }

// end reports the first error, or that bytes are left over.
func (r *reader) end() error {
	if r.err == nil && r.off != len(r.b) {
		r.err = fmt.Errorf("%d bytes follow the end", len(r.b)-r.off)
	}
	return r.err
}
