package physmem

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Segment is a piece of captured memory.
type Segment struct {
	Base  uint64 // physical address of the first byte
	Bytes []byte
}

// Segments are captured memory in pieces, by ascending address. A read may go from
// one into the next where no byte is missing between them.
type Segments []Segment

// Image is memory of which one piece was captured.
func Image(base uint64, b []byte) Segments { return Segments{{base, b}} }

// NewSegments sorts pieces. Two that hold the same byte are an error, because they
// could disagree on it.
func NewSegments(pieces ...Segment) (Segments, error) {
	s := slices.Clone(pieces)
	slices.SortStableFunc(s, func(a, b Segment) int { return cmp.Compare(a.Base, b.Base) })
	for i, p := range s {
		if p.Base+uint64(len(p.Bytes)) < p.Base {
			return nil, fmt.Errorf("%w: %d captured bytes at %#x wrap around", ErrRange, len(p.Bytes), p.Base)
		}
		if i > 0 && p.Base-s[i-1].Base < uint64(len(s[i-1].Bytes)) {
			return nil, fmt.Errorf("the captured memory at %#x reaches into the one at %#x", s[i-1].Base, p.Base)
		}
	}
	return s, nil
}

// ReadAt copies out of the pieces. The error wraps [ErrMissing] where they don't
// hold all of the range.
func (s Segments) ReadAt(b []byte, address uint64) error {
	if err := check(address, uint64(len(b))); err != nil {
		return err
	}
	at, left := address, b
	for _, p := range s {
		if at < p.Base || at-p.Base >= uint64(len(p.Bytes)) {
			continue
		}
		n := copy(left, p.Bytes[at-p.Base:])
		if left = left[n:]; len(left) == 0 {
			return nil
		}
		at += uint64(n)
	}
	return fmt.Errorf("%w: of the %d bytes at %#x, those from %#x on", ErrMissing, len(b), address, at)
}

// Limits of a folder of captures. A whole machine's memory does not belong there.
const (
	maxFolder = 64 << 20 // bytes, all files together
	maxFiles  = 256
)

// Names of the files in a folder of captures, around the address.
const (
	filePrefix = "mem-0x"
	fileSuffix = ".bin"
)

// ErrNoCaptures says that a folder holds no file of captured memory.
var ErrNoCaptures = errors.New("the folder holds no captured memory, in files named by address such as mem-0xfed30000.bin")

// Folder reads captured memory from a folder, in files that are named after the
// address of their first byte, such as mem-0xfed30000.bin. Other files are left alone.
func Folder(dir string) (Segments, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for captured memory: %w", err)
	}
	var pieces []Segment
	room := int64(maxFolder)
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, filePrefix) || !strings.HasSuffix(name, fileSuffix) {
			continue
		}
		base, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(name, filePrefix), fileSuffix), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("the name of the captured memory %q is not mem-0x, an address in hexadecimal digits, and .bin", name)
		}
		if len(pieces) == maxFiles {
			return nil, fmt.Errorf("the folder %s holds more than %d files of captured memory", dir, maxFiles)
		}
		b, err := readRegular(filepath.Join(dir, name), room)
		if err != nil {
			return nil, err
		}
		room -= int64(len(b))
		pieces = append(pieces, Segment{base, b})
	}
	if len(pieces) == 0 {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoCaptures)
	}
	return NewSegments(pieces...)
}

// readRegular reads a file of at most room bytes; a pipe in its place would make
// the reader wait for ever.
func readRegular(path string, room int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("captured memory: %s is no ordinary file", path)
	case err == nil && info.Size() > room:
		return nil, fmt.Errorf("the captured memory up to %s has more than %d bytes", path, maxFolder)
	case err != nil:
		return nil, fmt.Errorf("captured memory: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("captured memory: %w", err)
	}
	defer f.Close()
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("captured memory: %s: %w", path, err)
	}
	return b, nil
}
