package emulator

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// process is an emulator's: our child, or the child of a manager that died.
type process interface {
	kill()
	wait() string // how it ended
	stderr() *os.File
	handle() (*os.File, error) // another pidfd
	close()
}

// child is one that we started.
type child struct {
	cmd   *exec.Cmd
	said  *os.File
	pidfd int // -1 where nobody is to take it over
}

func (c *child) kill()            { c.cmd.Process.Kill() }
func (c *child) stderr() *os.File { return c.said }

func (c *child) wait() string {
	if err := c.cmd.Wait(); c.cmd.ProcessState == nil {
		return err.Error()
	}
	return c.cmd.ProcessState.String()
}

func (c *child) handle() (*os.File, error) { return duplicate(c.pidfd) }

func (c *child) close() {
	c.said.Close()
	if c.pidfd >= 0 {
		unix.Close(c.pidfd)
	}
}

// orphan is one that a manager before us started. Its number may be another process's when it has
// ended: only its pidfd is sure.
type orphan struct {
	pidfd *os.File
	said  *os.File
}

func (o *orphan) kill() {
	o.with(func(fd int) { unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) })
}

// wait waits until the process has ended. Whose child it is by now gets its status.
func (o *orphan) wait() string {
	raw, err := o.pidfd.SyscallConn()
	if err == nil {
		err = raw.Read(func(fd uintptr) bool { return ended(int(fd)) })
	}
	if err != nil {
		return err.Error()
	}
	return "a manager before this one had started it"
}

func (o *orphan) stderr() *os.File { return o.said }

func (o *orphan) handle() (f *os.File, err error) {
	if e := o.with(func(fd int) { f, err = duplicate(fd) }); e != nil {
		return nil, e
	}
	return f, err
}

func (o *orphan) close() {
	o.pidfd.Close()
	o.said.Close()
}

func (o *orphan) with(f func(fd int)) error {
	raw, err := o.pidfd.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
	return err
}

// ended reports whether the process of a pidfd has ended (pidfd_open(2): it is readable then).
func ended(pidfd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

func duplicate(fd int) (*os.File, error) {
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate a descriptor: %w", err)
	}
	return os.NewFile(uintptr(d), "duplicate"), nil
}
