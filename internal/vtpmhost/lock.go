package vtpmhost

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/vtpm/store"
)

// Lock takes the folder of the store for one program, until the closer is closed or the process has
// ended. It comes before the TPM is opened, which not every machine lets two programs do.
func (w Where) Lock() (io.Closer, error) {
	if err := os.MkdirAll(w.State, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the vTPM manager: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(w.State, "lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the folder of the vTPM manager: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", w.State, store.ErrBusy)
		}
		return nil, fmt.Errorf("lock the folder of the vTPM manager: %w", err)
	}
	return f, nil
}
