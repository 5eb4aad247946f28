package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"syscall"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// bucketName is the one bucket of the file.
const bucketName = "vtpms"

func options(open func(string, int, os.FileMode) (*os.File, error)) *bolt.Options {
	return &bolt.Options{
		OpenFile: open, PageSize: pageSize, NoStatistics: true,
		// The list of free pages is made anew from what is in use: a damaged one would have
		// pages in use overwritten.
		NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
	}
}

// openFile locks an existing file, looks at its pages and has bbolt open it.
func openFile(path string) (*bolt.DB, error) { return openWith(path, os.O_RDWR, syscall.LOCK_EX) }

// readFile is openFile for a file that is not to be changed, such as a backup.
func readFile(path string) (*bolt.DB, error) { return openWith(path, os.O_RDONLY, syscall.LOCK_SH) }

func openWith(path string, mode, lock int) (*bolt.DB, error) {
	var f *os.File
	// bbolt locks the file too, on the same descriptor, which finds the lock taken by itself.
	o := options(func(string, int, os.FileMode) (_ *os.File, err error) {
		f, err = os.OpenFile(path, mode|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w at %s", ErrMissing, path)
		}
		if err != nil {
			return nil, fmt.Errorf("open the vTPM store: %w", err)
		}
		if err := lockAndCheck(f, lock); err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	})
	o.ReadOnly = mode == os.O_RDONLY
	var db *bolt.DB
	err := protect(func() (err error) {
		db, err = bolt.Open(path, 0o600, o)
		return err
	})
	if broke := (*brokeError)(nil); errors.As(err, &broke) {
		f.Close() // bbolt does so after an error, and not after a panic
	}
	return db, err
}

func lockAndCheck(f *os.File, lock int) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open the vTPM store: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("the vTPM store %s: %w: it is no file", f.Name(), ErrDamaged)
	}
	switch err := syscall.Flock(int(f.Fd()), lock|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return fmt.Errorf("%w: %s", ErrBusy, f.Name())
	case err != nil:
		return fmt.Errorf("lock the vTPM store: %w", err)
	}
	if err := checkPages(f, info.Size()); err != nil {
		return fmt.Errorf("the vTPM store %s: %w: %w", f.Name(), ErrDamaged, err)
	}
	return nil
}

// protect runs what calls bbolt. bbolt panics where its file contradicts itself, and the
// kernel faults where the file ends before its last page; both become [ErrDamaged].
func protect(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &brokeError{p}
		}
	}()
	return f()
}

// brokeError is what bbolt, or the kernel, said of a file that contradicts itself.
type brokeError struct{ cause any }

func (e *brokeError) Error() string {
	return fmt.Sprintf("the vTPM store: %v: %v", ErrDamaged, e.cause)
}
func (e *brokeError) Unwrap() error { return ErrDamaged }
