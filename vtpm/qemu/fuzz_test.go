package qemu_test

import (
	"context"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
)

// Whatever a client sends on both its channels, the server answers the next one, the
// session sees no command that is not whole, and nothing of the client is left.
func FuzzClient(f *testing.F) {
	var start []byte
	for _, q := range []swtpm.Request{
		{Command: swtpm.CmdGetCapability}, {Command: swtpm.CmdStop}, {Command: swtpm.CmdSetBufferSize, Payload: []byte{0, 0, 16, 0}},
		{Command: swtpm.CmdInit, Payload: make([]byte, 4)}, {Command: swtpm.CmdGetEstablished}, {Command: swtpm.CmdSetLocality, Payload: []byte{2, 0, 0, 0}},
	} {
		start = append(start, q.Bytes()...)
	}
	f.Add(start, startup20)
	f.Add(append(start, 0, 0, 0, 0x0d), append(startup12, 1, 2, 3))
	f.Add([]byte{0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3}, []byte("\x80\x01\xff\xff\xff\xff"))
	k := newFake(tpm.V20)
	k.execute = func(_ context.Context, at tpm.Locality, command []byte) ([]byte, error) {
		if n := len(command); n < 10 || n > 4088 || command[2] != 0 || command[3] != 0 || int(command[4])<<8|int(command[5]) != n || at > 3 {
			panic("the session was given what is not a command of a guest")
		}
		return response(tpm.V20, 0), nil
	}
	s := serve(f, k)
	f.Fuzz(func(t *testing.T, control, data []byte) {
		c := s.dial(t)
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[0])
		if _, err := c.ask(swtpm.CmdSetDataFD, nil, fds[1]); err != nil {
			t.Fatal(err)
		}
		unix.Close(fds[1])
		c.want("00000000", swtpm.CmdInit, 0, 0, 0, 0)
		c.ctl.Write(control)
		unix.Write(fds[0], data)
		unix.Shutdown(fds[0], unix.SHUT_WR)
		for buf := make([]byte, 4096); ; { // until the server has answered it all
			if n, err := unix.Read(fds[0], buf); n <= 0 || err != nil {
				break
			}
		}
		c.die()

		next := s.dial(t)
		next.want("0000000000007caf", swtpm.CmdGetCapability)
		next.die()
		k.mu.Lock()
		defer k.mu.Unlock()
		if strings.Join(k.lines, " ") == "" {
			t.Fatal("the keeper was not asked")
		}
		k.lines, k.guests = nil, nil
		s.log.mu.Lock()
		defer s.log.mu.Unlock()
		s.log.lines = nil
	})
}
