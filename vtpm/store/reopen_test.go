package store_test

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/vtpm/store"
)

// A disk that does not confirm, that can't be written, or that is read-only, and then works again: the store finds out
// what became of the commit, and goes on. What it answered is there after a new start.
func TestADiskThatWorksAgain(t *testing.T) {
	for name, c := range map[string]struct {
		errno  syscall.Errno
		word   string
		unsure bool
	}{
		"EIO":           {syscall.EIO, "EIO", false},
		"EROFS":         {syscall.EROFS, "EROFS", false},
		"not confirmed": {syscall.EIO, "EIO", true},
	} {
		t.Run(name, func(t *testing.T) {
			p := crowdIn(t, folder(t))
			s, err := store.Open(p.path, p.root)
			must(t, err)
			defer s.Close()
			must(t, s.PutState(uuid(0), 2, state(0, 2)))
			var heal func()
			if c.unsure {
				runtime.LockOSThread() // system calls are counted by thread
				defer runtime.UnlockOSThread()
				// The first one confirms the commit's pages, the second the page that makes them count.
				heal = testbed.DoubtfulDisk(t, p.path)
			} else {
				heal = testbed.SickDisk(t, p.path, c.word)
			}
			err = s.PutState(uuid(0), 3, state(0, 3))
			if !errors.Is(err, c.errno) || c.unsure != errors.Is(err, store.ErrUnsure) {
				t.Fatalf("the commit gave %v", err)
			}
			if c.unsure {
				if _, err := s.Get(uuid(0)); !errors.Is(err, store.ErrUnsure) {
					t.Errorf("a store that is not sure says %v", err)
				}
				if err := s.Reopen(); !errors.Is(err, store.ErrUnsure) || !errors.Is(s.Fault(), store.ErrUnsure) {
					t.Errorf("opened anew on a disk that fails: %v", err)
				}
			}
			heal()
			must(t, s.Reopen())
			must(t, s.Fault())
			r, err := s.Get(uuid(0))
			if err != nil || r.Generation < 2 || r.Generation > 3 || !bytes.Equal(r.State, state(0, int(r.Generation))) {
				t.Fatalf("%+v, %v", r, err)
			}
			next := r.Generation + 1
			must(t, s.PutState(uuid(0), next, state(0, int(next))))
			must(t, s.NextEpoch())
			must(t, s.Close())
			s, err = store.Open(p.path, p.root)
			must(t, err)
			defer s.Close()
			if r, err := s.Get(uuid(0)); err != nil || r.Generation != next {
				t.Errorf("%+v, %v", r, err)
			}
			must(t, s.Verify(func(f store.Fault) { t.Errorf("%s: %v", f.UUID, f.Err) }))
		})
	}
}

// While the store was not sure, somebody put an older file of it in place, or another: it is not taken.
func TestAnotherFileIsThereWhenItIsOpenedAnew(t *testing.T) {
	p := crowdIn(t, folder(t))
	s, err := store.Open(p.path, p.root)
	must(t, err)
	defer s.Close()
	old, err := os.ReadFile(p.path)
	must(t, err)
	must(t, s.PutState(uuid(0), 2, state(0, 2)))
	must(t, s.PutState(uuid(0), 3, state(0, 3)))
	runtime.LockOSThread() // system calls are counted by thread
	defer runtime.UnlockOSThread()
	heal := testbed.DoubtfulDisk(t, p.path)
	if err := s.PutState(uuid(0), 4, state(0, 4)); !errors.Is(err, store.ErrUnsure) {
		t.Fatalf("the commit gave %v", err)
	}
	heal()
	must(t, os.Remove(p.path))
	must(t, os.WriteFile(p.path, old, 0o600))
	for range 2 {
		if err := s.Reopen(); !errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrUnsure) {
			t.Errorf("an older file: %v", err)
		}
	}
	if _, err := s.Get(uuid(0)); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("the store answers: %v", err)
	}
}
