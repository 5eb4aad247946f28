package main

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// keepSecrets keeps what is in this process's memory out of swap and out of core dumps, and
// other programs of the same user from looking into it. Root may still open what stands in
// /proc/PID/fd: xl does.
func keepSecrets(log *slog.Logger) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		log.Warn("this process can leave a core dump with keys in it", "because", err)
	}
	// Only pages that are used: the store's file is mapped, and may be larger than the memory.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		log.Warn("keys can get into the swap space; encrypt it, or let vtpmd lock its memory (LimitMEMLOCK=infinity)", "because", err)
	}
}
