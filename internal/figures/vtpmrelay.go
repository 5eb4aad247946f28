package main

import (
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/swtpm"
)

// A relay is the least that can stand between a guest and its TPM: a process that reads each
// command and each response and passes it on. What vtpmd costs above that is its own.

// relayed is a guest behind a relay, which is this program started once more.
func relayed(control *swtpm.Control) (*guest, *exec.Cmd, error) {
	g, err := newGuest(control)
	if err != nil {
		return nil, nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return g, nil, err
	}
	far, tpm := os.NewFile(uintptr(fds[1]), "guest"), os.NewFile(uintptr(g.data), "TPM")
	defer far.Close()
	defer tpm.Close()
	g.data = fds[0]
	relay := exec.Command("/proc/self/exe", "relay")
	relay.ExtraFiles = []*os.File{far, tpm}
	return g, relay, relay.Start()
}

// relay passes on between the descriptors 3 and 4 until one of them ends.
func relay() error {
	runtime.LockOSThread()
	buf := make([]byte, 4096)
	for from, to := 3, 4; ; from, to = to, from {
		n, err := unix.Read(from, buf)
		if err != nil || n == 0 {
			return err
		}
		if _, err := unix.Write(to, buf[:n]); err != nil {
			return err
		}
	}
}
