package unpack_test

import (
	"bytes"
	"compress/gzip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/unpack"
)

func TestTheUsualImageIsRead(t *testing.T) {
	microcode, rest := usual(t)
	microcode = padded(microcode, 512)
	packed := zip(rest)
	tree := mustRead(t, join(microcode, packed, make([]byte, 100)))
	files, hidden := show(tree)
	want := []string{
		"bin 040755",
		"bin/sh 120777 -> busybox",
		"dev 040755",
		"dev/console 020600 5:1",
		"etc 040755",
		"etc/crypttab 100600" + has("luks\n"),
		"init 100755" + has("#!/bin/sh\n"),
		"kernel 040755",
		"kernel/x86 040755",
		"kernel/x86/microcode 040755",
		"kernel/x86/microcode/GenuineIntel.bin 100644" + has(strings.Repeat("microcode ", 100)),
	}
	if d := cmp.Diff(want, files); d != "" {
		t.Error(d)
	}
	if len(hidden) > 0 || len(tree.Doubts) > 0 {
		t.Errorf("hidden %q, doubts %q; want neither", hidden, tree.Doubts)
	}
	if i := slices.IndexFunc(tree.Files, func(f unpack.File) bool { return f.Path == "init" }); tree.Files[i].Segment != 1 || tree.Files[i+1].Segment != 0 {
		t.Errorf("init is of segment %d and kernel of segment %d; want 1 and 0", tree.Files[i].Segment, tree.Files[i+1].Segment)
	}
	plain := bytes.LastIndex(microcode, []byte("TRAILER!!!")) + len("TRAILER!!!\x00\x00\x00\x00")
	wantSegments := []unpack.Segment{
		{Offset: 0, Size: plain &^ 3, Compression: "plain", Unpacked: plain &^ 3},
		{Offset: len(microcode), Size: len(packed), Compression: "gzip", Unpacked: len(rest)},
	}
	if d := cmp.Diff(wantSegments, tree.Segments); d != "" {
		t.Error(d)
	}
}

func TestEveryPlainArchiveIsASegment(t *testing.T) {
	first, second := newc(file("a", "x"), trailer), newc(file("b", "y"))
	tree := mustRead(t, join(first, make([]byte, 8), second, second, newc(trailer)))
	want := []unpack.Segment{
		{Offset: 0, Size: len(first), Compression: "plain", Unpacked: len(first)},
		{Offset: len(first) + 8, Size: 2*len(second) + 124, Compression: "plain", Unpacked: 2*len(second) + 124},
	}
	if d := cmp.Diff(want, tree.Segments); d != "" {
		t.Error(d)
	}
}

// The kernel does not compare them, so the files are what it makes of them.
func TestWrongChecksumsOfGzipAreDoubts(t *testing.T) {
	good := zip(newc(file("a", "x")))
	for name, c := range map[string]struct {
		flip   int
		doubts []string
	}{
		"right":     {0, nil},
		"wrong sum": {8, []string{"segment 1 (gzip, at byte 0): the checksum at the end of the gzip stream is wrong, which the kernel does not look at"}},
		"size":      {1, []string{"segment 1 (gzip, at byte 0): the checksum at the end of the gzip stream is wrong, which the kernel does not look at"}},
	} {
		t.Run(name, func(t *testing.T) {
			image := bytes.Clone(good)
			if c.flip > 0 {
				image[len(image)-c.flip] ^= 0x10
			}
			tree := mustRead(t, image)
			if d := cmp.Diff(c.doubts, tree.Doubts); d != "" || len(tree.Files) != 1 {
				t.Errorf("%d files, doubts: %s", len(tree.Files), d)
			}
		})
	}
}

func TestAGzipStreamMayHaveAName(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Name = "initrd.img"
	z.Write(newc(file("a", "x")))
	z.Close()
	if files, _ := show(mustRead(t, b.Bytes())); len(files) != 1 {
		t.Errorf("files %q; want one", files)
	}
}
