package eventlog

import (
	"unicode/utf16"

	"github.com/antievilmaid/aem/internal/wire"
)

// uintn reads an EFI UINTN, whose width is the firmware's word.
func uintn(r *wire.Reader, wide bool) uint64 {
	if wide {
		return r.U64()
	}
	return uint64(r.U32())
}

func appendUintn(b []byte, n uint64, wide bool) []byte {
	if wide {
		return le.AppendUint64(b, n)
	}
	return le.AppendUint32(b, uint32(n))
}

func readGUID(r *wire.Reader) (g GUID) {
	copy(g[:], r.Bytes(16))
	return g
}

// readUTF16 reads n characters of two bytes each.
func readUTF16(r *wire.Reader, n uint64) string {
	if n > uint64(r.Left())/2 {
		r.Bytes(^uint32(0)) // which is short
		return ""
	}
	return fromUTF16(r.Bytes(uint32(2 * n)))
}

// readText16 reads characters of two bytes each up to a zero, which it consumes.
func readText16(r *wire.Reader) string {
	var u []uint16
	for {
		c := r.U16()
		if c == 0 {
			return string(utf16.Decode(u))
		}
		u = append(u, c)
	}
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
