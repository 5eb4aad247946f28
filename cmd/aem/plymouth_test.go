package main

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/ui"
)

// events is what happened, in order, as a fake plymouthd and a fake screen saw it.
type events struct {
	mu   sync.Mutex
	list []string
}

func (e *events) add(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, what)
}

func (e *events) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.list)
}

// fakePlymouth answers every request with one byte, and returns its address.
func (e *events) fakePlymouth(t *testing.T, answer map[byte]byte) string {
	t.Helper()
	address := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			head := make([]byte, 2)
			if _, err := io.ReadFull(conn, head); err != nil {
				return
			}
			text := []byte{}
			if head[1] == 2 {
				length := make([]byte, 1)
				if _, err := io.ReadFull(conn, length); err != nil {
					return
				}
				text = make([]byte, length[0])
				if _, err := io.ReadFull(conn, text); err != nil {
					return
				}
				text = text[:len(text)-1]
			}
			e.add("plymouthd " + string(head[:1]) + string(text))
			a, ok := answer[head[0]]
			if !ok {
				a = 0x06
			}
			conn.Write([]byte{a})
		}
	}()
	return address
}

// fakeScreen notes what it is to show.
type fakeScreen struct{ *events }

func (s fakeScreen) ShowProof(context.Context, ui.Proof) (ui.Answer, error) {
	s.add("proof")
	return ui.Confirmed, nil
}

func (s fakeScreen) ShowRefusal(context.Context, ui.Refusal) (ui.Answer, error) {
	s.add("refusal")
	return ui.PowerOff, nil
}
func (s fakeScreen) ShowNotice(context.Context, ui.Notice) error { s.add("notice"); return nil }
func (s fakeScreen) Ask(context.Context, ui.Question) ([]byte, error) {
	s.add("question")
	return nil, nil
}
func (s fakeScreen) Progress(text string) { s.add("progress " + text) }
func (s fakeScreen) Close() error         { s.add("close"); return errors.New("closed") }

// The picture is gone before anything is shown or asked, and comes back after the
// terminal was cleared. plymouthd hears nothing but progress.
func TestThePictureMakesRoomForTheProof(t *testing.T) {
	shows := map[string]func(context.Context, ui.Screen) error{
		"proof":    func(ctx context.Context, s ui.Screen) error { _, err := s.ShowProof(ctx, ui.Proof{}); return err },
		"refusal":  func(ctx context.Context, s ui.Screen) error { _, err := s.ShowRefusal(ctx, ui.Refusal{}); return err },
		"notice":   func(ctx context.Context, s ui.Screen) error { return s.ShowNotice(ctx, ui.Notice{}) },
		"question": func(ctx context.Context, s ui.Screen) error { _, err := s.Ask(ctx, ui.Question{}); return err },
	}
	for name, show := range shows {
		e := &events{}
		s := behindPicture(t.Context(), e.fakePlymouth(t, nil), fakeScreen{e})
		s.Progress("wait")
		for range 2 {
			if err := show(t.Context(), s); err != nil {
				t.Error(err)
			}
		}
		s.Progress("more")
		if err := s.Close(); err == nil {
			t.Error("the screen's error is lost")
		}
		want := []string{"plymouthd P", "plymouthd Mwait", "plymouthd mwait", "plymouthd D", name, name, "progress more", "close", "plymouthd r"}
		if diff := cmp.Diff(want, e.all()); diff != "" {
			t.Errorf("%s: what happened (-want +got): %s", name, diff)
		}
	}
}

func TestAPictureThatDoesNotGoAwayIsDrawnOver(t *testing.T) {
	e := &events{}
	s := behindPicture(t.Context(), e.fakePlymouth(t, map[byte]byte{'D': 0x15, 'M': 0x15}), fakeScreen{e})
	s.Progress("wait")
	if answer, err := s.ShowProof(t.Context(), ui.Proof{}); answer != ui.Confirmed || err != nil {
		t.Errorf("the answer is %v, %v", answer, err)
	}
	want := []string{"plymouthd P", "plymouthd Mwait", "progress wait", "plymouthd D", "proof"}
	if diff := cmp.Diff(want, e.all()); diff != "" {
		t.Errorf("what happened (-want +got): %s", diff)
	}
}

func TestWithoutAPictureNothingChanges(t *testing.T) {
	screen := fakeScreen{&events{}}
	if s := behindPicture(t.Context(), filepath.Join(t.TempDir(), "none"), screen); s != ui.Screen(screen) {
		t.Errorf("the screen is a %T", s)
	}
}
