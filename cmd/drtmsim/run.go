package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/swtpm"
)

// run serves QEMU, or with --once=false one QEMU after another, until ctx ends.
func run(ctx context.Context, c config, progress io.Writer) error {
	sim, err := newSimulator(c, progress)
	if err != nil {
		return err
	}
	defer sim.close()
	l, err := listen(c.listen)
	if err != nil {
		return err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		sim.say("waiting for QEMU at %s", c.listen)
		qemu, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("wait for QEMU: %w", err)
		}
		err = connect(ctx, sim, qemu)
		if err != nil || c.once || ctx.Err() != nil {
			return err
		}
	}
}

// connect serves one QEMU. swtpm is only now called upon: it serves one client
// at a time, and a test may want to look into it before.
func connect(ctx context.Context, sim *simulator, qemu *net.UnixConn) error {
	ctl, err := swtpm.DialControl(sim.swtpm)
	if err != nil {
		qemu.Close()
		return fmt.Errorf("%w; is swtpm running, and with --ctrl type=unixio,path=%s?", err, sim.swtpm)
	}
	sim.say("QEMU is connected")
	if err := serve(ctx, sim, qemu, ctl); err != nil {
		return err
	}
	sim.say("QEMU has disconnected")
	return nil
}

// listen makes the socket. One that a process left behind when it died is
// replaced, one on which somebody listens is not.
func listen(path string) (*net.UnixListener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
			return nil, fmt.Errorf("somebody listens on %s already; choose another --listen", path)
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
