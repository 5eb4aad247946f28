package fdstore

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Pollable is another descriptor of a file that was held, on which Go waits without a thread: who hands files over
// makes them ones that block.
func Pollable(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		if err = unix.SetNonblock(fd, true); err == nil {
			return os.NewFile(uintptr(fd), f.Name()), nil
		}
		unix.Close(fd)
	}
	return nil, fmt.Errorf("wait on %s, which was held: %w", f.Name(), err)
}
