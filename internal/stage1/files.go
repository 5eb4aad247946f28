package stage1

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
)

// MaxLoaded bounds all files of a stage together, in bytes: what Multiboot addresses
// lies below 4 GiB, and the next stage has to find room beside it.
const MaxLoaded = 1 << 30

// Errors on which a caller decides.
var (
	// ErrSize: a file has not the size that the description gives, or changes while it is read.
	ErrSize = errors.New("the file has another size")
	// ErrTooLarge: the files are more than MaxLoaded.
	ErrTooLarge = errors.New("the files of the next stage are too large")
	// ErrPacked: a file that is compressed with gzip can't be handed over as it will run.
	ErrPacked = errors.New("the file can't be unpacked")
)

// ReadDescribed reads what the description in a file starts, below a root folder.
func ReadDescribed(description, root string) (*drtm.Stage, error) {
	b, err := ReadBounded(description, launch.MaxDescription)
	if err != nil {
		return nil, fmt.Errorf("read the launch description: %w", err)
	}
	d, err := launch.ParseDescription(b)
	if err != nil {
		return nil, err
	}
	return Read(d, Below(root))
}

// A Place finds where a file of stage 1's lies in the system that runs now.
type Place func(path string) (string, error)

// Below is the place of files below a folder, which stands for stage 1's root folder.
func Below(root string) Place {
	return func(path string) (string, error) { return filepath.Join(root, path), nil }
}

// ReadBounded reads a file, and at most one byte more than the limit, by which its
// reader sees that it is too long.
func ReadBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// Read reads what a description starts, each file from its place.
func Read(d *launch.Description, at Place) (*drtm.Stage, error) {
	r := reader{at: at, left: MaxLoaded}
	s := &drtm.Stage{Kind: d.Kind()}
	var err error
	if d.Hypervisor == nil {
		s.Line = d.Kernel.Line
		if s.Image, err = r.asItIs(d.Kernel); err != nil {
			return nil, err
		}
		if d.Initrd != nil {
			if s.Initrd, err = r.asItIs(*d.Initrd); err != nil {
				return nil, err
			}
		}
	} else {
		s.Line = d.Hypervisor.Line
		if s.Image, err = r.unpacked(*d.Hypervisor); err != nil {
			return nil, err
		}
		files := []launch.File{d.Kernel}
		if d.Initrd != nil {
			files = append(files, *d.Initrd)
		}
		for i, f := range append(files, d.Modules...) {
			read := r.unpacked
			if i == 1 {
				read = r.asItIs // dom0's kernel unpacks its initramfs itself
			}
			b, err := read(f)
			if err != nil {
				return nil, err
			}
			s.Modules = append(s.Modules, drtm.Module{Content: b, Line: f.Line})
		}
	}
	s.Facts = facts(d.Measure, at)
	return s, nil
}

type reader struct {
	at   Place
	left int64
}

// asItIs reads a file, once, to its end. It has room behind its last byte for the
// log, which is appended to an initramfs.
func (r *reader) asItIs(f launch.File) ([]byte, error) {
	b, err := r.read(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Path, err)
	}
	r.left -= int64(len(b))
	return b, nil
}

func (r *reader) read(f launch.File) ([]byte, error) {
	path, err := r.at(f.Path)
	if err != nil {
		return nil, err
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	info, err := in.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("this is no file that could be loaded")
	case f.Size != 0 && info.Size() != f.Size:
		return nil, fmt.Errorf("%w: it has %d bytes, and the description says %d", ErrSize, info.Size(), f.Size)
	case info.Size() > r.left:
		return nil, fmt.Errorf("%w: %d bytes in all are allowed", ErrTooLarge, MaxLoaded)
	}
	b := make([]byte, info.Size(), info.Size()+roomForLog)
	if _, err := io.ReadFull(in, b); err != nil {
		return nil, fmt.Errorf("%w: it ends before its %d bytes: %w", ErrSize, info.Size(), err)
	}
	if n, _ := in.Read(make([]byte, 1)); n != 0 {
		return nil, fmt.Errorf("%w: it grew behind its %d bytes while it was read", ErrSize, info.Size())
	}
	return b, nil
}

// unpacked reads a file that is handed over without gzip's compression, as GRUB does.
// What is measured is what will be in memory. What is not one clean stream is refused:
// readers differ in what they make of it.
func (r *reader) unpacked(f launch.File) ([]byte, error) {
	b, err := r.asItIs(f)
	if err != nil || f.Packed || !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		return b, err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrPacked, f.Path, err)
	}
	out, err := io.ReadAll(io.LimitReader(z, r.left+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", ErrPacked, f.Path, err)
	case int64(len(out)) > r.left:
		return nil, fmt.Errorf("%w: %s unpacks to more than is left of %d bytes", ErrTooLarge, f.Path, MaxLoaded)
	}
	r.left -= int64(len(out))
	return out, nil
}
