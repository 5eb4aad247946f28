package vtpmhost

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// KeepSecrets keeps what is in this process's memory out of swap and out of core dumps, and
// other programs of the same user from looking into it. Root may still open what stands in
// /proc/PID/fd: xl does. The error says what could not be had.
func KeepSecrets() error {
	var dump, swap error
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		dump = fmt.Errorf("this process can leave a core dump with keys in it: %w", err)
	}
	// Only pages that are used: the store's file is mapped, and may be larger than the memory.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		swap = fmt.Errorf("keys can get into the swap space; encrypt it, or let the program lock its memory (LimitMEMLOCK=infinity): %w", err)
	}
	return errors.Join(dump, swap)
}
