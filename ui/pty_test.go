package ui

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/pty"
)

type result struct {
	answer Answer
	err    error
}

func start(t *testing.T, x *pty.Terminal, show func(Screen) (Answer, error)) <-chan result {
	t.Helper()
	t.Setenv("TERM", "linux")
	s, err := New(x.TTY)
	if err != nil {
		t.Fatal(err)
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
	x := pty.Open(t)
	done := start(t, x, func(s Screen) (Answer, error) { return s.ShowProof(context.Background(), proof()) })
	x.Expect("lighthouse")
	x.Expect("no + Enter")
	x.Send("\r")
	if r := <-done; r.answer != Confirmed || r.err != nil {
		t.Errorf("answered with %v, %v", r.answer, r.err)
	}
	// Nothing of it stays: the last thing written clears the screen and its history.
	x.Expect(clearAll + clearAll)
}

func TestCtrlCAndEscapeDoNotConfirm(t *testing.T) {
	x := pty.Open(t)
	done := start(t, x, func(s Screen) (Answer, error) { return s.ShowProof(context.Background(), proof()) })
	x.Expect("no + Enter")
	x.Send("\x03\x04x")
	x.Expect("x_")
	x.Send("\r")
	x.Expect("Press Enter alone")
	x.Send("no\r")
	if r := <-done; r.answer != Rejected || r.err != nil {
		t.Errorf("answered with %v, %v", r.answer, r.err)
	}
}

// Somebody pressed Enter out of impatience, before there was anything to confirm.
func TestKeysPressedBeforeTheScreenAreForgotten(t *testing.T) {
	x := pty.Open(t)
	x.Send("\r")
	done := start(t, x, func(s Screen) (Answer, error) { return s.ShowProof(context.Background(), proof()) })
	x.Expect("no + Enter")
	x.Send("no\r")
	if r := <-done; r.answer != Rejected || r.err != nil {
		t.Errorf("answered with %v, %v", r.answer, r.err)
	}
}

func TestOnlyTheWholeWordLeadsOn(t *testing.T) {
	x := pty.Open(t)
	done := start(t, x, func(s Screen) (Answer, error) { return s.ShowRefusal(context.Background(), refusal()) })
	x.Expect("switch off")
	x.Send(UnprovenWord + "\r")
	if r := <-done; r.answer != ContinueUnproven || r.err != nil {
		t.Errorf("answered with %v, %v", r.answer, r.err)
	}
}

func TestAContextThatEndsIsNoAnswer(t *testing.T) {
	x := pty.Open(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := start(t, x, func(s Screen) (Answer, error) { return s.ShowProof(ctx, proof()) })
	x.Expect("no + Enter")
	cancel()
	if r := <-done; r.err == nil || r.answer != Rejected {
		t.Errorf("answered with %v, %v", r.answer, r.err)
	}
}

func TestATerminalThatGoesAwayIsNoAnswer(t *testing.T) {
	x := pty.Open(t)
	done := start(t, x, func(s Screen) (Answer, error) { return s.ShowProof(context.Background(), proof()) })
	x.Expect("no + Enter")
	x.HangUp()
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
	x := pty.Open(t)
	got := make(chan []byte, 1)
	done := start(t, x, func(s Screen) (Answer, error) {
		pin, err := s.Ask(context.Background(), Question{Title: "PIN", Prompt: "PIN: ", Secret: true})
		got <- pin
		return 0, err
	})
	x.Expect("PIN: ")
	x.Send("27\x7f18")
	x.Expect("***_")
	x.Send("\r")
	if r := <-done; r.err != nil {
		t.Fatal(r.err)
	}
	if pin := <-got; string(pin) != "218" {
		t.Errorf("typed was %q", pin)
	}
	if strings.Contains(x.Seen(), "218") {
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
	if _, ok := s.(screen).terminal.(*plain); !ok {
		t.Errorf("a pipe got %T", s)
	}
}

func TestTheNextCodeComesByItself(t *testing.T) {
	x := pty.Open(t)
	p := codeProof()
	began := time.Now()
	p.Code = func(now time.Time) (string, time.Duration, error) {
		if now.Sub(began) < time.Second/2 {
			return "111111", time.Second / 2, nil
		}
		return "222222", 30 * time.Second, nil
	}
	done := start(t, x, func(s Screen) (Answer, error) { return s.ShowProof(context.Background(), p) })
	x.Expect("111111")
	x.Expect("222222")
	x.Send("\r")
	if r := <-done; r.answer != Confirmed || r.err != nil {
		t.Errorf("answered with %v, %v", r.answer, r.err)
	}
}
