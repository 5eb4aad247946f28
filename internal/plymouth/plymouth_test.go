package plymouth_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/plymouth"
)

// exchange is a request and what is answered.
type exchange struct{ request, answer string }

// fake is a fake plymouthd: it says what the real one, plymouthd 22.02.122 with the
// theme details, said to the same bytes. It reports what came in place of what was
// expected.
func fake(t *testing.T, expected ...exchange) (address string, result <-chan error) {
	t.Helper()
	address = filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		for _, e := range expected {
			b := make([]byte, len(e.request))
			if _, err := io.ReadFull(conn, b); err != nil {
				done <- err
				return
			}
			if diff := cmp.Diff(e.request, string(b)); diff != "" {
				done <- errors.New(diff)
				return
			}
			io.WriteString(conn, e.answer)
		}
		rest, err := io.ReadAll(conn)
		if err == nil && len(rest) > 0 {
			err = errors.New("more was sent: " + string(rest))
		}
		done <- err
	}()
	return address, done
}

var pinged = exchange{"P\x00", "\x06"}

func TestRequests(t *testing.T) {
	long := strings.Repeat("x", 300)
	address, result := fake(t, pinged,
		exchange{"M\x02\x0chello there\x00", "\x06"}, exchange{"m\x02\x0chello there\x00", "\x06"},
		exchange{"M\x02\xff" + long[:254] + "\x00", "\x06"}, exchange{"M\x00", "\x06"},
		exchange{"D\x00", "\x06"}, exchange{"r\x00", "\x06"})
	c, err := plymouth.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		c.ShowMessage(t.Context(), "hello there"), c.HideMessage(t.Context(), "hello there"),
		c.ShowMessage(t.Context(), long), c.ShowMessage(t.Context(), ""),
		c.Deactivate(t.Context()), c.Reactivate(t.Context()), c.Close(),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	for name, answer := range map[string]string{"to who is not root": "\x15", "no answer": "\x05", "an answer of its own": "\x02\x00\x00\x00\x00"} {
		address, _ := fake(t, pinged, exchange{"D\x00", answer})
		c, err := plymouth.Dial(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Deactivate(t.Context()); !errors.Is(err, plymouth.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
	}
}

func TestWhereNoneRuns(t *testing.T) {
	if _, err := plymouth.Dial(t.Context(), filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("somebody answered")
	}
	// One that refuses is none.
	address, _ := fake(t, exchange{"P\x00", "\x15"})
	if _, err := plymouth.Dial(t.Context(), address); !errors.Is(err, plymouth.ErrRefused) {
		t.Errorf("%v", err)
	}
}

// Silence is no yes.
func TestSilence(t *testing.T) {
	address, _ := fake(t, pinged, exchange{"D\x00never sent", ""})
	c, err := plymouth.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Deactivate(ctx); err == nil {
		t.Error("silence was an answer")
	}
}
