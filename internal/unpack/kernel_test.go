package unpack_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/unpack"
)

// boot starts a kernel with an image and returns what its root file system holds.
func boot(t *testing.T, image []byte) (files []unpack.File) {
	t.Helper()
	testbed.Need(t, "qemu-system-x86_64")
	k, err := testbed.FindKernel()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	g := testbed.NewGuest(t, testbed.Config{Kernel: k.Image, Initrd: path, Append: "console=ttyS0 panic=-1 loglevel=0 rdinit=/lister"})
	if _, err := g.Expect(t.Context(), `END <nil>`); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(g.Transcript())); lines.Scan(); {
		text, ok := bytes.CutPrefix(lines.Bytes(), []byte("FILE "))
		if !ok {
			continue
		}
		var f unpack.File
		if err := json.Unmarshal(text, &f); err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b unpack.File) int { return bytes.Compare([]byte(a.Path), []byte(b.Path)) })
	return files
}

// lister is the archive with the first process.
func lister(t *testing.T) []byte {
	t.Helper()
	program, err := testbed.Program("./internal/unpack/testdata/lister")
	if err != nil {
		t.Fatal(err)
	}
	return newc(item{name: "lister", mode: 0o100755, body: string(program)}, dir("dev"),
		item{name: "dev/console", mode: 0o20600, major: 5, minor: 1}, dir("root"), item{name: ".", mode: 0o40755})
}

// sameAsKernel compares files with what a kernel leaves of an image. Where the
// kernel is not content, it also keeps the image as a file.
func sameAsKernel(t *testing.T, image []byte, want []unpack.File) {
	t.Helper()
	got := slices.DeleteFunc(boot(t, image), func(f unpack.File) bool { return f.Path == "initrd.image" })
	if d := cmp.Diff(got, want, cmpopts.IgnoreFields(unpack.File{}, "Segment")); d != "" {
		t.Errorf("a listing differs from what the kernel left (-kernel +listing):\n%s", d)
	}
}

func TestTheKernelLeavesTheSame(t *testing.T) {
	t.Parallel()
	image := lister(t)
	for i, s := range scenarios() {
		p := fmt.Sprintf("%02d", i)
		part := newc(append([]item{dir(p)}, s.items(p+"/")...)...)
		if i%2 == 1 {
			part = zip(part)
		}
		image = append(padded(image, 4), part...)
	}
	sameAsKernel(t, image, mustRead(t, image).Files)
}

// After each sample comes an archive with a mark, which is not there if the
// kernel stops at the sample.
func TestTheKernelTakesTheSamples(t *testing.T) {
	t.Parallel()
	image := append(lister(t), newc(dir("after"))...)
	for _, s := range samples() {
		if s.kernel {
			// LZ4 blocks end at a size of zero, so four zeros at least.
			image = append(image, append(readSample(t, s.name), 0, 0, 0, 0)...)
			image = append(padded(image, 4), newc(file("after/"+s.name, ""))...)
		}
	}
	wrongSum := zip(newc(file("gzip", "its checksum is wrong")))
	wrongSum[len(wrongSum)-5] ^= 1
	image = append(image, wrongSum...)
	image = append(padded(image, 4), newc(file("after/wrong sum", ""), item{name: "crc", mode: 0o100644, body: "\x01\xff", check: new(uint32(0x100))})...)

	tree := mustRead(t, image)
	if len(tree.Doubts) != 1 {
		t.Errorf("doubts %q; want one, for the wrong checksum", tree.Doubts)
	}
	sameAsKernel(t, image, tree.Files)
}

// The kernel stops at what is wrong or unknown to it, and keeps what it has.
func TestTheKernelStopsWhereReadingStops(t *testing.T) {
	late := newc(file("late", "comes too late"))
	for name, c := range map[string]struct {
		image []byte
		doubt bool // only that: the listing goes on
	}{
		"bad checksum":        {image: newc(item{name: "crc", mode: 0o100644, body: "x", check: new(uint32(7))})},
		"name without zero":   {image: newc(item{name: "name", mode: 0o100644, nameSize: 4, body: "x"})},
		"entry off its place": {image: padded(zip(join(newc(file("a", "x")), []byte("\x00\x00"), late)), 4)},
		"unknown compression": {image: []byte("junk")},
		"xz with CRC64":       {image: padded(readSample(t, "sample-crc64.xz"), 4), doubt: true},
		"modern LZ4":          {image: padded(readSample(t, "sample-frame.lz4"), 4), doubt: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			early := append(lister(t), newc(file("early", "x"))...)
			image := join(early, c.image, late)
			tree, err := unpack.Read(image)
			if (err == nil) != c.doubt || (len(tree.Doubts) == 1) != c.doubt {
				t.Errorf("error %v, doubts %q; want only a doubt: %v", err, tree.Doubts, c.doubt)
			}
			if c.doubt {
				tree = mustRead(t, early)
			}
			sameAsKernel(t, image, tree.Files)
		})
	}
}
