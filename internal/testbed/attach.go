package testbed

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// detachKey is Ctrl-], as in telnet: no program in a guest has a use for it.
const detachKey = 0x1d

// Attach joins a person's terminal to the guest's serial line until the guest
// ends or the person presses Ctrl-]. The transcript goes on being kept. What
// was printed since the last Expect is shown first.
func (g *Guest) Attach(in, out *os.File) error {
	if term.IsTerminal(int(in.Fd())) {
		old, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return fmt.Errorf("take over the terminal: %w", err)
		}
		defer term.Restore(int(in.Fd()), old)
	}
	g.console.copy(out)
	defer g.console.copy(nil)

	// A read of the terminal can't be cancelled, and one left behind would eat
	// the person's next key: so poll, with a pipe that closes when the guest ends.
	over, end, err := os.Pipe()
	if err != nil {
		return err
	}
	defer over.Close()
	go func() {
		<-g.console.done
		end.Close()
	}()
	fds := []unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}, {Fd: int32(over.Fd())}}
	buf := make([]byte, 256)
	for {
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			return fmt.Errorf("wait for a key: %w", err)
		}
		if fds[1].Revents != 0 {
			return nil
		}
		n, err := in.Read(buf)
		if err != nil { // the input has ended; the guest goes on
			fds[0].Fd = -1
			continue
		}
		if i := bytes.IndexByte(buf[:n], detachKey); i >= 0 {
			return g.Type(string(buf[:i]))
		}
		if err := g.Type(string(buf[:n])); err != nil {
			return err
		}
	}
}
