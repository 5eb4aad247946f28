// Package initramfs builds the archive that a Linux kernel unpacks into its
// first root file system: a cpio archive in the "newc" format (the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst), plain or gzipped.
//
// The archive is measured before it runs, so the same contents must give the
// same bytes: entries are sorted, owners are root, times are zero and inode
// numbers are counted, whatever the order in which things were added and
// whoever added them. Several archives may stand one after the other; the
// kernel unpacks them in turn.
package initramfs

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
)

// Archive collects what goes into an initramfs. The zero Archive is empty and
// ready to use. Paths are relative to the root, with or without a leading
// slash; the directories above an entry are made as needed, with mode 0755.
//
// The first mistake is kept and returned when the archive is written, so that
// a list of additions reads as a list.
type Archive struct {
	entries map[string]cpio.Record
	err     error
}

// Dir adds a directory. Adding one that is there changes its mode.
func (a *Archive) Dir(name string, perm uint64) {
	name = clean(name)
	if r, ok := a.entries[name]; ok && r.Mode&cpio.S_IFMT == cpio.S_IFDIR {
		delete(a.entries, name)
	}
	a.add(cpio.Directory(name, perm))
}

// File adds a regular file. The archive keeps content: don't change it later.
func (a *Archive) File(name string, perm uint64, content []byte) {
	a.add(cpio.StaticRecord(content, cpio.Info{Name: clean(name), Mode: cpio.S_IFREG | perm}))
}

// CopyFile adds a regular file with the content of a file on this machine.
func (a *Archive) CopyFile(name string, perm uint64, from string) {
	content, err := os.ReadFile(from)
	if err != nil {
		a.fail(fmt.Errorf("copy a file into the initramfs: %w", err))
		return
	}
	a.File(name, perm, content)
}

// Symlink adds a symbolic link.
func (a *Archive) Symlink(name, target string) { a.add(cpio.Symlink(clean(name), target)) }

// CharDevice adds a character device node.
func (a *Archive) CharDevice(name string, perm, major, minor uint64) {
	a.add(cpio.CharDev(clean(name), perm, major, minor))
}

// Has says whether an entry was added.
func (a *Archive) Has(name string) bool {
	_, ok := a.entries[clean(name)]
	return ok
}

func (a *Archive) add(r cpio.Record) {
	name := r.Name
	if name == "." || name == ".." || strings.HasPrefix(name, "../") || strings.ContainsRune(name, 0) {
		a.fail(fmt.Errorf("%q names nothing inside an initramfs", name))
		return
	}
	if _, ok := a.entries[name]; ok {
		a.fail(fmt.Errorf("%s was added to the initramfs twice", name))
		return
	}
	if a.entries == nil {
		a.entries = make(map[string]cpio.Record)
	}
	a.entries[name] = r
	// The kernel makes no parents: an entry whose directory is missing is silently lost.
	switch parent, ok := a.entries[path.Dir(name)]; {
	case path.Dir(name) == ".":
	case !ok:
		a.Dir(path.Dir(name), 0o755)
	case parent.Mode&cpio.S_IFMT != cpio.S_IFDIR:
		a.fail(fmt.Errorf("%s can't be in the initramfs: %s is not a directory", name, parent.Name))
	}
}

func (a *Archive) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// clean makes a path relative to the root.
func clean(name string) string { return path.Clean(strings.TrimLeft(name, "/")) }

// Write writes the archive, uncompressed.
func (a *Archive) Write(w io.Writer) error {
	if a.err != nil {
		return a.err
	}
	out := cpio.Newc.Writer(w)
	// Sorting puts a directory before what is in it, as the kernel needs it.
	for i, name := range slices.Sorted(maps.Keys(a.entries)) {
		r := a.entries[name]
		r.Ino, r.NLink = uint64(i)+1, 1
		if err := out.WriteRecord(r); err != nil {
			return fmt.Errorf("write %s into the initramfs: %w", name, err)
		}
	}
	if err := cpio.WriteTrailer(out); err != nil {
		return fmt.Errorf("end the initramfs: %w", err)
	}
	return nil
}

// Bytes is the archive, uncompressed.
func (a *Archive) Bytes() ([]byte, error) {
	var b bytes.Buffer
	err := a.Write(&b)
	return b.Bytes(), err
}

// Gzip is the archive, compressed.
func (a *Archive) Gzip() ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b) // its header holds no name and no time
	if err := a.Write(z); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress the initramfs: %w", err)
	}
	return b.Bytes(), nil
}
