package qemu_test

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

func TestAGuestsLife(t *testing.T) {
	f := newFake(tpm.V20)
	s := serve(t, f)
	c := s.start(t)
	if diff := cmp.Diff([]string{"attach"}, f.all()); diff != "" {
		t.Errorf("after the start: %s", diff)
	}
	c.send(readClock)
	c.negotiate()
	c.want("00000000", swtpm.CmdInit, 0, 0, 0, 0)
	c.die()
	f.wait("end", 1)
	want := []string{"attach", "execute at 0: 80010000000a00000181", "reset", "end"}
	if diff := cmp.Diff(want, f.all()); diff != "" {
		t.Errorf("until the end: %s", diff)
	}
}

// A guest that reboots resets its machine as often as it likes.
func TestWhatIsFreshIsNotReset(t *testing.T) {
	f := newFake(tpm.V20)
	c := serve(t, f).start(t)
	for range 2 {
		c.negotiate()
		c.want("00000000", swtpm.CmdInit, 0, 0, 0, 0)
	}
	c.send(readClock)
	for range 3 {
		c.want("00000000", swtpm.CmdInit, 0, 0, 0, 0)
	}
	c.send(readClock)
	c.want("00000000", swtpm.CmdInit, 0, 0, 0, 0)
	want := []string{"attach", "execute at 0: 80010000000a00000181", "reset", "execute at 0: 80010000000a00000181", "reset"}
	if diff := cmp.Diff(want, f.all()); diff != "" {
		t.Error(diff)
	}
}

// A command that a reset overtakes may have come after it.
func TestACommandDuringAResetIsAUse(t *testing.T) {
	f := newFake(tpm.V20)
	release := make(chan struct{})
	f.execute = func(context.Context, tpm.Locality, []byte) ([]byte, error) {
		f.note("long command")
		<-release
		return response(f.version, 0), nil
	}
	c := serve(t, f).start(t)
	c.data.Write(readClock)
	f.wait("long command", 1)
	c.want("00000000", swtpm.CmdInit, 0, 0, 0, 0)
	close(release)
	if _, err := swtpm.ReadPacket(c.data); err != nil {
		t.Fatal(err)
	}
	c.want("00000000", swtpm.CmdInit, 0, 0, 0, 0)
	if diff := cmp.Diff([]string{"attach", "long command", "reset", "reset"}, f.all()); diff != "" {
		t.Error(diff)
	}
}

func TestStopAloneIsNoReset(t *testing.T) {
	f := newFake(tpm.V20)
	c := serve(t, f).start(t)
	c.send(readClock)
	for range 3 {
		c.negotiate()
	}
	if slices.Contains(f.all(), "reset") {
		t.Error("the vTPM was reset while the machine ran")
	}
}

func TestEachConnectionIsAnotherGuest(t *testing.T) {
	f := newFake(tpm.V20)
	s := serve(t, f)
	for range 2 {
		s.start(t).die()
	}
	f.wait("end", 2)
	if diff := cmp.Diff([]string{"attach", "end", "attach", "end"}, f.all()); diff != "" {
		t.Error(diff)
	}
	a, b := f.guests[0], f.guests[1]
	if a.Birth == "" || a.Birth == b.Birth {
		t.Errorf("the births are %q and %q", a.Birth, b.Birth)
	}
	a.Birth = ""
	if diff := cmp.Diff(vtpm.Guest{UUID: uuid, Domain: "qemu:" + s.path, Firmware: true}, a); diff != "" {
		t.Error(diff)
	}
}

// Whoever looks whether somebody listens is no guest.
func TestAConnectionAloneAsksForNothing(t *testing.T) {
	f := newFake(tpm.V20)
	s := serve(t, f)
	s.dial(t).die()
	s.log.wait("the client has gone", 1)
	if got := f.all(); len(got) != 0 {
		t.Errorf("the keeper was asked: %q", got)
	}
}

func TestShutdownIsTheEnd(t *testing.T) {
	f := newFake(tpm.V20)
	c := serve(t, f).start(t)
	c.want("00000000", swtpm.CmdShutdown)
	if _, err := c.ctl.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("afterwards the control socket says: %v", err)
	}
	f.wait("end", 1)
}

func TestASecondClientIsRefusedAtOnce(t *testing.T) {
	f := newFake(tpm.V20)
	s := serve(t, f)
	first := s.start(t)
	second := s.dial(t)
	if _, err := second.ask(swtpm.CmdGetCapability, nil); err == nil {
		t.Fatal("it was answered")
	}
	s.log.wait("stop that QEMU first", 1)
	first.send(readClock)
	if diff := cmp.Diff([]string{"attach", "execute at 0: 80010000000a00000181"}, f.all()); diff != "" {
		t.Error(diff)
	}
}

// A client that is gone while its reset is still under way is none that is in the way.
func TestTheNextGuestWaitsForTheEndOfTheOneBefore(t *testing.T) {
	f := newFake(tpm.V20)
	release := make(chan struct{})
	f.reset = func() error { <-release; return nil }
	s := serve(t, f)
	first := s.start(t)
	first.send(readClock)
	first.ctl.Write(swtpm.Request{Command: swtpm.CmdInit, Payload: make([]byte, 4)}.Bytes())
	f.wait("reset", 1)
	first.die()
	second := s.dial(t)
	close(release)
	second.want("00000000", swtpm.CmdStop)
	if diff := cmp.Diff([]string{"attach", "execute at 0: 80010000000a00000181", "reset", "end", "attach"}, f.all()); diff != "" {
		t.Error(diff)
	}
}

func TestARefusedGuestIsTold(t *testing.T) {
	f := newFake(tpm.V20)
	f.attach = func(vtpm.Guest) error { return errors.New("the host was not launched as approved") }
	s := serve(t, f)
	c := s.dial(t)
	c.want("00000009", swtpm.CmdGetCapability)
	if _, err := c.ctl.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("afterwards the control socket says: %v", err)
	}
	s.log.wait("the host was not launched as approved", 1)
	if slices.Contains(f.all(), "end") {
		t.Error("a session was ended that never was")
	}
}

// A vTPM that could not be reset or has died is not used any more.
func TestAGoneVTPMEndsTheGuests(t *testing.T) {
	killed := errors.New("swtpm was killed")
	for name, lose := range map[string]func(*client){
		"reset": func(c *client) { c.want("00000009", swtpm.CmdInit, 0, 0, 0, 0) },
		"command": func(c *client) {
			c.data.Write(readClock)
			if n, err := c.data.Read(make([]byte, 10)); err == nil {
				c.t.Errorf("the command was answered with %d bytes", n)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(tpm.V20)
			f.reset = func() error { return killed }
			f.execute = func(_ context.Context, _ tpm.Locality, command []byte) ([]byte, error) {
				if string(command) == string(startup20) {
					return response(tpm.V20, 0), nil
				}
				return nil, killed
			}
			s := serve(t, f)
			c := s.start(t)
			c.send(startup20)
			lose(c)
			if _, err := c.ctl.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("afterwards the control socket says: %v", err)
			}
			f.wait("end", 1)
			s.log.wait("swtpm was killed", 1)
		})
	}
}

func TestTheServersEndIsTheGuests(t *testing.T) {
	f := newFake(tpm.V20)
	s := serve(t, f)
	c := s.start(t)
	s.end()
	if err := <-s.done; err != nil {
		t.Errorf("it ended with: %v", err)
	}
	if _, err := c.ctl.Read(make([]byte, 1)); err == nil {
		t.Error("the connection lives on")
	}
	if got := f.all(); !slices.Contains(got, "end") {
		t.Errorf("the session was not ended: %q", got)
	}
	if _, err := os.Stat(s.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// A command that takes long does not outlive its guest.
func TestTheClientsDeathEndsItsCommand(t *testing.T) {
	f := newFake(tpm.V20)
	f.execute = func(ctx context.Context, _ tpm.Locality, _ []byte) ([]byte, error) {
		f.note("long command")
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s := serve(t, f)
	c := s.start(t)
	c.data.Write(readClock)
	f.wait("long command", 1)
	c.die()
	f.wait("end", 1)
	s.log.wait("the client has gone", 1)
	if log := strings.Join(s.log.all(), "\n"); strings.Contains(log, "ERROR") {
		t.Errorf("the log: %s", log)
	}
}
