package bootentry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// A Filesystem is one of those that GRUB reads.
type Filesystem struct {
	// Dir is the folder in which it, or a part of it, lies on this machine: /boot
	// for a boot partition, / where /boot is a folder of the root file system.
	// Nothing outside Dir is read, whatever paths and symbolic links say.
	Dir string

	// At is where Dir lies in the file system as GRUB sees it. It is empty where Dir
	// is all of the file system; "/@" for instance for a subvolume of btrfs.
	At string

	UUID, Label string   // of the file system; empty where not known
	Devices     []string // GRUB's names where known, the one that a search gives first: "hd0,gpt2"

	// FS takes Dir's place where the files do not lie in a folder.
	FS fs.FS
}

// mounted is a Filesystem that is open.
type mounted struct {
	Filesystem
	files fs.FS
}

func (f Filesystem) open() (mounted, func(), error) {
	if f.FS != nil {
		return mounted{f, f.FS}, func() {}, nil
	}
	root, err := os.OpenRoot(f.Dir)
	if err != nil {
		return mounted{}, nil, fmt.Errorf("the folder of a file system that GRUB reads can't be opened: %w", err)
	}
	return mounted{f, root.FS()}, func() { root.Close() }, nil
}

// device is what a value of GRUB's can name.
type device struct {
	fs      int    // index into evaluator.fs; -1: none that is known
	name    string // for Module.Device
	problem string // why fs is -1
}

// deviceValue gives the value that GRUB's name of a disk has here.
func (e *evaluator) deviceValue(d device) string {
	n := slices.Index(e.devices, d)
	if n < 0 {
		n = len(e.devices)
		e.devices = append(e.devices, d)
	}
	return mark(markDevice, n)
}

// file is a path of GRUB's, found.
type file struct {
	path   string // as in the configuration, without the device
	device device
	name   string // for fs.FS
}

// errOutside is for a path that lies in the file system but not in Filesystem.Dir.
var errOutside = errors.New("the path lies outside the folder that was given")

// resolve reads a path as grub_file_open does: "(device)/path", or "/path" on $root.
func (e *evaluator) resolve(s *state, p string) (file, error) {
	dev := s.get("root")
	if strings.HasPrefix(p, "(") {
		var ok bool
		dev, p, ok = strings.Cut(p[1:], ")")
		if !ok {
			return file{}, errors.New("the name of the disk has no end")
		}
		if dev == "" {
			dev = s.get("root")
		}
	}
	d, err := e.device(dev)
	if err != nil {
		return file{}, err
	}
	if marked(p) {
		return file{}, fmt.Errorf("the path is not known: %s", e.why(p))
	}
	if !strings.HasPrefix(p, "/") {
		return file{}, fmt.Errorf("%.40q is not a path but a list of blocks", p)
	}
	f := file{path: p, device: d}
	if slices.Contains(strings.Split(p, "/"), "..") {
		return file{}, fmt.Errorf("the path %.80q leads upwards", p)
	}
	name := path.Clean(p)
	if at := strings.TrimSuffix(path.Clean("/"+e.fs[d.fs].At), "/"); at != "" {
		if name != at && !strings.HasPrefix(name, at+"/") {
			return file{}, fmt.Errorf("%w: %.80q is not below %q", errOutside, p, at)
		}
		name = strings.TrimPrefix(name, at)
	}
	if f.name = strings.Trim(name, "/"); f.name == "" {
		f.name = "."
	}
	if !fs.ValidPath(f.name) {
		return file{}, fmt.Errorf("%.80q is no path", p)
	}
	return f, nil
}

// device finds what a value names.
func (e *evaluator) device(value string) (device, error) {
	before, kind, n, after, ok := firstMark(value)
	if ok && kind == markDevice && before == "" && after == "" && n < len(e.devices) {
		if d := e.devices[n]; d.fs < 0 {
			return d, errors.New(d.problem)
		}
		return e.devices[n], nil
	}
	if ok {
		return device{}, fmt.Errorf("the disk is not known: %s", e.why(value))
	}
	if value == "" {
		return device{}, errors.New("$root names no disk")
	}
	for i, f := range e.fs {
		if slices.Contains(f.Devices, value) {
			return device{fs: i, name: value}, nil
		}
	}
	return device{}, fmt.Errorf("which disk is %.40q can't be told from here", value)
}

// read reads a small file.
func (e *evaluator) read(f file, limit int64) ([]byte, error) {
	return readFile(e.fs[f.device.fs].files, f.name, limit, 0)
}

// readFile reads a regular file whole, into memory with some room behind it. It asks for
// the kind first, because opening a pipe would wait for a writer.
func readFile(fsys fs.FS, name string, limit int64, room int) ([]byte, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: %w", name, fs.ErrInvalid)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than the limit of %d: %w", name, info.Size(), limit, ErrTooLarge)
	}
	r, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// The size is what the file had, and no promise: it only saves copies.
	b := bytes.NewBuffer(make([]byte, 0, info.Size()+int64(max(room, bytes.MinRead))))
	switch n, err := b.ReadFrom(io.LimitReader(r, limit+1)); {
	case err != nil:
		return nil, fmt.Errorf("%s can't be read: %w", name, err)
	case n > limit:
		return nil, fmt.Errorf("%s has more than %d bytes: %w", name, limit, ErrTooLarge)
	}
	return b.Bytes(), nil
}
