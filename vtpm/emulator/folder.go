package emulator

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/tpm"
)

// The names that swtpm's folder backend gives its files.
type names struct{ permanent, volatile string }

func fileNames(v tpm.Version) names {
	if v == tpm.V20 {
		return names{"tpm2-00.permall", "tpm2-00.volatilestate"}
	}
	return names{"tpm-00.permall", "tpm-00.volatilestate"}
}

// folder is where one emulator keeps its state, by descriptor: the path leads to it only in
// the emulator's own view. The process that writes there may be the guest's by now, so what is
// read is a regular file of bounded size, or an error.
type folder struct {
	names
	dir    *os.File
	remove func() // takes the folder off the machine

	// file is the newest permanent state that was seen, held open. swtpm writes each new
	// one beside it and renames it over this one, which then has no name any more: one
	// fstat tells. While we hold it, no other file can get its inode number.
	file  *os.File
	stamp stamp
	state []byte
}

type stamp struct {
	links uint64
	size  int64
	mtime unix.Timespec
}

func stampOf(f *os.File) (stamp, error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return stamp{}, fmt.Errorf("look at a vTPM's state: %w", err)
	}
	if s.Mode&unix.S_IFMT != unix.S_IFREG {
		return stamp{}, errors.New("a vTPM's state is no regular file any more: its emulator is not to be trusted")
	}
	return stamp{uint64(s.Nlink), s.Size, s.Mtim}, nil
}

// put writes a file for the emulator to find.
func (f *folder) put(name string, b []byte, uid, gid uint32) error {
	fd, err := unix.Openat(int(f.dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("hand a vTPM its state: %w", err)
	}
	file := os.NewFile(uintptr(fd), name)
	_, err = file.Write(b)
	if err == nil && os.Geteuid() == 0 {
		err = file.Chown(int(uid), int(gid))
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("hand a vTPM its state: %w", err)
	}
	return nil
}

// open opens a file that the emulator wrote, without following it anywhere.
func (f *folder) open(name string) (*os.File, error) {
	fd, err := unix.Openat(int(f.dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a vTPM's state: %w", &fs.PathError{Op: "open", Path: name, Err: err})
	}
	return os.NewFile(uintptr(fd), name), nil
}

// refresh reads the permanent state where it has changed since it was last read.
func (f *folder) refresh() (changed bool, err error) {
	if f.file != nil {
		if now, err := stampOf(f.file); err != nil || now == f.stamp {
			return false, err
		}
	}
	file, err := f.open(f.permanent)
	if err != nil {
		return false, err
	}
	s, err := stampOf(file)
	var b []byte
	if err == nil {
		b, err = readState(file)
	}
	if err != nil {
		file.Close()
		return false, err
	}
	if f.file != nil {
		f.file.Close()
	}
	f.file, f.stamp, f.state = file, s, b
	return true, nil
}

// takeVolatile reads the volatile state and removes it: a power-on that finds it there goes on where it was.
func (f *folder) takeVolatile() ([]byte, error) {
	file, err := f.open(f.volatile)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := stampOf(file); err != nil {
		return nil, err
	}
	if err := unix.Unlinkat(int(f.dir.Fd()), f.volatile, 0); err != nil {
		return nil, fmt.Errorf("remove a vTPM's volatile state: %w", err)
	}
	return readState(file)
}

func readState(file *os.File) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(file, stateLimit+1))
	if err != nil {
		return nil, fmt.Errorf("read a vTPM's state: %w", err)
	}
	if len(b) > stateLimit {
		return nil, fmt.Errorf("a vTPM's state has more than %d bytes", stateLimit)
	}
	return b, nil
}

func (f *folder) close() {
	if f.file != nil {
		f.file.Close()
	}
	f.dir.Close()
	f.remove()
}
