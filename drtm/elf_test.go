package drtm

import (
	"bytes"
	"debug/elf"
	"io"
	"os"
	"testing"
)

// elfByLibrary is loadedELF as debug/elf reads the file.
func elfByLibrary(b []byte) []byte {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	low, high := ^uint64(0), uint64(0)
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Memsz > 0 {
			low, high = min(low, p.Paddr), max(high, p.Paddr+p.Memsz)
		}
	}
	if high <= low || high-low > maxLoaded {
		return nil
	}
	image := make([]byte, high-low)
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Memsz > 0 && p.Filesz <= p.Memsz {
			if _, err := io.ReadFull(p.Open(), image[p.Paddr-low:p.Paddr-low+p.Filesz]); err != nil {
				return nil
			}
		}
	}
	return image
}

// A real ELF file is laid out as the standard library reads it; what is none, or ends too
// soon, is nothing.
func TestLoadedELF(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	want := elfByLibrary(b)
	if len(want) == 0 || !bytes.Equal(loadedELF(b), want) {
		t.Errorf("laid out in %d bytes, debug/elf in %d", len(loadedELF(b)), len(want))
	}
	for _, bad := range [][]byte{nil, b[:3], b[:63], b[:64+56], b[:len(b)/3], []byte("no ELF file")} {
		if got := loadedELF(bad); got != nil {
			t.Errorf("of %d bytes, %d were laid out", len(bad), len(got))
		}
	}
}

func FuzzELF(f *testing.F) {
	self, err := os.Executable()
	if err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:4096])
	small := append([]byte("\x7fELF\x01\x01\x01"), make([]byte, 128)...)
	copy(small[28:], []byte{52, 0, 0, 0})
	copy(small[42:], []byte{32, 0, 1, 0})
	copy(small[52:], []byte{1, 0, 0, 0, 84, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0})
	f.Add(small)
	f.Fuzz(func(t *testing.T, b []byte) {
		const room = 1 << 20
		for _, s := range segments(b) {
			if s.inMemory > room || s.address > room {
				return // a large image costs time, and shows nothing more
			}
		}
		loadedELF(b)
	})
}
