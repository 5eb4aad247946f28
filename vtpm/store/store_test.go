package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/store"
)

// counter is a Root in memory. It counts what a TPM would write to its NV memory.
type counter struct {
	key    []byte
	value  uint64
	writes int
	fail   error // what Advance answers
	late   bool  // whether it moves all the same
}

func newCounter() *counter {
	return &counter{key: bytes.Repeat([]byte{7}, store.KeySize), value: 41}
}

func (c *counter) Key() ([]byte, error)   { return bytes.Clone(c.key), nil }
func (c *counter) Epoch() (uint64, error) { return c.value, nil }

func (c *counter) Advance(from uint64) error {
	if from != c.value {
		return fmt.Errorf("the counter stands at %d", c.value)
	}
	if c.fail == nil || c.late {
		c.value++
		c.writes++
	}
	return c.fail
}

// safe is a store in a test's folder.
type safe struct {
	*store.Store
	t    testing.TB
	path string
	root *counter
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newSafe(t testing.TB) *safe {
	t.Helper()
	s := &safe{t: t, path: filepath.Join(folder(t), "vtpms"), root: newCounter()}
	must(t, store.Create(s.path, s.root))
	s.open()
	t.Cleanup(func() { s.Close() })
	return s
}

// folder is a folder in memory where there is one: thousands of commits need no disk.
func folder(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "vtpm-store-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (s *safe) open() {
	s.t.Helper()
	opened, err := store.Open(s.path, s.root)
	must(s.t, err)
	s.Store = opened
}

// reopen closes the store, has something done to the file and opens it.
func (s *safe) reopen(between func()) {
	s.t.Helper()
	must(s.t, s.Close())
	between()
	s.open()
}

var born = time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)

// guest is the n-th vTPM of a test.
func guest(n int) *store.Record {
	r := &store.Record{
		UUID: uuid(n), Family: tpm.V20, Key: bytes.Repeat([]byte{byte(n)}, store.KeySize), Flags: 5,
		Created: born, Changed: born, Name: fmt.Sprintf("guest %d", n), Config: []byte(`{"locality":0}`), State: state(n, 1),
	}
	if n%2 == 1 {
		r.Family = tpm.V12
	}
	return r
}

// uuid spreads the numbers as random UUIDs are spread, with a few that share a beginning.
func uuid(n int) vtpm.UUID {
	d := tpm.SHA256.Sum([]byte{byte(n >> 8), byte(n)})
	u := vtpm.UUID(d[:16])
	if n%4 == 3 {
		before := tpm.SHA256.Sum([]byte{byte((n - 1) >> 8), byte(n - 1)})
		copy(u[:], before[:1+n%15])
	}
	return u
}

func state(n, generation int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "state %d of %d;", generation, n), 100)
}

func (s *safe) fill(n int) {
	s.t.Helper()
	for i := range n {
		must(s.t, s.Add(guest(i)))
	}
}

// faults are what Verify tells.
func (s *safe) faults() []store.Fault {
	s.t.Helper()
	var list []store.Fault
	must(s.t, s.Verify(func(f store.Fault) { list = append(list, f) }))
	return list
}

// want checks that a vTPM is refused for a reason and that Verify names it alone.
func (s *safe) want(u vtpm.UUID, reason error) {
	s.t.Helper()
	r, err := s.Get(u)
	if !errors.Is(err, reason) || r != nil {
		s.t.Errorf("it is read as %v, %v; want: %v", r, err, reason)
	}
	for _, f := range s.faults() {
		if f.UUID == u && errors.Is(f.Err, reason) {
			return
		}
	}
	s.t.Errorf("Verify tells %d faults and not %s: %v", len(s.faults()), u, reason)
}

func TestWhatWasPutIsGot(t *testing.T) {
	s := newSafe(t)
	want := guest(1)
	must(t, s.Add(want))
	must(t, s.PutState(want.UUID, 2, state(1, 2)))
	must(t, s.Change(want.UUID, func(r *store.Record) error {
		r.Name, r.Flags, r.Changed = "renamed", 9, born.Add(time.Hour)
		return nil
	}))
	want.Generation, want.State, want.Name, want.Flags, want.Changed = 2, state(1, 2), "renamed", 9, born.Add(time.Hour)
	for range 2 {
		got, err := s.Get(want.UUID)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-put +got)\n%s", diff)
		}
		s.reopen(func() {})
	}
}

func TestAVTPMWithoutStateHasNone(t *testing.T) {
	s := newSafe(t)
	r := guest(0)
	r.State = nil
	must(t, s.Add(r))
	if got, err := s.Get(r.UUID); err != nil || got.Generation != 0 || got.State != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	must(t, s.PutState(r.UUID, 1, state(0, 1)))
	if got, err := s.Get(r.UUID); err != nil || got.Generation != 1 || !bytes.Equal(got.State, state(0, 1)) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestWhatIsRefusedChangesNothing(t *testing.T) {
	s := newSafe(t)
	s.fill(3)
	no := errors.New("no")
	for name, c := range map[string]struct {
		do   func() error
		want error
	}{
		"a UUID twice":             {func() error { return s.Add(guest(1)) }, store.ErrExists},
		"a state too new":          {func() error { return s.PutState(uuid(1), 3, []byte("x")) }, store.ErrGeneration},
		"a state again":            {func() error { return s.PutState(uuid(1), 1, []byte("x")) }, store.ErrGeneration},
		"the state of nobody":      {func() error { return s.PutState(uuid(9), 1, []byte("x")) }, store.ErrUnknown},
		"nobody removed":           {func() error { return s.Remove(uuid(9)) }, store.ErrUnknown},
		"a change that is refused": {func() error { return s.Change(uuid(1), func(*store.Record) error { return no }) }, no},
		"another UUID":             {func() error { return s.Change(uuid(1), func(r *store.Record) error { r.UUID = uuid(9); return nil }) }, nil},
		"another generation":       {func() error { return s.Change(uuid(1), func(r *store.Record) error { r.Generation = 0; return nil }) }, nil},
		"a short key":              {func() error { return s.Change(uuid(1), func(r *store.Record) error { r.Key = nil; return nil }) }, nil},
		"an empty state":           {func() error { return s.PutState(uuid(1), 2, nil) }, nil},
		"a vast state":             {func() error { return s.PutState(uuid(1), 2, make([]byte, store.MaxState+1)) }, nil},
		"no UUID":                  {func() error { r := guest(4); r.UUID = vtpm.UUID{}; return s.Add(r) }, nil},
		"no family":                {func() error { r := guest(4); r.Family = 0; return s.Add(r) }, nil},
		"a generation of old":      {func() error { r := guest(4); r.Generation = 7; return s.Add(r) }, nil},
	} {
		if err := c.do(); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range 3 {
		want := guest(i)
		want.Generation = 1
		if got, err := s.Get(uuid(i)); err != nil || !cmp.Equal(want, got) {
			t.Errorf("%v\n%s", err, cmp.Diff(want, got))
		}
	}
	if s.Count() != 3 {
		t.Errorf("%d vTPMs", s.Count())
	}
}

// A random history of adding, changing and removing ends in what a map would hold, and
// in the same tree that adding the survivors alone makes.
func TestAnyHistoryEndsInWhatItLeft(t *testing.T) {
	s := newSafe(t)
	alive := map[vtpm.UUID]int{}
	for i := range 600 {
		n := (i * 7919) % 97
		u := uuid(n)
		switch _, ok := alive[u]; {
		case !ok:
			must(t, s.Add(guest(n)))
			alive[u] = 1
		case i%3 == 0:
			must(t, s.Remove(u))
			delete(alive, u)
		default:
			alive[u]++
			must(t, s.PutState(u, uint64(alive[u]), state(n, alive[u])))
		}
	}
	for n := range 97 {
		got, err := s.Get(uuid(n))
		generation, ok := alive[uuid(n)]
		switch {
		case !ok && !errors.Is(err, store.ErrUnknown):
			t.Errorf("%d was removed: %v, %v", n, got, err)
		case ok && (err != nil || int(got.Generation) != generation || !bytes.Equal(got.State, state(n, generation))):
			t.Errorf("%d has generation %d: %v, %v", n, generation, got, err)
		}
	}
	if f := s.faults(); len(f) > 0 || s.Count() != uint64(len(alive)) {
		t.Errorf("%d vTPMs, not %d; faults: %v", s.Count(), len(alive), f)
	}
	other := newSafe(t)
	for n := range 97 {
		if alive[uuid(n)] > 0 {
			must(t, other.Add(guest(n)))
		}
	}
	if diff := cmp.Diff(other.nodes(), s.nodes()); diff != "" {
		t.Errorf("the tree has another form\n%s", diff)
	}
}

// nodes are the places of the tree's nodes.
func (s *safe) nodes() (list []string) {
	s.reopen(func() {
		s.edit(func(b *bolt.Bucket) {
			for k := range keysOf(b, 'n') {
				list = append(list, fmt.Sprintf("%x", k))
			}
		})
	})
	slices.Sort(list)
	return list
}

func TestListIsPagedAndComplete(t *testing.T) {
	s := newSafe(t)
	s.fill(250)
	var all []vtpm.UUID
	for after := (vtpm.UUID{}); ; {
		page, err := s.List(after, 7)
		must(t, err)
		for _, e := range page {
			if e.Err != nil || e.Record.UUID != e.UUID || e.Record.Name == "" || e.Record.Key != nil || e.Record.State != nil {
				t.Fatalf("%+v", e)
			}
			all = append(all, e.UUID)
		}
		if len(page) < 7 {
			break
		}
		after = all[len(all)-1]
	}
	if !slices.IsSortedFunc(all, func(a, b vtpm.UUID) int { return bytes.Compare(a[:], b[:]) }) || len(slices.Compact(all)) != 250 {
		t.Errorf("%d vTPMs are listed, or not in order", len(all))
	}
}

func TestCreateIsNotOpen(t *testing.T) {
	s := newSafe(t)
	if err := store.Create(s.path, s.root); !errors.Is(err, store.ErrExists) {
		t.Errorf("made over what is there: %v", err)
	}
	missing := filepath.Join(t.TempDir(), "vtpms")
	if _, err := store.Open(missing, s.root); !errors.Is(err, store.ErrMissing) {
		t.Errorf("opening what is not there: %v", err)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("opening what was not there made it")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(s.path), "*.new-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestASecondOpenIsRefusedAtOnce(t *testing.T) {
	s := newSafe(t)
	if _, err := store.Open(s.path, s.root); !errors.Is(err, store.ErrBusy) {
		t.Errorf("opened twice: %v", err)
	}
}

func TestNothingIsAnsweredAfterClose(t *testing.T) {
	s := newSafe(t)
	s.fill(1)
	must(t, s.Close())
	if _, err := s.Get(uuid(0)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("got: %v", err)
	}
	if err := s.Remove(uuid(0)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("removed: %v", err)
	}
	must(t, s.Close())
}

func TestNothingStandsThereInClear(t *testing.T) {
	s := newSafe(t)
	s.fill(2)
	must(t, s.Close())
	file, err := os.ReadFile(s.path)
	must(t, err)
	for _, secret := range [][]byte{guest(1).Key[:16], guest(1).State[:16], []byte("guest 1"), []byte("locality"), s.root.key[:16]} {
		if bytes.Contains(file, secret) {
			t.Errorf("the file holds %q", secret)
		}
	}
}
