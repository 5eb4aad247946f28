package qemu_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

// A guest in a real QEMU has its vTPM on each device, which its firmware takes for
// a good one; it reboots, and its PCRs are fresh once; QEMU is killed, and the vTPM is shut down.
func TestInQEMU(t *testing.T) {
	testbed.Need(t, "qemu-system-x86_64", "swtpm")
	for _, c := range []struct {
		device  string
		version tpm.Version
		buffer  string // what the device asks for
	}{
		{"tpm-tis", tpm.V20, "00000ff8"},
		{"tpm-tis", tpm.V12, "00000ff8"},
		{"tpm-crb", tpm.V20, "00000f80"},
	} {
		t.Run(c.device+" "+c.version.String(), func(t *testing.T) {
			k := newKeeper(t, c.version)
			s := serve(t, k)
			sent := newLedger()
			im := &testbed.Image{Steps: []testbed.Step{testbed.Run("/bin/vtpmguest", "pcr"), testbed.Cat("/dev/ttyS0"), {End: "reset"}}}
			if err := im.Program("bin/vtpmguest", "./internal/vtpmguest"); err != nil {
				t.Fatal(err)
			}
			g := testbed.NewGuest(t, testbed.Config{Image: im, TPM: s.between(t, sent), TPMDevice: c.device, Resets: true, Patient: true})
			boot := func() {
				t.Helper()
				m, err := g.Expect(t.Context(), `VTPMGUEST ([^\r\n]*)\r?\n|GUEST broken[^\n]*\n`)
				if err != nil {
					t.Fatal(err)
				}
				said := strings.Fields(m[1]) // TPM 2.0, and PCR 16 before and after its extend
				if len(said) != 4 || strings.Join(said[:2], " ") != c.version.String() || strings.Trim(said[2], "0") != "" || strings.Trim(said[3], "0") == "" {
					t.Errorf("the guest says: %s", m[0])
				}
			}
			boot()
			if diff := cmp.Diff([]string{"attach"}, k.life()); diff != "" {
				t.Errorf("after the first boot: %s", diff)
			}
			if err := g.Type("\x04"); err != nil { // Ctrl-D: it goes on, and reboots
				t.Fatal(err)
			}
			boot()
			if diff := cmp.Diff([]string{"attach", "reset"}, k.life()); diff != "" {
				t.Errorf("after the reboot: %s", diff)
			}
			g.Kill()
			k.wait("end", 1)
			if diff := cmp.Diff([]string{"attach", "reset", "end"}, k.life()); diff != "" {
				t.Errorf("after QEMU's end: %s", diff)
			}
			if broken := k.switchedOff(c.version); len(broken) > 0 {
				t.Errorf("the firmware took the TPM for a broken one: %q", broken)
			}
			got := power(sent.all())
			if diff := cmp.Diff(transcript(c.buffer, len(got)), got); diff != "" {
				t.Errorf("QEMU sent something else than the package says: %s", diff)
			}
		})
	}
}

// transcript is what QEMU 7.2 sends of what touches the power and the buffer: its start,
// the machine's start, and each reset. Linux's reboot makes one to three of them.
func transcript(buffer string, length int) []string {
	list := []string{"0x10 ", "0x1 "}
	for len(list) < max(length, 12) {
		list = append(list, "0xe ", "0x11 00000000", "0xe ", "0x11 "+buffer, "0x2 00000000")
	}
	return list
}

// power leaves out what QEMU sends for commands, also for those that a driver cancels because they take long, and
// for the guest's look at registers.
func power(sent []string) []string {
	return slices.DeleteFunc(sent, func(line string) bool {
		return strings.HasPrefix(line, "0x4 ") || strings.HasPrefix(line, "0x5 ") || strings.HasPrefix(line, "0x9 ")
	})
}

// between makes a socket that passes everything on to the server, and notes requests.
func (s *server) between(t *testing.T, sent *ledger) (path string) {
	t.Helper()
	l, err := swtpm.Listen(s.path + "-qemu")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		near, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer near.Close()
		far, err := swtpm.DialControl(s.path)
		if err != nil {
			return
		}
		defer far.Close()
		requests := swtpm.NewRequests(near)
		defer requests.Close()
		for {
			q, err := requests.Next()
			if err != nil {
				return
			}
			sent.note("%#x %x", uint32(q.Command), q.Payload)
			var oob []byte
			if q.File != nil {
				oob = unix.UnixRights(int(q.File.Fd()))
			}
			answer, err := far.Transact(q.Bytes(), oob)
			if q.File != nil {
				q.File.Close()
			}
			if err != nil {
				return
			}
			near.Write(answer)
		}
	}()
	return s.path + "-qemu"
}

// keeper gives guests a real swtpm, started afresh.
type keeper struct {
	*ledger
	version  tpm.Version
	emulator *testbed.Emulator
}

func newKeeper(t *testing.T, v tpm.Version) *keeper {
	t.Helper()
	c, e := testbed.NewTPM(t, v)
	c.Close()
	return &keeper{newLedger(), v, e}
}

// life is what happened but for commands.
func (k *keeper) life() []string {
	return slices.DeleteFunc(k.all(), func(line string) bool { return strings.HasPrefix(line, "command ") })
}

// switchedOff are the commands by which SeaBIOS leaves a TPM that it takes for broken to
// nobody: TPM2_HierarchyControl, TPM_SetTempDeactivated.
func (k *keeper) switchedOff(v tpm.Version) []string {
	code := "command 0x121"
	if v == tpm.V12 {
		code = "command 0x73"
	}
	return slices.DeleteFunc(k.all(), func(line string) bool { return line != code })
}

func (k *keeper) Attach(context.Context, vtpm.Guest) (vtpm.Session, error) {
	k.note("attach")
	c, err := k.emulator.Connect()
	if err != nil {
		return nil, err
	}
	if err := testbed.PowerOn(c, k.version); err != nil {
		return nil, err
	}
	return &session{keeper: k, tpm: c}, nil
}

// session is one guest at its swtpm.
type session struct {
	*keeper
	mu  sync.Mutex
	tpm *swtpm.TPM
}

func (s *session) Version() tpm.Version { return s.version }

func (s *session) Execute(_ context.Context, at tpm.Locality, command []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note("command %#x", binary.BigEndian.Uint32(command[6:]))
	if err := s.tpm.SetLocality(at); err != nil {
		return nil, err
	}
	return s.tpm.Send(command)
}

func (s *session) Cancel() error {
	return fmt.Errorf("there is no command to cancel: %w", net.ErrClosed)
}

func (s *session) Reset(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note("reset")
	if err := testbed.PowerOff(s.tpm, s.version); err != nil {
		return err
	}
	return testbed.PowerOn(s.tpm, s.version)
}

func (s *session) Log() ([]byte, error) { return nil, nil }

func (s *session) Close() error { return nil }

func (s *session) End() error {
	s.note("end")
	return s.tpm.Close()
}
