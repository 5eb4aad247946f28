package unpack_test

import (
	"bytes"
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
