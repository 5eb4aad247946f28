package config

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
)

// Told is all that an initramfs says of what its stage 1 will start.
type Told struct {
	Config
	Description []byte // a launch description; nil where Entry names a menu entry
	PolicyKey   []byte // nil where no policy has to approve
}

var (
	// ErrNoStage: the initramfs holds no stage 1.
	ErrNoStage = errors.New("the initramfs holds no stage 1")
	// ErrArchive: an initramfs of stage 1 can't be read to its end, so what the kernel
	// would find in it is not known.
	ErrArchive = errors.New("the initramfs of stage 1 can't be read")
)

// maxTold bounds each file that is read out of an initramfs.
const maxTold = 1 << 20

// ReadTold reads what a stage 1 was told out of its initramfs: archives in cpio's newc
// format, as they are or compressed with gzip, one after the other. As for the kernel,
// the last of several files of a name counts. The error wraps [ErrNoStage] for the
// initramfs of anything else, [ErrArchive] or [ErrConfig].
func ReadTold(initramfs []byte) (*Told, error) {
	files := map[string][]byte{Path: nil, DescriptionPath: nil, PolicyKeyPath: nil}
	err := readArchives(bytes.NewReader(initramfs), files)
	switch {
	case files[Path] == nil:
		return nil, ErrNoStage // also where the system's initramfs is compressed as stage 1's never is
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	c, err := Parse(files[Path])
	if err != nil {
		return nil, err
	}
	t := &Told{*c, files[DescriptionPath], files[PolicyKeyPath]}
	switch {
	case (t.Description == nil) == (t.Entry == ""):
		return nil, fmt.Errorf("%w: it needs either a description or a menu entry", ErrConfig)
	case (t.Policy == nil) != (t.PolicyKey == nil):
		return nil, fmt.Errorf("%w: a policy that has to approve needs a file and a key", ErrConfig)
	}
	return t, nil
}

// readArchives goes through what may stand in an initramfs one after the other (the
// kernel's init/initramfs.c).
func readArchives(in *bytes.Reader, files map[string][]byte) error {
	for in.Len() > 0 {
		first, err := in.ReadByte()
		if err != nil {
			return err
		}
		if first == 0 {
			continue
		}
		if err := in.UnreadByte(); err != nil {
			return err
		}
		if first == '0' {
			if err := readArchive(in, files); err != nil {
				return err
			}
			continue
		}
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		z.Multistream(false)
		if err := readUnpacked(bufio.NewReader(z), files); err != nil {
			return err
		}
	}
	return nil
}

// readUnpacked reads the archives in a stream that was unpacked, to its end.
func readUnpacked(in *bufio.Reader, files map[string][]byte) error {
	for {
		switch first, err := in.Peek(1); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case first[0] != 0:
			if err := readArchive(in, files); err != nil {
				return err
			}
		default:
			if _, err := in.Discard(1); err != nil {
				return err
			}
		}
	}
}

// The header of an archive's entry: a magic number, and numbers of eight hexadecimal
// digits each (the kernel's documentation, driver-api/early-userspace/buffer-format).
const (
	cpioMagic  = "070701"
	cpioHeader = 110
	cpioMode   = 1
	cpioLinks  = 4
	cpioSize   = 6
	cpioName   = 11
	maxName    = 4096

	typeMask, typeFile = 0o170000, 0o100000
)

// readArchive reads one archive up to its trailer.
func readArchive(in io.Reader, files map[string][]byte) error {
	header := make([]byte, cpioHeader)
	for {
		if _, err := io.ReadFull(in, header); err != nil {
			return err
		}
		number := func(field int) int64 {
			at := len(cpioMagic) + 8*field
			n, err := strconv.ParseUint(string(header[at:at+8]), 16, 32)
			if err != nil {
				return -1
			}
			return int64(n)
		}
		mode, links, size, length := number(cpioMode), number(cpioLinks), number(cpioSize), number(cpioName)
		if string(header[:len(cpioMagic)]) != cpioMagic || mode < 0 || links < 0 || size < 0 || length < 1 || length > maxName {
			return errors.New("it holds something that is no archive in cpio's newc format")
		}
		name := make([]byte, length+padding(cpioHeader+length))
		if _, err := io.ReadFull(in, name); err != nil {
			return err
		}
		text := string(name[:length-1])
		if text == "TRAILER!!!" {
			return nil
		}
		to := io.Discard
		var content bytes.Buffer
		clean := path.Clean("/" + text)
		_, wanted := files[clean]
		if wanted {
			if mode&typeMask != typeFile || links > 1 || size > maxTold {
				return fmt.Errorf("%s in it is no ordinary file of at most %d bytes", clean, maxTold)
			}
			to = &content
		}
		if _, err := io.CopyN(to, in, size); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, in, padding(size)); err != nil {
			return err
		}
		if wanted {
			files[clean] = append([]byte{}, content.Bytes()...)
		}
	}
}

// padding is how many bytes follow until the next multiple of four.
func padding(n int64) int64 { return -n & 3 }
