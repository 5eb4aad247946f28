package unpack

import (
	"compress/bzip2"
	"encoding/binary"
	"io"
)

// bunzip2 reads one bzip2 stream. The kernel reads one, where bzip2(1) and the
// standard library go on with the next.
func bunzip2(b []byte, limit int) stream {
	in := &bzip2Stream{b: b}
	z := stream{}
	z.out, z.err = readUpTo(bzip2.NewReader(in), limit)
	z.used = in.at
	return z
}

// bzip2Stream hands out bytes until it has handed out the end of a stream: 48
// bits that mark the end, a checksum of 32 bits, and up to 7 bits to the end of
// the byte. The decompressor asks for no byte before it needs it, so this is
// where the stream ends. If an attacker puts such bits elsewhere, the
// decompressor misses the rest and says so.
type bzip2Stream struct {
	b  []byte
	at int
}

func (s *bzip2Stream) ReadByte() (byte, error) {
	if s.at == len(s.b) || s.ended() {
		return 0, io.EOF
	}
	s.at++
	return s.b[s.at-1], nil
}

// Read is there because bzip2.NewReader asks for an io.Reader; it reads bytes.
func (s *bzip2Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c, err := s.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = c
	return 1, nil
}

func (s *bzip2Stream) ended() bool {
	const endMark, header = 0x177245385090, 4
	if s.at < header+10 {
		return false
	}
	x := binary.BigEndian.Uint64(s.b[s.at-11:])
	for padding := range 8 {
		if x>>(8+padding)&(1<<48-1) == endMark {
			return true
		}
	}
	return false
}
