package store_test

import (
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/store"
)

// Guests commit while others read, the store is verified and backed up, epochs begin, and
// it is closed: each sees a whole commit, or that the store is closed.
func TestEverythingAtOnce(t *testing.T) {
	s := newSafe(t)
	s.fill(crowd)
	var commits, running sync.WaitGroup
	for n := range crowd {
		commits.Go(func() {
			for g := uint64(2); g < 20; g++ {
				if err := s.PutState(uuid(n), g, state(n, int(g))); err != nil {
					t.Errorf("vTPM %d, generation %d: %v", n, g, err)
				}
			}
		})
	}
	for n := range crowd {
		running.Go(func() {
			for seen := uint64(0); ; {
				r, err := s.Get(uuid(n))
				if errors.Is(err, store.ErrClosed) {
					return
				}
				if err != nil || r.Generation < seen {
					t.Errorf("vTPM %d after generation %d: %+v, %v", n, seen, r, err)
					return
				}
				seen = r.Generation
			}
		})
	}
	for _, f := range []func() error{
		s.NextEpoch,
		func() error { return s.Backup(io.Discard) },
		func() error { return s.Verify(func(f store.Fault) { t.Errorf("%s: %v", f.UUID, f.Err) }) },
		func() error { _, err := s.List(vtpm.UUID{}, crowd); return err },
	} {
		running.Go(func() {
			for {
				if err := f(); errors.Is(err, store.ErrClosed) {
					return
				} else if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	commits.Wait()
	must(t, s.Close())
	running.Wait()
	s.open()
	for n := range crowd {
		if r, err := s.Get(uuid(n)); err != nil || r.Generation != 19 {
			t.Errorf("%+v, %v", r, err)
		}
	}
}
