package aem

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrMeanwhile says that what an approval was computed from is not in force any more.
var ErrMeanwhile = errors.New("something else was approved meanwhile; nothing was changed, look again")

// lock waits until no other program seals. A package manager's hook may run while the
// owner approves by hand, and two that seal at once could each move the counter past
// the other's record. The lock is on the folder, and ends with the program.
func (h Home) lock() (unlock func(), err error) {
	d, err := os.Open(h.dir)
	if err != nil {
		return nil, fmt.Errorf("lock the set-up: %w", err)
	}
	for {
		if err = unix.Flock(int(d.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("lock the set-up: %w", err)
	}
	return func() { d.Close() }, nil
}

// locked does what seals, under the lock and with the set-up as it is then.
func (h Home) locked(run func(*Setup) ([]Sealed, error)) ([]Sealed, error) {
	if _, err := h.Setup(); err != nil {
		return nil, err
	}
	unlock, err := h.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	s, err := h.Setup()
	if err != nil {
		return nil, err
	}
	return run(s)
}
