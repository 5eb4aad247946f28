package vtpmx

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/tpm"
)

// session notes commands.
type session struct {
	version tpm.Version
	lines   []string
	err     error
	long    chan struct{} // closed when a long command has begun
}

func (s *session) Version() tpm.Version { return s.version }
func (s *session) Execute(ctx context.Context, at tpm.Locality, command []byte) ([]byte, error) {
	if string(command) == "a long command" {
		close(s.long)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.lines = append(s.lines, fmt.Sprintf("%d %x", at, command))
	return []byte("a response"), s.err
}
func (s *session) Cancel() error               { return nil }
func (s *session) Reset(context.Context) error { return nil }
func (s *session) Log() ([]byte, error)        { return nil, nil }
func (s *session) Close() error                { return nil }
func (s *session) End() error                  { return nil }

// newKernel is a device whose kernel is the test, and the kernel's end. What the kernel's driver does, a
// socket that keeps packets apart does as well.
func newKernel(t *testing.T) (*Device, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &Device{Number: 7, fd: fds[1]}, fds[0]
}

// serve serves such a device.
func serve(t *testing.T, ctx context.Context, s *session) (kernel int, done chan error) {
	t.Helper()
	d, kernel := newKernel(t)
	done = make(chan error, 1)
	go func() {
		done <- d.Serve(ctx, s)
		d.Close()
	}()
	return kernel, done
}

// A device outlives its process by a copy of its descriptor. The command that the process died with
// is asked for again, in the word that the driver knows.
func TestTheNextProcessAsksForTheCommandAgain(t *testing.T) {
	for v, again := range map[tpm.Version]string{tpm.V20: "\x80\x01\x00\x00\x00\x0a\x00\x00\x09\x22", tpm.V12: "\x00\xc4\x00\x00\x00\x0a\x00\x00\x09\x22"} {
		first, kernel := newKernel(t)
		kept, err := first.File()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(kernel, []byte("a command")); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Read(first.fd, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		second, err := Resume(first.Number, kept)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		s := &session{version: v}
		done := make(chan error, 1)
		go func() { done <- second.Serve(ctx, s) }()
		b := make([]byte, 100)
		n, err := unix.Read(kernel, b)
		if err != nil || string(b[:n]) != again {
			t.Errorf("%s: the driver reads %q, %v", v, b[:n], err)
		}
		if got := ask(t, kernel, "a command"); got != "a response" || second.Number != 7 {
			t.Errorf("%s: the response is %q, of device %d", v, got, second.Number)
		}
		stop()
		if err := errors.Join(<-done, second.Close()); err != nil {
			t.Error(err)
		}
		if n, err := unix.Read(kernel, b); n != 0 || err != nil {
			t.Errorf("the device is still served: %d, %v", n, err)
		}
		unix.Close(kernel)
	}
}

func ask(t *testing.T, kernel int, command string) string {
	t.Helper()
	if _, err := unix.Write(kernel, []byte(command)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, err := unix.Read(kernel, b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestTheDriverChoosesTheLocality(t *testing.T) {
	for v, c := range map[tpm.Version]struct{ command, tag string }{tpm.V20: {"\x80\x02", "\x80\x01"}, tpm.V12: {"\x00\xc1", "\x00\xc4"}} {
		ctx, stop := context.WithCancel(t.Context())
		s := &session{version: v}
		kernel, done := serve(t, ctx, s)
		locality := c.command + "\x00\x00\x00\x0b\x20\x00\x10\x00"
		for _, x := range []struct{ command, response string }{
			{"a command", "a response"},
			{locality + "\x02", c.tag + "\x00\x00\x00\x0a\x00\x00\x00\x00"},
			{"another", "a response"},
			{locality + "\x04", c.tag + "\x00\x00\x00\x0a\x00\x00\x00\x3d"},
			{"the third", "a response"},
			{locality + "\x01\x01", "a response"}, // not the driver's
		} {
			if got := ask(t, kernel, x.command); got != x.response {
				t.Errorf("%s: %q has the response %q", v, x.command, got)
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("it ended with: %v", err)
		}
		want := []string{"0 " + fmt.Sprintf("%x", "a command"), "2 " + fmt.Sprintf("%x", "another"), "2 " + fmt.Sprintf("%x", "the third"), "2 " + fmt.Sprintf("%x", locality+"\x01\x01")}
		if diff := cmp.Diff(want, s.lines); diff != "" {
			t.Errorf("%s: %s", v, diff)
		}
		unix.Close(kernel)
	}
}

func TestAGoneVTPMIsAnError(t *testing.T) {
	kernel, done := serve(t, t.Context(), &session{version: tpm.V20, err: errors.New("swtpm was killed")})
	defer unix.Close(kernel)
	unix.Write(kernel, []byte("a command"))
	if err := <-done; err == nil || !strings.Contains(err.Error(), "/dev/tpm7") || !strings.Contains(err.Error(), "swtpm was killed") {
		t.Errorf("it ended with: %v", err)
	}
}

func TestTheEndEndsALongCommand(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	s := &session{version: tpm.V20, long: make(chan struct{})}
	kernel, done := serve(t, ctx, s)
	defer unix.Close(kernel)
	unix.Write(kernel, []byte("a long command"))
	<-s.long
	stop()
	if err := <-done; err != nil {
		t.Errorf("it ended with: %v", err)
	}
}
