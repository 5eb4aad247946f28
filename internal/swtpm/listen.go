package swtpm

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// maxPath is how long a socket's path may be: sockaddr_un's 108 bytes, with a zero (unix(7)).
const maxPath = 107

// Listen makes the control socket of one who speaks swtpm's part, for its owner
// alone. A socket that a process left behind when it died is replaced; one on which
// somebody listens is an error.
func Listen(path string) (*net.UnixListener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("the socket's path %s has %d bytes, and %d are possible; choose a shorter one", path, len(path), maxPath)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
			return nil, fmt.Errorf("somebody listens on %s already; choose another socket", path)
		}
		if errors.Is(err, unix.ECONNREFUSED) {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("remove the socket that a dead process left behind: %w", err)
			}
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make the socket for QEMU: %w", err)
	}
	// Who can reach the TPM's commands can also extend its PCRs.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("keep others away from the socket: %w", err)
	}
	return l, nil
}
