package measure

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// The most bytes that are taken of each file. All of it lies in dom0's memory until
// the guest is built.
const (
	MaxKernel        = 256 << 20
	MaxInitrd        = 1 << 30
	MaxConfiguration = 1 << 20
)

// File is what was measured of a file.
type File struct {
	// Name is for the log, and proves nothing.
	Name string
	Size int64
	// Digests has one digest for each bank that was asked for, and always SHA-256, by
	// which PCR 18 names the file whatever banks the vTPM has.
	Digests []tpm.TaggedDigest
}

// Artefact is a file whose bytes can't change any more: a sealed file in memory
// (memfd_create(2)). Who opens it by its path gets the bytes that were measured, whatever
// became of the file that they came from. Close ends it.
type Artefact struct {
	File
	memory *os.File
}

// ErrTooBig says that a file is longer than what is taken of it.
var ErrTooBig = errors.New("the file is too big to start a guest with")

// Seal reads a file once, keeps what it read as an [Artefact], and hashes that in each
// of algs. progress, which may be nil, hears how far it is every two seconds, from the second
// one on.
//
// Who may write to the file may change it at any time, also while it is being read. That changes
// what is started and what is measured alike.
func Seal(path string, limit int64, algs []tpm.Alg, progress Progress) (*Artefact, error) {
	// A FIFO would let its opener wait for ever, and so the manager.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("read what the guest starts with: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("read what the guest starts with: %w", err)
	case info.IsDir():
		return nil, fmt.Errorf("%s is a folder; a guest starts with a file", path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file (%s); a guest starts with a file", path, info.Mode().Type())
	case info.Size() == 0:
		return nil, fmt.Errorf("%s is empty", path)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s has %d bytes, and at most %d are taken: %w", path, info.Size(), limit, ErrTooBig)
	}
	a, err := seal(path, f, limit, algs, newPace(2*info.Size(), progress))
	if err != nil {
		return nil, fmt.Errorf("measure %s: %w", path, err)
	}
	return a, nil
}

// SealBytes makes an [Artefact] of bytes, such as a configuration that was changed on its
// way to the toolstack.
func SealBytes(name string, b []byte, algs []tpm.Alg) (*Artefact, error) {
	a, err := seal(name, bytes.NewReader(b), int64(len(b)), algs, newPace(0, nil))
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", name, err)
	}
	return a, nil
}

// The seals that together let nobody change a byte, not even through a descriptor
// that was opened for writing (fcntl(2)).
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// seal copies, seals, and only then hashes: a process that can open our descriptors could
// write into the copy until it is sealed, and would change what was hashed already.
func seal(name string, r io.Reader, limit int64, algs []tpm.Alg, p *pace) (_ *Artefact, err error) {
	fd, err := unix.MemfdCreate("aem-guest", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	memory := os.NewFile(uintptr(fd), name)
	defer func() {
		if err != nil {
			memory.Close()
		}
	}()
	n, err := io.Copy(memory, p.reader(io.LimitReader(r, limit+1)))
	if err != nil {
		return nil, fmt.Errorf("copy it into memory: %w", err)
	}
	if n > limit {
		return nil, fmt.Errorf("it grew over %d bytes: %w", limit, ErrTooBig)
	}
	if _, err := unix.FcntlInt(memory.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("seal its copy in memory: %w", err)
	}
	if !slices.Contains(algs, tpm.SHA256) {
		algs = append(slices.Clone(algs), tpm.SHA256)
	}
	digests, err := tpm.SumReader(algs, p.reader(io.NewSectionReader(memory, 0, n)))
	if err != nil {
		return nil, err
	}
	return &Artefact{File{Name: name, Size: n, Digests: digests}, memory}, nil
}

// Memory is the sealed file, to be handed to a child process (exec.Cmd's ExtraFiles). The
// child opens it as /proc/self/fd/N, with the N that it has there.
func (a *Artefact) Memory() *os.File { return a.memory }

// Path is where a process that was not started by us, and may look into ours, opens the
// file. The path is true until Close: after that another file may have the number, so
// whoever gives a path away keeps the artefact until it was opened.
func (a *Artefact) Path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), a.memory.Fd())
}

// Reader reads the sealed bytes from their beginning.
func (a *Artefact) Reader() *io.SectionReader { return io.NewSectionReader(a.memory, 0, a.Size) }

// Close lets the bytes go, as soon as nobody else has them open.
func (a *Artefact) Close() error { return a.memory.Close() }

// text is a line for the log. A name can be as long as a path, and hold any bytes.
func (f *File) text(what string) []byte {
	const most = 256
	name := eventlog.Printable([]byte(f.Name))
	if len(name) > most {
		name = "..." + name[len(name)-most:]
	}
	return []byte(what + " " + name)
}
