package unpack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// stream is what a decompressor made of its input.
type stream struct {
	kind  string
	out   []byte // also what came before an error
	used  int    // bytes of the input
	doubt string // why a kernel may see it in another way
	err   error
}

// method is one of the compressions.
type method struct {
	kind   string
	magic  string // what the kernel's lib/decompress.c goes by: two bytes
	unpack func(b []byte, limit int) stream
}

func methods() []method {
	return []method{
		{"gzip", "\x1f\x8b", gunzip},
		{"bzip2", "BZ", bunzip2},
		{"lzma", "\x5d\x00", unlzma},
		{"xz", "\xfd7", unxz},
		{"lzo", "\x89L", unlzo},
		{"lz4", "\x02\x21", unlz4},
		{"zstd", "\x28\xb5", unzstd},
		{"lz4 frame", "\x04\x22", unlz4Frame},
	}
}

// decompress unpacks the one stream with which b begins.
func decompress(b []byte, limit int) stream {
	for _, m := range methods() {
		if !bytes.HasPrefix(b, []byte(m.magic)) {
			continue
		}
		z := m.unpack(b, limit)
		z.kind = m.kind
		if len(z.out) > limit {
			z.out, z.err = z.out[:limit], ErrTooLarge
		}
		if errors.Is(z.err, ErrTooLarge) {
			z.err = fmt.Errorf("%w: more than %d bytes were left for this stream", ErrTooLarge, limit)
		}
		return z
	}
	return stream{err: fmt.Errorf("bytes % x begin neither an archive nor a compression that the kernel knows", b[:min(len(b), 6)])}
}

// Decompress unpacks the one compressed stream with which b begins: gzip, bzip2,
// lzma, xz, lzo (lzop's container), lz4 (the legacy frame, the only one that the
// kernel takes), "lz4 frame" (the modern one) or zstd. It returns what came out,
// at most [MaxUnpacked] bytes and also if an error follows, the compression and
// how many bytes of b it took.
func Decompress(b []byte) (out []byte, kind string, used int, err error) {
	return Limits{}.Decompress(b)
}

// Decompress is [Decompress] with other limits.
func (l Limits) Decompress(b []byte) (out []byte, kind string, used int, err error) {
	z := decompress(b, l.orDefault().Unpacked)
	return z.out, z.kind, z.used, z.err
}

// readUpTo reads until the end or one byte more than limit.
func readUpTo(r io.Reader, limit int) ([]byte, error) {
	var out bytes.Buffer
	_, err := out.ReadFrom(io.LimitReader(r, int64(limit)+1))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errShort
	}
	return out.Bytes(), err
}
