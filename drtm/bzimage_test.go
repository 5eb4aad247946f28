package drtm_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/antievilmaid/aem/drtm"
)

func params(t testing.TB, kernel []byte) []byte {
	t.Helper()
	p, err := drtm.BootParams(kernel)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// written by loaders: the first byte and the length of each field that the boot
// protocol marks "write" or "modify".
var writtenByLoaders = map[string][2]int{
	"vid_mode": {0x1fa, 2}, "root_dev": {0x1fc, 2}, "type_of_loader": {0x210, 1},
	"setup_move_size": {0x212, 2}, "code32_start": {0x214, 4}, "ramdisk_image": {0x218, 4},
	"ramdisk_size": {0x21c, 4}, "heap_end_ptr": {0x224, 2}, "ext_loader_ver": {0x226, 1},
	"ext_loader_type": {0x227, 1}, "cmd_line_ptr": {0x228, 4}, "hardware_subarch": {0x23c, 4},
	"hardware_subarch_data": {0x240, 8}, "setup_data": {0x250, 8},
}

// What a loader writes into the header must not change the measurement: it
// differs from boot to boot, and nobody could predict it.
func TestWhatALoaderWritesIsNotInTheBootParameters(t *testing.T) {
	want := params(t, bzImage())
	for name, f := range writtenByLoaders {
		kernel := bzImage()
		for i := range f[1] {
			kernel[f[0]+i] = 0xff
		}
		if !bytes.Equal(params(t, kernel), want) {
			t.Errorf("%s is measured", name)
		}
	}
	kernel := bzImage()
	kernel[0x211] |= 0xe0 // QUIET, KEEP_SEGMENTS, CAN_USE_HEAP
	if !bytes.Equal(params(t, kernel), want) {
		t.Error("the loader's flags are measured")
	}
}

// All the rest of the header is, and nothing outside of it.
func TestTheRestOfTheHeaderIsInTheBootParameters(t *testing.T) {
	loaders := map[int]bool{0x211: true}
	for _, f := range writtenByLoaders {
		for i := range f[1] {
			loaders[f[0]+i] = true
		}
	}
	want := params(t, bzImage())
	if len(want) != 4096 {
		t.Fatalf("the zero page has %d bytes", len(want))
	}
	const end = 0x202 + 0x6a
	for i := range 4096 {
		switch {
		case i == 0x1fe, i == 0x1ff, i >= 0x202 && i < 0x208, i == 0x201: // another file format then
			continue
		}
		kernel := bzImage()
		kernel[i] ^= 1
		inHeader := i >= 0x1f1 && i < end && !loaders[i] || i == 0x211
		if changed := !bytes.Equal(params(t, kernel), want); changed != inHeader {
			t.Errorf("byte %#x of the kernel is measured: %v; want %v", i, changed, inHeader)
		}
	}
}

func TestFilesThatAreNoKernels(t *testing.T) {
	change := func(f func(b []byte)) []byte { b := bzImage(); f(b); return b }
	for name, b := range map[string][]byte{
		"empty":             nil,
		"cut before header": bzImage()[:0x207],
		"cut in the header": bzImage()[:0x26b],
		"no boot signature": change(func(b []byte) { b[0x1ff] = 0 }),
		"no magic number":   change(func(b []byte) { b[0x202] = 'h' }),
		"a short header":    change(func(b []byte) { b[0x201] = 0 }),
		"an old protocol":   change(func(b []byte) { b[0x206] = 5 }),
		"an ELF file":       append([]byte("\x7fELF"), make([]byte, 8192)...),
	} {
		if _, err := drtm.BootParams(b); !errors.Is(err, drtm.ErrKernel) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := drtm.BootParams(bzImage()[:0x26c]); err != nil {
		t.Errorf("a file that ends with its header: %v", err)
	}
}

func FuzzBootParams(f *testing.F) {
	f.Add(bzImage())
	f.Add(bzImage()[:0x26c])
	f.Add([]byte("\x7fELF"))
	params(f, bzImage())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := drtm.BootParams(b)
		if err != nil {
			return
		}
		if len(p) != 4096 || !bytes.Equal(p[0x202:0x206], []byte("HdrS")) {
			t.Errorf("a zero page of %d bytes without a header", len(p))
		}
	})
}
