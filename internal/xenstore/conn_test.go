package xenstore_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/xenstore"
	"github.com/antievilmaid/aem/internal/xenstore/storetest"
)

func connect(t *testing.T, s *storetest.Store) *xenstore.Conn {
	t.Helper()
	c := s.Connect()
	t.Cleanup(func() { c.Close() })
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNodesAreWrittenReadListedAndRemoved(t *testing.T) {
	c := connect(t, storetest.New())
	must(t, c.Write("backend/vtpm/1/0/state", "1"))
	must(t, c.Write("/local/domain/0/backend/vtpm/2/0/odd", "a\x00b"))
	if v, err := c.Read("/local/domain/0/backend/vtpm/1/0/state"); v != "1" || err != nil {
		t.Errorf("a relative path led elsewhere: %q, %v", v, err)
	}
	if v, err := c.Read("backend/vtpm/2/0/odd"); v != "a\x00b" || err != nil {
		t.Errorf("the value came back as %q, %v", v, err)
	}
	if l, err := c.Directory("backend/vtpm"); err != nil || !cmp.Equal(l, []string{"1", "2"}) {
		t.Errorf("listed were %q, %v", l, err)
	}
	must(t, c.Remove("backend/vtpm/1"))
	must(t, c.Remove("backend/vtpm/1"))
	if _, err := c.Read("backend/vtpm/1/0/state"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after its removal: %v", err)
	}
	must(t, c.Mkdir("empty"))
	if l, err := c.Directory("empty"); err != nil || len(l) != 0 {
		t.Errorf("an empty node lists %q, %v", l, err)
	}
}

// A path with a NUL would be two arguments.
func TestPathWithNULIsRefused(t *testing.T) {
	c := connect(t, storetest.New())
	for _, p := range []string{"", "a\x00b"} {
		if err := c.Write(p, "x"); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestLongDirectoryComesInParts(t *testing.T) {
	c := connect(t, storetest.New())
	var want []string
	for i := range 1500 {
		name := fmt.Sprintf("%05d", i)
		must(t, c.Write("many/"+name, ""))
		want = append(want, name)
	}
	got, err := c.Directory("many")
	must(t, err)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestPermissions(t *testing.T) {
	c := connect(t, storetest.New())
	must(t, c.Write("node", "x"))
	must(t, c.SetPermissions("node", "n0", "r5"))
	if p, err := c.Permissions("node"); err != nil || !cmp.Equal(p, []string{"n0", "r5"}) {
		t.Errorf("%q, %v", p, err)
	}
}

func TestTransactionIsTriedAgainWhereSomebodyWrote(t *testing.T) {
	c := connect(t, storetest.New())
	must(t, c.Write("n", "1"))
	tries := 0
	must(t, c.Transaction(func(tx *xenstore.Tx) error {
		tries++
		v, err := tx.Read("n")
		must(t, err)
		if tries == 1 {
			must(t, c.Write("n", "2"))
		}
		return tx.Write("copy", v)
	}))
	if v, _ := c.Read("copy"); v != "2" || tries != 2 {
		t.Errorf("after %d tries the copy is %q", tries, v)
	}
}

func TestTransactionThatErredWritesNothing(t *testing.T) {
	c := connect(t, storetest.New())
	broken := errors.New("broken")
	err := c.Transaction(func(tx *xenstore.Tx) error {
		must(t, tx.Write("n", "1"))
		return broken
	})
	if _, gone := c.Read("n"); !errors.Is(err, broken) || !errors.Is(gone, os.ErrNotExist) {
		t.Errorf("%v; the node: %v", err, gone)
	}
}

func TestWatchFiresAtTheStartAndAtEachChangeBelow(t *testing.T) {
	for _, numbered := range []bool{true, false} {
		t.Run(fmt.Sprintf("numbered %v", numbered), func(t *testing.T) {
			s := storetest.New()
			s.NumbersWatches = numbered
			c := connect(t, s)
			paths := make(chan string, 10)
			w, err := c.Watch("a", func(p string) { paths <- p })
			must(t, err)
			must(t, c.Write("a/b", "1"))
			must(t, c.Write("b", "1"))
			must(t, c.Remove("a"))
			must(t, w.Close())
			must(t, c.Write("a/b", "1"))
			must(t, c.Close())
			close(paths)
			var got []string
			for p := range paths {
				got = append(got, p)
			}
			if d := cmp.Diff([]string{"a", "a/b", "a"}, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDomainsAreKnownAndReleased(t *testing.T) {
	s := storetest.New()
	c := connect(t, s)
	fired := make(chan string, 10)
	_, err := c.Watch("@releaseDomain", func(p string) { fired <- p })
	must(t, err)
	<-fired
	s.Introduce(5, true)
	if lives, err := c.Introduced(5); !lives || err != nil {
		t.Errorf("domain 5: %v, %v", lives, err)
	}
	s.Introduce(5, false)
	<-fired
	if lives, err := c.Introduced(5); lives || err != nil {
		t.Errorf("domain 5, released: %v, %v", lives, err)
	}
}

func TestEndedConnectionIsNamed(t *testing.T) {
	near, far := net.Pipe()
	c := xenstore.New(near)
	go func() {
		xenstore.ReadMessage(far)
		far.Close()
	}()
	if _, err := c.Read("a"); !errors.Is(err, xenstore.ErrClosed) {
		t.Errorf("cut in an answer: %v", err)
	}
	if _, err := c.Read("a"); !errors.Is(err, xenstore.ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
	<-c.Done()
}

// What does not fit the question ends the connection: one answer later, each would be
// taken for another's.
func TestWrongAnswerEndsTheConnection(t *testing.T) {
	near, far := net.Pipe()
	c := xenstore.New(near)
	go func() {
		m, _ := xenstore.ReadMessage(far)
		m.Request += 7
		m.Write(far)
		xenstore.ReadMessage(far)
	}()
	if v, err := c.Read("a"); !errors.Is(err, xenstore.ErrClosed) {
		t.Errorf("%q, %v", v, err)
	}
	<-c.Done()
}

func FuzzMessagesOfTheStore(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 'x'})
	f.Add([]byte{15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 'a', 0, '1', 0})
	f.Add([]byte{16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 'E', 'N', 'O', 'E', 'N', 'T', 0})
	f.Fuzz(func(t *testing.T, said []byte) {
		near, far := net.Pipe()
		c := xenstore.New(near)
		go func() {
			xenstore.ReadMessage(far)
			far.Write(said)
			far.Close()
		}()
		v, err := c.Read("a")
		if err == nil && len(v) > xenstore.MaxPayload {
			t.Errorf("a value of %d bytes", len(v))
		}
		<-c.Done()
	})
}
