package physmem_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/physmem"
)

// counted is memory that counts what it is asked for.
type counted struct{ reads int }

func (c *counted) ReadAt(b []byte, address uint64) error {
	c.reads++
	return nil
}

// Sizes and addresses come from tables that an attacker may have written.
func TestRangesThatAreNone(t *testing.T) {
	root := deviceOf(t, nil)
	device, err := physmem.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	for _, r := range []struct {
		address, size uint64
		reason        string
	}{
		{0, 16, "its address is zero"},
		{0x1000, 0, "it has no bytes"},
		{0x1000, physmem.MaxRead + 1, "no more than"},
		{0x1000, ^uint64(0), "no more than"},
		{^uint64(0) - 14, 16, "wrap around"},
		{^uint64(0), 2, "wrap around"},
	} {
		m := &counted{}
		if b, err := physmem.Read(m, r.address, r.size); !errors.Is(err, physmem.ErrRange) || !strings.Contains(err.Error(), r.reason) || b != nil || m.reads != 0 {
			t.Errorf("%d bytes at %#x: %v, %d bytes, the memory was asked %d times", r.size, r.address, err, len(b), m.reads)
		}
		if r.size > 1<<30 {
			continue
		}
		for kind, m := range map[string]physmem.Memory{"segments": physmem.Image(1, make([]byte, 32)), "device": device} {
			if err := m.ReadAt(make([]byte, r.size), r.address); !errors.Is(err, physmem.ErrRange) {
				t.Errorf("%s, %d bytes at %#x: %v", kind, r.size, r.address, err)
			}
		}
	}
	if err := device.ReadAt(make([]byte, 8), 1<<63); !errors.Is(err, physmem.ErrRange) {
		t.Errorf("an address that no file has: %v", err)
	}
}

func TestTheLastBytesOfTheAddressSpaceAreARange(t *testing.T) {
	m := &counted{}
	if _, err := physmem.Read(m, ^uint64(0)-15, 16); err != nil || m.reads != 1 {
		t.Errorf("%v, %d reads", err, m.reads)
	}
}

func TestReadsAreCopies(t *testing.T) {
	memory := []byte("as it was")
	b, err := physmem.Read(physmem.Image(0x1000, memory), 0x1000, 9)
	if err != nil {
		t.Fatal(err)
	}
	copy(memory, "otherwise")
	if string(b) != "as it was" {
		t.Errorf("what was read became %q", b)
	}
}

func TestSegments(t *testing.T) {
	s, err := physmem.NewSegments(physmem.Segment{Base: 0x2000, Bytes: []byte("cd")}, physmem.Segment{Base: 0x1ffe, Bytes: []byte("ab")},
		physmem.Segment{Base: 0x2003, Bytes: []byte("fg")})
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[uint64]string{0x1ffe: "abcd", 0x1fff: "b", 0x2000: "cd", 0x2001: "d", 0x2003: "fg"} {
		if b, err := physmem.Read(s, at, uint64(len(want))); err != nil || string(b) != want {
			t.Errorf("at %#x: %q, %v; want %q", at, b, err, want)
		}
	}
	for _, r := range [][2]uint64{{0x1ffd, 1}, {0x1ffd, 3}, {0x2002, 1}, {0x2001, 3}, {0x2004, 2}, {0x9000, 1}} {
		if b, err := physmem.Read(s, r[0], r[1]); !errors.Is(err, physmem.ErrMissing) || b != nil {
			t.Errorf("%d bytes at %#x: %q, %v", r[1], r[0], b, err)
		}
	}
}

func TestSegmentsThatContradict(t *testing.T) {
	one := physmem.Segment{Base: 0x1000, Bytes: make([]byte, 16)}
	for name, other := range map[string]physmem.Segment{
		"same start": {Base: 0x1000, Bytes: make([]byte, 1)},
		"overlap":    {Base: 0x100f, Bytes: make([]byte, 1)},
		"wraps":      {Base: ^uint64(0), Bytes: make([]byte, 2)},
	} {
		if _, err := physmem.NewSegments(one, other); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := physmem.NewSegments(one, physmem.Segment{Base: 0x1010, Bytes: make([]byte, 1)}); err != nil {
		t.Errorf("one behind the other: %v", err)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "mem-0xfed30000.bin"), []byte("registers"))
	write(t, filepath.Join(dir, "mem-0xC5DE4000.bin"), []byte("log"))
	write(t, filepath.Join(dir, "README"), []byte("not memory"))
	m, err := physmem.Folder(dir)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[uint64]string{0xfed30000: "registers", 0xc5de4000: "log"} {
		if b, err := physmem.Read(m, at, uint64(len(want))); err != nil || string(b) != want {
			t.Errorf("at %#x: %q, %v", at, b, err)
		}
	}
}

func TestFoldersThatAreNone(t *testing.T) {
	if _, err := physmem.Folder(t.TempDir()); !errors.Is(err, physmem.ErrNoCaptures) {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := physmem.Folder(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	for _, name := range []string{"mem-0x.bin", "mem-0xno.bin", "mem-0x-1.bin", "mem-0x11112222333344445.bin"} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, name), []byte("x"))
		if _, err := physmem.Folder(dir); err == nil || !strings.Contains(err.Error(), "hexadecimal") {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "mem-0x1000.bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := physmem.Folder(dir); err == nil || !strings.Contains(err.Error(), "no ordinary file") {
		t.Errorf("a folder in a file's place: %v", err)
	}
	dir = t.TempDir()
	write(t, filepath.Join(dir, "mem-0x1000.bin"), []byte("x"))
	write(t, filepath.Join(dir, "mem-0x2000.bin"), nil)
	if err := os.Truncate(filepath.Join(dir, "mem-0x2000.bin"), 64<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := physmem.Folder(dir); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a byte more than is read of a folder: %v", err)
	}
}

// deviceOf makes a folder whose dev/mem is a sparse file with bytes at addresses.
func deviceOf(t *testing.T, at map[int64][]byte) string {
	t.Helper()
	root := t.TempDir()
	write(t, filepath.Join(root, "dev/mem"), nil)
	f, err := os.OpenFile(filepath.Join(root, "dev/mem"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for address, b := range at {
		if _, err := f.WriteAt(b, address); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// Every start and length around the borders of words and pages gives the bytes
// that lie there, and nothing else.
func TestDevice(t *testing.T) {
	memory := make([]byte, 3*4096)
	for i := range memory {
		memory[i] = byte(i*7 + i/256)
	}
	const base = 0xfed30000
	root := deviceOf(t, map[int64][]byte{base: memory})
	d, err := physmem.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, start := range []int{0, 1, 7, 8, 9, 4088, 4095, 4096, 4097} {
		for _, n := range []int{1, 2, 7, 8, 9, 16, 4095, 4096, 4097} {
			b, err := physmem.Read(d, base+uint64(start), uint64(n))
			if err != nil || !bytes.Equal(b, memory[start:start+n]) {
				t.Errorf("%d bytes at offset %d: %v, and %t that they are right", n, start, err, bytes.Equal(b, memory[start:start+n]))
			}
		}
	}
}

// Pages that are not there raise a signal when they are touched; it must not end
// the program.
func TestDeviceWithoutThePages(t *testing.T) {
	d, err := physmem.Open(deviceOf(t, map[int64][]byte{0x1000: []byte("the end")}))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if b, err := physmem.Read(d, 0x8000, 16); err == nil || !strings.Contains(err.Error(), "the mapped memory is gone at offset 0x0") {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := physmem.Read(d, 0x1000, 7); err != nil || string(b) != "the end" {
		t.Errorf("and then: %q, %v", b, err)
	}
}

func TestNoDevice(t *testing.T) {
	if _, err := physmem.Open(t.TempDir()); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "CONFIG_DEVMEM") {
		t.Errorf("%v", err)
	}
}
