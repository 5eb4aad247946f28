package store_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"iter"
	"os"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/store"
)

// edit changes a closed store's file as who knows bbolt and not the root key can.
func (s *safe) edit(f func(*bolt.Bucket)) {
	s.t.Helper()
	db, err := bolt.Open(s.path, 0o600, &bolt.Options{NoFreelistSync: true})
	must(s.t, err)
	must(s.t, db.Update(func(tx *bolt.Tx) error {
		f(tx.Bucket([]byte("vtpms")))
		return nil
	}))
	must(s.t, db.Close())
}

func keysOf(b *bolt.Bucket, prefix byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		c := b.Cursor()
		for k, v := c.Seek([]byte{prefix}); len(k) > 0 && k[0] == prefix; k, v = c.Next() {
			if !yield(string(k), bytes.Clone(v)) {
				return
			}
		}
	}
}

func key(prefix byte, u vtpm.UUID) []byte { return append([]byte{prefix}, u[:]...) }

// content is everything in the file, by its key.
func (s *safe) content() map[string][]byte {
	m := map[string][]byte{}
	s.reopen(func() {
		s.edit(func(b *bolt.Bucket) {
			b.ForEach(func(k, v []byte) error {
				m[string(k)] = bytes.Clone(v)
				return nil
			})
		})
	})
	return m
}

func TestWhatWasTamperedWithIsNamed(t *testing.T) {
	a, b := uuid(1), uuid(2)
	for name, c := range map[string]struct {
		tamper func(bucket *bolt.Bucket, old map[string][]byte)
		want   error
	}{
		"a record taken out": {func(k *bolt.Bucket, _ map[string][]byte) { k.Delete(key('r', a)) }, store.ErrLost},
		"a state taken out":  {func(k *bolt.Bucket, _ map[string][]byte) { k.Delete(key('s', a)) }, store.ErrLost},
		"a record exchanged": {func(k *bolt.Bucket, o map[string][]byte) { k.Put(key('r', a), o[string(key('r', b))]) }, store.ErrForeign},
		"a state exchanged":  {func(k *bolt.Bucket, o map[string][]byte) { k.Put(key('s', a), o[string(key('s', b))]) }, store.ErrForeign},
		"an old record":      {func(k *bolt.Bucket, o map[string][]byte) { k.Put(key('r', a), o[string(key('r', a))]) }, store.ErrRolledBack},
		"an old state":       {func(k *bolt.Bucket, o map[string][]byte) { k.Put(key('s', a), o[string(key('s', a))]) }, store.ErrRolledBack},
		"an old record and state": {func(k *bolt.Bucket, o map[string][]byte) {
			k.Put(key('r', a), o[string(key('r', a))])
			k.Put(key('s', a), o[string(key('s', a))])
		}, store.ErrRolledBack},
		"an empty record": {func(k *bolt.Bucket, _ map[string][]byte) { k.Put(key('r', a), nil) }, store.ErrDamaged},
		"an empty state":  {func(k *bolt.Bucket, _ map[string][]byte) { k.Put(key('s', a), nil) }, store.ErrDamaged},
		"the old tree": {func(k *bolt.Bucket, o map[string][]byte) {
			for name, v := range o {
				if name != "top" {
					k.Put([]byte(name), v)
				}
			}
		}, store.ErrDamaged},
		"no tree": {func(k *bolt.Bucket, o map[string][]byte) {
			for name := range keysOf(k, 'n') {
				k.Delete([]byte(name))
			}
		}, store.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSafe(t)
			s.fill(40)
			old := s.content()
			must(t, s.PutState(a, 2, state(1, 2)))
			s.reopen(func() { s.edit(func(k *bolt.Bucket) { c.tamper(k, old) }) })
			s.want(a, c.want)
			if c.want == store.ErrDamaged && len(s.faults()) > 1 {
				return // where the tree is gone, all are refused
			}
			if f := s.faults(); len(f) != 1 {
				t.Errorf("faults: %v", f)
			}
			for i := range 40 {
				if i == 1 {
					continue
				}
				if _, err := s.Get(uuid(i)); err != nil {
					t.Errorf("another vTPM: %v", err)
				}
			}
			must(t, s.Remove(a)) // what is refused can be given up
			if f := s.faults(); len(f) > 0 {
				t.Errorf("afterwards: %v", f)
			}
		})
	}
}

func TestTwoExchangedRecordsAreBothNamed(t *testing.T) {
	s := newSafe(t)
	s.fill(5)
	a, b := uuid(1), uuid(2)
	s.reopen(func() {
		s.edit(func(k *bolt.Bucket) {
			for _, prefix := range []byte("rs") {
				x, y := bytes.Clone(k.Get(key(prefix, a))), bytes.Clone(k.Get(key(prefix, b)))
				k.Put(key(prefix, a), y)
				k.Put(key(prefix, b), x)
			}
		})
	})
	s.want(a, store.ErrForeign)
	s.want(b, store.ErrForeign)
}

// A vTPM that was removed and put back is one that the store does not know.
func TestARemovedVTPMStaysRemoved(t *testing.T) {
	s := newSafe(t)
	s.fill(5)
	old := s.content()
	u := uuid(3)
	must(t, s.Remove(u))
	s.reopen(func() {
		s.edit(func(k *bolt.Bucket) {
			k.Put(key('r', u), old[string(key('r', u))])
			k.Put(key('s', u), old[string(key('s', u))])
		})
	})
	s.want(u, store.ErrAdded)
	if err := s.Add(guest(3)); !errors.Is(err, store.ErrAdded) {
		t.Errorf("added over it: %v", err)
	}
	list, err := s.List(vtpm.UUID{}, 100)
	if err != nil || len(list) != 4 {
		t.Errorf("%d are listed, %v", len(list), err)
	}
	must(t, s.Remove(u))
	must(t, s.Add(guest(3)))
	if f := s.faults(); len(f) > 0 {
		t.Errorf("afterwards: %v", f)
	}
}

func TestARecordOfAnotherStoreIsRefused(t *testing.T) {
	s, other := newSafe(t), newSafe(t) // with the same root key
	s.fill(3)
	other.fill(3)
	theirs := other.content()
	s.reopen(func() { s.edit(func(k *bolt.Bucket) { k.Put(key('r', uuid(1)), theirs[string(key('r', uuid(1)))]) }) })
	s.want(uuid(1), store.ErrDamaged)
}

// Copies of the file put back are refused from the next epoch on, and after an orderly
// close no other file opens.
func TestAnOldFileIsRefused(t *testing.T) {
	s := newSafe(t)
	s.fill(3)
	inEpoch, err := os.ReadFile(s.path)
	must(t, err)
	must(t, s.NextEpoch())
	must(t, s.PutState(uuid(1), 2, state(1, 2)))
	late, err := os.ReadFile(s.path)
	must(t, err)
	must(t, s.Close())
	closed, err := os.ReadFile(s.path)
	must(t, err)
	for name, file := range map[string][]byte{"of an earlier epoch": inEpoch, "of the last epoch": late} {
		must(t, os.WriteFile(s.path, file, 0o600))
		if _, err := store.Open(s.path, s.root); !errors.Is(err, store.ErrRolledBack) {
			t.Errorf("a file %s: %v", name, err)
		}
	}
	must(t, os.WriteFile(s.path, closed, 0o600))
	s.open()
	if r, err := s.Get(uuid(1)); err != nil || r.Generation != 2 {
		t.Errorf("%v, %v", r, err)
	}
	must(t, s.Close())
	must(t, os.WriteFile(s.path, closed, 0o600))
	if _, err := store.Open(s.path, s.root); !errors.Is(err, store.ErrRolledBack) {
		t.Errorf("a file from before the last start: %v", err)
	}
}

func TestAnotherCounterAndAnotherKey(t *testing.T) {
	s := newSafe(t)
	must(t, s.Close())
	behind := *s.root
	behind.value -= 2
	if _, err := store.Open(s.path, &behind); !errors.Is(err, store.ErrAhead) {
		t.Errorf("a counter that is behind by two: %v", err)
	}
	other := *s.root
	other.key = bytes.Repeat([]byte{8}, store.KeySize)
	if _, err := store.Open(s.path, &other); !errors.Is(err, store.ErrOtherRoot) {
		t.Errorf("another root key: %v", err)
	}
	s.open()
}

// Who changes the root record and mends its checksum has no key to authenticate it with.
func TestARootRecordIsNotForged(t *testing.T) {
	s := newSafe(t)
	s.fill(1)
	genuine := s.content()["top"]
	must(t, s.Close())
	for i := range len(genuine) - sha256.Size {
		forged := bytes.Clone(genuine)
		forged[i] ^= 1
		sum := sha256.Sum256(forged[:len(forged)-sha256.Size])
		copy(forged[len(forged)-sha256.Size:], sum[:])
		s.edit(func(b *bolt.Bucket) { b.Put([]byte("top"), forged) })
		if _, err := store.Open(s.path, s.root); !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrOtherRoot) {
			t.Errorf("byte %d forged: %v", i, err)
		}
	}
}

func TestMakingAStoreKillsTheOneThatWasThere(t *testing.T) {
	s := newSafe(t)
	s.fill(1)
	must(t, s.Close())
	old, err := os.ReadFile(s.path)
	must(t, err)
	must(t, os.Remove(s.path))
	must(t, store.Create(s.path, s.root))
	must(t, os.WriteFile(s.path, old, 0o600))
	if _, err := store.Open(s.path, s.root); !errors.Is(err, store.ErrRolledBack) {
		t.Errorf("the removed store: %v", err)
	}
}

// The power fails, or the TPM does, between the file's step into an epoch and the
// counter's: the step is made up for, whatever the counter did.
func TestAnEpochThatWasNotBegunIs(t *testing.T) {
	for name, late := range map[string]bool{"before the counter moved": false, "after the counter moved": true} {
		t.Run(name, func(t *testing.T) {
			s := newSafe(t)
			s.fill(1)
			s.root.fail, s.root.late = errors.New("no answer"), late
			if err := s.NextEpoch(); !errors.Is(err, s.root.fail) {
				t.Fatalf("the epoch began: %v", err)
			}
			must(t, s.PutState(uuid(0), 2, state(0, 2))) // the guests go on
			window, err := os.ReadFile(s.path)
			must(t, err)
			s.root.fail = nil
			must(t, s.NextEpoch())
			must(t, s.PutState(uuid(0), 3, state(0, 3)))
			must(t, s.Close())
			after := *s.root
			// The same, as a start after a crash finds it.
			crashed := *s.root
			crashed.value = 43
			if late {
				crashed.value = 44
			}
			now, err := os.ReadFile(s.path)
			must(t, err)
			must(t, os.WriteFile(s.path, window, 0o600))
			again, err := store.Open(s.path, &crashed)
			must(t, err)
			if r, err := again.Get(uuid(0)); err != nil || r.Generation != 2 {
				t.Errorf("%v, %v", r, err)
			}
			must(t, again.Close())
			must(t, os.WriteFile(s.path, window, 0o600))
			if _, err := store.Open(s.path, &crashed); !errors.Is(err, store.ErrRolledBack) {
				t.Errorf("the file of the interrupted step is alive: %v", err)
			}
			must(t, os.WriteFile(s.path, now, 0o600))
			if reopened, err := store.Open(s.path, &after); err != nil {
				t.Error(err)
			} else {
				must(t, reopened.Close())
			}
		})
	}
}

// An epoch whose second step failed until the store was closed had commits, and so there
// may be copies: the end needs an epoch of its own.
func TestTheLastEpochIsNotTheOneThatFailed(t *testing.T) {
	s := newSafe(t)
	s.fill(1)
	s.root.fail = errors.New("no answer")
	if err := s.NextEpoch(); !errors.Is(err, s.root.fail) {
		t.Fatalf("the epoch began: %v", err)
	}
	must(t, s.PutState(uuid(0), 2, state(0, 2)))
	window, err := os.ReadFile(s.path)
	must(t, err)
	must(t, s.PutState(uuid(0), 3, state(0, 3)))
	s.root.fail = nil
	must(t, s.Close())
	must(t, os.WriteFile(s.path, window, 0o600))
	if _, err := store.Open(s.path, s.root); !errors.Is(err, store.ErrRolledBack) {
		t.Errorf("a copy from the epoch that failed: %v", err)
	}
}

func TestTheCounterMovesOncePerEpoch(t *testing.T) {
	s := newSafe(t)
	if s.root.writes != 2 { // made, opened
		t.Errorf("%d writes to make and open a store", s.root.writes)
	}
	s.fill(50)
	for g := range 100 {
		must(t, s.PutState(uuid(7), uint64(g+2), state(7, g)))
	}
	if s.root.writes != 2 || !s.Changed() {
		t.Errorf("%d writes after 150 commits, changed %t", s.root.writes, s.Changed())
	}
	must(t, s.NextEpoch())
	if s.root.writes != 3 || s.Changed() {
		t.Errorf("%d writes after the next epoch, changed %t", s.root.writes, s.Changed())
	}
	must(t, s.Close())
	if s.root.writes != 3 {
		t.Errorf("%d writes: nothing was changed since the epoch began", s.root.writes)
	}
	s.open()
	must(t, s.Remove(uuid(7)))
	must(t, s.Close())
	if s.root.writes != 5 {
		t.Errorf("%d writes: one start and one stop more", s.root.writes)
	}
}
