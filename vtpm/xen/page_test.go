package xen

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/antievilmaid/aem/internal/grant"
	"github.com/antievilmaid/aem/vtpm"
)

// FuzzPage reads any page as a guest's.
func FuzzPage(f *testing.F) {
	f.Add([]byte{22, 0, 0, 0, submit, 0, 0, 0, 0x00, 0xc1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, submit, 4, 0, 1})
	f.Add(append([]byte{0xf8, 0x0f, 0, 0, submit, 3, 9, 0}, bytes.Repeat([]byte{7}, vtpm.BufferSize)...))
	f.Fuzz(func(t *testing.T, content []byte) {
		b := make([]byte, grant.PageSize)
		copy(b, content)
		var words [grant.PageSize / 4]uint32
		for i := range words {
			words[i] = binary.LittleEndian.Uint32(b[4*i:])
		}
		s := shared{&words}
		at, command, submitted, err := s.command()
		if submitted != (b[4] == submit) {
			t.Fatalf("state %d, and submitted: %v", b[4], submitted)
		}
		if !submitted || err != nil {
			if command != nil {
				t.Fatalf("there is a command of %d bytes, and an error: %v", len(command), err)
			}
			return
		}
		n := binary.LittleEndian.Uint32(b)
		if b[7] != 0 || n < 10 || n > 4088 || !bytes.Equal(command, b[8:8+n]) || byte(at) != b[5] {
			t.Fatalf("of a page that begins with %x, a command of %d bytes at locality %d was taken", b[:8], len(command), at)
		}
		s.answer(command)
		want := bytes.Clone(b[:8+n])
		want[4] = finish
		for i := range len(want) / 4 {
			if got := words[i]; got != binary.LittleEndian.Uint32(want[4*i:]) {
				t.Fatalf("word %d is %#x after the answer", i, got)
			}
		}
	})
}
