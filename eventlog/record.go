package eventlog

import "unicode/utf16"

// record reads little-endian fields. The first read past the end sets short;
// what is returned afterwards is zero.
type record struct {
	b     []byte
	off   int
	short bool
}

func (r *record) bytes(n uint32) []byte {
	if r.short || uint64(n) > uint64(len(r.b)-r.off) {
		r.short = true
		return nil
	}
	r.off += int(n)
	return r.b[r.off-int(n) : r.off : r.off]
}

func (r *record) u16() uint16 {
	if b := r.bytes(2); b != nil {
		return le.Uint16(b)
	}
	return 0
}

func (r *record) u32() uint32 {
	if b := r.bytes(4); b != nil {
		return le.Uint32(b)
	}
	return 0
}

func (r *record) u8() uint8 {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *record) u64() uint64 {
	if b := r.bytes(8); b != nil {
		return le.Uint64(b)
	}
	return 0
}

// uintn reads an EFI UINTN, whose width is the firmware's word.
func (r *record) uintn(wide bool) uint64 {
	if wide {
		return r.u64()
	}
	return uint64(r.u32())
}

func (r *record) guid() (g GUID) {
	copy(g[:], r.bytes(16))
	return g
}

// rest is all that was not read yet.
func (r *record) rest() []byte { return r.bytes(uint32(len(r.b) - r.off)) }

// left counts the bytes that were not read yet.
func (r *record) left() int { return len(r.b) - r.off }

// utf16 reads n characters of two bytes each.
func (r *record) utf16(n uint64) string {
	if n > uint64(r.left())/2 {
		r.short = true
		return ""
	}
	return fromUTF16(r.bytes(uint32(2 * n)))
}

// text16 reads characters of two bytes each up to a zero, which it consumes.
func (r *record) text16() string {
	for i := r.off; i+1 < len(r.b); i += 2 {
		if r.b[i] == 0 && r.b[i+1] == 0 {
			s := fromUTF16(r.bytes(uint32(i - r.off)))
			r.bytes(2)
			return s
		}
	}
	r.short = true
	return ""
}

func fromUTF16(b []byte) string {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = le.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u))
}

func appendUTF16(b []byte, s string) []byte {
	for _, u := range utf16.Encode([]rune(s)) {
		b = le.AppendUint16(b, u)
	}
	return b
}

func appendUintn(b []byte, n uint64, wide bool) []byte {
	if wide {
		return le.AppendUint64(b, n)
	}
	return le.AppendUint32(b, uint32(n))
}
