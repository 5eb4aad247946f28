package store

import (
	"errors"
	"fmt"
	"io"

	bolt "go.etcd.io/bbolt"

	"github.com/antievilmaid/aem/vtpm"
)

// Backup writes a copy of the newest commit. It is encrypted as the store is, and dead
// to Open from the next epoch on; [Restore] reads it. Commits go on meanwhile, but one that
// makes the file grow past what is mapped waits for the end.
func (s *Store) Backup(w io.Writer) error {
	return s.read(func(t *tree, _ rootRecord) error {
		_, err := t.b.Tx().WriteTo(w)
		return err
	})
}

// Restore makes a store of a backup, or of any file of a store, old or refused by Open: from is
// its name, key the root key that it was made with. All vTPMs are proved and put into a
// new store, tied to root as it is now; so it also moves a store to another TPM
// or to another root key. Where one vTPM can't be proved there is no new store, and the
// error names it. The file is not changed, and where it stands in the new store's
// place it has to be moved away first.
//
// It is an explicit act because of what it breaks: how old the file is, nobody can
// say. Each guest may find itself in the past: its NV counters lower, its changed
// passwords old again, what it had destroyed back. And a store that goes on
// somewhere else has the same vTPMs a second time.
func Restore(path string, root Root, from string, key []byte) error {
	db, err := readFile(from)
	if err != nil {
		return err
	}
	old := &Store{db: db}
	defer old.close()
	if err := old.prove(key); err != nil {
		return err
	}
	return build(path, root, func(s *Store) error { return s.takeOver(old) })
}

// Check proves all vTPMs of a file as [Restore] does, and changes nothing.
func Check(from string, key []byte) error {
	db, err := readFile(from)
	if err != nil {
		return err
	}
	s := &Store{db: db}
	defer s.close()
	if err := s.prove(key); err != nil {
		return err
	}
	return s.read(func(t *tree, root rootRecord) (bad error) {
		t.walk(vtpm.UUID{}, func(leaf slot) bool {
			r, h, err := s.proved(t.b, root.sequence, leaf.at, leaf.digest)
			if err == nil {
				r.State, err = s.state(t.b, h)
				r.Wipe()
			}
			bad = err
			return err == nil
		}, func(_ place, err error) bool {
			bad = err
			return false
		})
		return bad
	})
}

// takeOver copies all vTPMs of another store.
func (s *Store) takeOver(old *Store) error {
	const atOnce = 256 // in one commit
	return old.read(func(t *tree, root rootRecord) error {
		var list []slot
		var bad error
		t.walk(vtpm.UUID{}, func(leaf slot) bool {
			list = append(list, leaf)
			return true
		}, func(_ place, err error) bool {
			bad = errors.Join(bad, err)
			return true
		})
		for len(list) > 0 && bad == nil {
			n := min(atOnce, len(list))
			bad = s.commit(func(to *tree, r *rootRecord) error {
				for _, leaf := range list[:n] {
					if err := s.copyFrom(old, t.b, root.sequence, leaf, to, r); err != nil {
						return err
					}
				}
				return nil
			})
			list = list[n:]
		}
		if bad != nil {
			return fmt.Errorf("nothing was restored: %w", bad)
		}
		return nil
	})
}

func (s *Store) copyFrom(old *Store, b *bolt.Bucket, sequence uint64, leaf slot, to *tree, root *rootRecord) error {
	r, h, err := old.proved(b, sequence, leaf.at, leaf.digest)
	if err != nil {
		return err
	}
	defer r.Wipe()
	if r.State, err = old.state(b, h); err != nil {
		return err
	}
	return s.add(to, root, r)
}
