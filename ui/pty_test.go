package ui

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal: the far end of a serial line.
type terminal struct {
	t      *testing.T
	master *os.File
	tty    *os.File

	mu   sync.Mutex
	seen bytes.Buffer
	more chan struct{}
}

// newTerminal opens a terminal of 0 by 0 cells, as a serial line has.
func newTerminal(t *testing.T) *terminal {
	t.Helper()
	// Non-blocking, so that closing it ends the read that waits on it.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	term := &terminal{t: t, master: master, tty: tty, more: make(chan struct{}, 1)}
	go term.read()
	return term
}

func (x *terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := x.master.Read(buf)
		if err != nil {
			return
		}
		x.mu.Lock()
		x.seen.Write(buf[:n])
		x.mu.Unlock()
		select {
		case x.more <- struct{}{}:
		default:
		}
	}
}

// expect waits until a text has been written.
func (x *terminal) expect(text string) {
	x.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		x.mu.Lock()
		found := strings.Contains(x.seen.String(), text)
		x.mu.Unlock()
		if found {
			return
		}
		select {
		case <-x.more:
		case <-deadline:
			x.t.Fatalf("the terminal never showed %q; it showed %q", text, x.seen.String())
		}
	}
}

func (x *terminal) send(keys string) {
	x.t.Helper()
	if _, err := x.master.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

type result struct {
	answer Answer
	err    error
}

func (x *terminal) start(show func(Screen) (Answer, error)) <-chan result {
	x.t.Helper()
	x.t.Setenv("TERM", "linux")
	s, err := New(x.tty)
	if err != nil {
		x.t.Fatal(err)
	}
	done := make(chan result, 1)
	go func() {
		a, err := show(s)
		if cerr := s.Close(); err == nil {
			err = cerr
		}
		done <- result{a, err}
	}()
	return done
}

func TestASerialLineWithoutASizeIsDrawnOn(t *testing.T) {
	x := newTerminal(t)
	done := x.start(func(s Screen) (Answer, error) { return s.ShowProof(context.Background(), proof()) })
	x.expect("lighthouse")
	x.expect("no + Enter")
	x.send("\r")
	if r := <-done; r.answer != Confirmed || r.err != nil {
		t.Errorf("answered with %v, %v", r.answer, r.err)
	}
	// Nothing of it stays: the last thing written clears the screen and its history.
	x.expect(clearAll + clearAll)
}

func TestCtrlCAndEscapeDoNotConfirm(t *testing.T) {
	x := newTerminal(t)
	done := x.start(func(s Screen) (Answer, error) { return s.ShowProof(context.Background(), proof()) })
	x.expect("no + Enter")
	x.send("\x03\x04x")
	x.expect("x_")
	x.send("\r")
	x.expect("Press Enter alone")
	x.send("no\r")
	if r := <-done; r.answer != Rejected || r.err != nil {
		t.Errorf("answered with %v, %v", r.answer, r.err)
	}
}

func TestOnlyTheWholeWordLeadsOn(t *testing.T) {
	x := newTerminal(t)
	done := x.start(func(s Screen) (Answer, error) { return s.ShowRefusal(context.Background(), refusal()) })
	x.expect("switch off")
	x.send(UnprovenWord + "\r")
	if r := <-done; r.answer != ContinueUnproven || r.err != nil {
		t.Errorf("answered with %v, %v", r.answer, r.err)
	}
}

func TestAContextThatEndsIsNoAnswer(t *testing.T) {
	x := newTerminal(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := x.start(func(s Screen) (Answer, error) { return s.ShowProof(ctx, proof()) })
	x.expect("no + Enter")
	cancel()
	if r := <-done; r.err == nil || r.answer != Rejected {
		t.Errorf("answered with %v, %v", r.answer, r.err)
	}
}

func TestATerminalThatGoesAwayIsNoAnswer(t *testing.T) {
	x := newTerminal(t)
	done := x.start(func(s Screen) (Answer, error) { return s.ShowProof(context.Background(), proof()) })
	x.expect("no + Enter")
	x.master.Close()
	select {
	case r := <-done:
		if r.err == nil || r.answer != Rejected {
			t.Errorf("answered with %v, %v", r.answer, r.err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the screen still waits")
	}
}

func TestAQuestionIsAnswered(t *testing.T) {
	x := newTerminal(t)
	got := make(chan []byte, 1)
	done := x.start(func(s Screen) (Answer, error) {
		pin, err := s.Ask(context.Background(), Question{Title: "PIN", Prompt: "PIN: ", Secret: true})
		got <- pin
		return 0, err
	})
	x.expect("PIN: ")
	x.send("27\x7f18")
	x.expect("***_")
	x.send("\r")
	if r := <-done; r.err != nil {
		t.Fatal(r.err)
	}
	if pin := <-got; string(pin) != "218" {
		t.Errorf("typed was %q", pin)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if strings.Contains(x.seen.String(), "218") {
		t.Error("the PIN was shown")
	}
}

func TestWhatIsNoTerminalGetsPlainText(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	s, err := New(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.(*plain); !ok {
		t.Errorf("a pipe got %T", s)
	}
}
