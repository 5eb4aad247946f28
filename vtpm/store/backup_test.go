package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"github.com/antievilmaid/aem/vtpm/store"
)

// backup writes a backup beside the store.
func (s *safe) backup() string {
	s.t.Helper()
	path := s.path + ".backup"
	f, err := os.Create(path)
	must(s.t, err)
	must(s.t, s.Backup(f))
	must(s.t, f.Close())
	return path
}

// moved is a safe on a root of its own that stands where nothing is yet.
func moved(t *testing.T) *safe {
	s := &safe{t: t, path: filepath.Join(folder(t), "vtpms"), root: newCounter()}
	s.root.key = bytes.Repeat([]byte{9}, store.KeySize)
	return s
}

func TestABackupIsRestoredOntoAnotherRoot(t *testing.T) {
	s := newSafe(t)
	s.fill(300)
	must(t, s.PutState(uuid(5), 2, state(5, 2)))
	from := s.backup()
	must(t, store.Check(from, s.root.key))
	must(t, s.PutState(uuid(5), 3, state(5, 3)))

	other := moved(t)
	must(t, store.Restore(other.path, other.root, from, s.root.key))
	other.open()
	defer other.Close()
	for i := range 300 {
		want, err := s.Get(uuid(i))
		must(t, err)
		if i == 5 {
			want.Generation, want.State = 2, state(5, 2)
		}
		got, err := other.Get(uuid(i))
		if err != nil || !bytes.Equal(want.State, got.State) {
			t.Fatalf("%d: %+v, %v", i, got, err)
		}
		want.State, got.State = nil, nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-backed up +restored)\n%s", diff)
		}
	}
	if f := other.faults(); len(f) > 0 || other.Count() != 300 {
		t.Errorf("%d vTPMs, faults: %v", other.Count(), f)
	}
	if err := store.Restore(other.path, other.root, from, s.root.key); !errors.Is(err, store.ErrExists) {
		t.Errorf("restored over a store: %v", err)
	}
}

// A backup in the store's place is an old store: only Restore takes it.
func TestABackupDoesNotOpenAsTheStore(t *testing.T) {
	s := newSafe(t)
	s.fill(1)
	from := s.backup()
	must(t, s.Close())
	must(t, os.Rename(from, s.path))
	if _, err := store.Open(s.path, s.root); !errors.Is(err, store.ErrRolledBack) {
		t.Fatalf("it opened: %v", err)
	}
	must(t, os.Rename(s.path, from))
	must(t, store.Restore(s.path, s.root, from, s.root.key))
	s.open()
	if _, err := s.Get(uuid(0)); err != nil {
		t.Error(err)
	}
}

func TestABadBackupMakesNoStore(t *testing.T) {
	s := newSafe(t)
	s.fill(20)
	s.reopen(func() { s.edit(func(b *bolt.Bucket) { must(t, b.Delete(key('s', uuid(7)))) }) })
	from := s.backup()
	for name, c := range map[string]struct {
		from string
		key  []byte
		want error
	}{
		"a state taken out": {from, s.root.key, store.ErrLost},
		"another key":       {from, bytes.Repeat([]byte{1}, store.KeySize), store.ErrOtherRoot},
		"no file":           {from + ".not", s.root.key, store.ErrMissing},
		"a store in use":    {s.path, s.root.key, store.ErrBusy},
	} {
		other := moved(t)
		before := other.root.value
		if err := store.Restore(other.path, other.root, c.from, c.key); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := store.Check(c.from, c.key); !errors.Is(err, c.want) {
			t.Errorf("%s, looked at: %v", name, err)
		}
		left, err := os.ReadDir(filepath.Dir(other.path))
		if err != nil || len(left) > 0 || other.root.value != before {
			t.Errorf("%s: %v are left, the counter moved by %d, %v", name, left, other.root.value-before, err)
		}
	}
}
