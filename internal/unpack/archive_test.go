package unpack_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/unpack"
)

// item is an entry of an archive that no honest program would write.
type item struct {
	name         string
	mode         uint32
	body         string
	uid, gid     uint32
	ino, links   uint32
	major, minor uint32
	check        *uint32 // makes it a 070702 entry
	nameSize     int     // where it is not that of name and a zero
	bodySize     int     // where it is not that of body
}

func dir(name string) item          { return item{name: name, mode: 0o40755} }
func file(name, body string) item   { return item{name: name, mode: 0o100644, body: body} }
func link(name, target string) item { return item{name: name, mode: 0o120777, body: target} }
func hard(name, body string, n uint32) item {
	return item{name: name, mode: 0o100644, body: body, ino: n, links: 2}
}

var trailer = item{name: "TRAILER!!!", links: 1}

// newc writes entries, without a trailer unless one is given.
func newc(items ...item) []byte {
	var b bytes.Buffer
	pad := func() {
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	for _, i := range items {
		magic, check := "070701", uint32(0)
		if i.check != nil {
			magic, check = "070702", *i.check
		}
		if i.nameSize == 0 {
			i.nameSize = len(i.name) + 1
		}
		if i.bodySize == 0 {
			i.bodySize = len(i.body)
		}
		fmt.Fprintf(&b, "%s%08x%08X%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", magic, i.ino, i.mode, i.uid, i.gid,
			max(1, i.links), 0, i.bodySize, 0, 0, i.major, i.minor, i.nameSize, check)
		b.WriteString(i.name + "\x00")
		pad()
		b.WriteString(i.body)
		pad()
	}
	return b.Bytes()
}

// zip is gzip without time and name.
func zip(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(b)
	z.Close()
	return out.Bytes()
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// padded adds zeros up to a multiple of n.
func padded(b []byte, n int) []byte { return append(b, make([]byte, (n-len(b)%n)%n)...) }

func mustRead(t *testing.T, image []byte) *unpack.Tree {
	t.Helper()
	tree, err := unpack.Read(image)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// show is a short text for each file, and for what is hidden.
func show(tree *unpack.Tree) (files, hidden []string) {
	for _, f := range tree.Files {
		files = append(files, showFile(f))
	}
	for _, h := range tree.Hidden {
		hidden = append(hidden, showFile(h.File)+": "+h.Why)
	}
	return files, hidden
}

// has is how showFile shows contents.
func has(body string) string {
	sum := sha256.Sum256([]byte(body))
	return fmt.Sprintf(" %d:%x", len(body), sum[:4])
}

func showFile(f unpack.File) string {
	s := fmt.Sprintf("%s %06o", f.Path, f.Mode)
	switch f.Mode >> 12 {
	case 0o12:
		s += " -> " + f.Target
	case 0o10:
		s += fmt.Sprintf(" %d:%x", f.Size, f.Sum[:4])
	case 0o2, 0o6:
		s += fmt.Sprintf(" %d:%d", f.Major, f.Minor)
	}
	if f.UID != 0 || f.GID != 0 {
		s += fmt.Sprintf(" of %d:%d", f.UID, f.GID)
	}
	return s
}

// usual is an initramfs as a distribution makes it: microcode, then the rest.
func usual(t testing.TB) (microcode, rest []byte) {
	t.Helper()
	var early, main initramfs.Archive
	early.File("kernel/x86/microcode/GenuineIntel.bin", 0o644, []byte(strings.Repeat("microcode ", 100)))
	main.File("init", 0o755, []byte("#!/bin/sh\n"))
	main.File("etc/crypttab", 0o600, []byte("luks\n"))
	main.Symlink("bin/sh", "busybox")
	main.CharDevice("dev/console", 0o600, 5, 1)
	var b [2][]byte
	for i, a := range []*initramfs.Archive{&early, &main} {
		var err error
		if b[i], err = a.Bytes(); err != nil {
			t.Fatal(err)
		}
	}
	return b[0], b[1]
}
