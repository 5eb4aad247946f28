package bootentry

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// MaxLoaded is how many bytes [Menu.Load] reads where no limit is given.
const MaxLoaded = 1 << 30

// RoomBehind is how many bytes are free in memory behind a file that was loaded as it is.
// Who appends to an initramfs, as stage 1 its log, needs no copy of it then.
const RoomBehind = 256 << 10

// Loaded is what GRUB leaves in memory.
type Loaded struct {
	Kernel  []byte
	Modules [][]byte
	// Initrd is one run of bytes: the files one after the other, with zeros between
	// them so that each begins at a multiple of 4 (loader/linux.c).
	Initrd         []byte
	SlaunchModules [][]byte
	// Files are what lies on the disk, not decompressed, in the order kernel, modules,
	// modules of the launch, initrds: what is above was read in the same reading.
	Files []LoadedFile
}

// A LoadedFile is one file as it lies on the disk.
type LoadedFile struct {
	Module
	Content []byte
}

// Load reads what GRUB would load for an entry of this menu, as it lies in memory:
// GRUB decompresses files with gzip that it was not told to take as they are. limit
// bounds the bytes of all of it; 0 stands for [MaxLoaded].
func (m *Menu) Load(e *Entry, limit int64) (*Loaded, error) {
	if e.Err != nil {
		return nil, e.Err
	}
	if limit == 0 {
		limit = MaxLoaded
	}
	l := &loading{limit: limit}
	defer l.close()
	for _, f := range m.filesystems {
		if err := l.open(f); err != nil {
			return nil, err
		}
	}
	if e.Kind == Nothing {
		return &Loaded{}, nil
	}
	var out Loaded
	var err error
	if out.Kernel, err = l.read(e.Kernel); err != nil {
		return nil, err
	}
	if out.Modules, err = l.all(e.Modules); err != nil {
		return nil, err
	}
	if out.SlaunchModules, err = l.all(e.SlaunchModules); err != nil {
		return nil, err
	}
	files, err := l.all(e.Initrds)
	if err != nil {
		return nil, err
	}
	for i, b := range files {
		if i == 0 {
			out.Initrd = b // the usual case, and the largest file: no copy of it
			continue
		}
		out.Initrd = append(out.Initrd, make([]byte, -len(out.Initrd)&3)...)
		out.Initrd = append(out.Initrd, b...)
	}
	out.Files = l.files
	return &out, nil
}

type loading struct {
	limit int64 // bytes that may still come
	on    []mounted
	done  []func()
	files []LoadedFile
}

func (l *loading) open(f Filesystem) error {
	m, done, err := f.open()
	if err != nil {
		return err
	}
	l.on, l.done = append(l.on, m), append(l.done, done)
	return nil
}

func (l *loading) close() {
	for _, done := range l.done {
		done()
	}
}

func (l *loading) all(modules []Module) ([][]byte, error) {
	var out [][]byte
	for _, m := range modules {
		b, err := l.read(m)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// Other compressions that GRUB may have a module for. Whether it is there can't be
// told, so neither what would be in memory.
var otherCompressions = map[string]string{"xz": "\xfd7zXZ\x00", "lzop": "\x89LZO\x00\r\n\x1a\n"}

func (l *loading) read(m Module) ([]byte, error) {
	if m.Filesystem < 0 || m.Filesystem >= len(l.on) {
		return nil, fmt.Errorf("%s lies in none of the file systems", m.Path)
	}
	b, err := readFile(l.on[m.Filesystem].files, m.Name, l.limit, RoomBehind)
	if err != nil {
		return nil, fmt.Errorf("%s, which GRUB would load: %w", m.Path, err)
	}
	l.files = append(l.files, LoadedFile{m, b})
	if !m.Packed {
		if b, err = unzip(b, l.limit); err != nil {
			return nil, fmt.Errorf("%s, which GRUB would load: %w", m.Path, err)
		}
		for name, magic := range otherCompressions {
			if bytes.HasPrefix(b, []byte(magic)) {
				return nil, fmt.Errorf("%s is compressed with %s, and whether GRUB has its %sio module is not known: %w",
					m.Path, name, name, ErrUnsupported)
			}
		}
	}
	l.limit -= int64(len(b))
	return b, nil
}

// unzip does what the filter gzio (io/gzio.c) does, which GRUB has always loaded in
// normal mode: a file with gzip's header is read as what it holds.
func unzip(b []byte, limit int64) ([]byte, error) {
	if len(b) < 10 || b[0] != 0x1f || b[1] != 0x8b && b[1] != 0x9e || b[2] != 8 {
		return b, nil
	}
	if b[1] == 0x9e || b[3]&^0x1d != 0 {
		return nil, fmt.Errorf("its gzip header is one that not every reader takes alike: %w", ErrUnsupported)
	}
	in := bytes.NewReader(b)
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("it can't be decompressed: %w", err)
	}
	z.Multistream(false)
	out, err := readAll(z, limit)
	if err != nil {
		return nil, fmt.Errorf("it can't be decompressed: %w", err)
	}
	// GRUB takes the size from the file's last four bytes.
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("something follows the compressed data, which GRUB takes for their size: %w", ErrUnsupported)
	}
	return out, nil
}
