package store

import (
	"crypto/sha256"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/antievilmaid/aem/vtpm"
)

// Get returns a vTPM with its key and its state, both proved to be the newest. The caller
// wipes it. [ErrUnknown] is proved, too: nobody can make a vTPM disappear.
func (s *Store) Get(u vtpm.UUID) (*Record, error) {
	var r *Record
	err := s.read(func(t *tree, root rootRecord) error {
		found, h, err := s.record(t, root.sequence, u)
		if err != nil {
			return err
		}
		if found.State, err = s.state(t.b, h); err != nil {
			found.Wipe()
			return err
		}
		r = found
		return nil
	})
	return r, err
}

// record reads a record without its state and proves it; sequence is the newest commit's.
func (s *Store) record(t *tree, sequence uint64, u vtpm.UUID) (*Record, *header, error) {
	d, ok, err := t.find(u)
	if err != nil {
		return nil, nil, fmt.Errorf("vTPM %s: %w", u, err)
	}
	if !ok {
		if t.b.Get(recordKey(u)) != nil {
			return nil, nil, fmt.Errorf("vTPM %s: its record: %w", u, ErrAdded)
		}
		return nil, nil, fmt.Errorf("%w: %s", ErrUnknown, u)
	}
	return s.proved(t.b, sequence, u, d)
}

// proved reads the record that the tree has a digest of, and says what is there instead.
func (s *Store) proved(b *bolt.Bucket, sequence uint64, u vtpm.UUID, want digest) (*Record, *header, error) {
	stored := b.Get(recordKey(u))
	if stored == nil {
		return nil, nil, fmt.Errorf("vTPM %s: its record: %w", u, ErrLost)
	}
	r, h, err := s.keys.open(stored)
	if err != nil {
		return nil, nil, fmt.Errorf("vTPM %s: %w: %w", u, ErrDamaged, err)
	}
	if hashRecord(stored) == want && r.UUID == u {
		return r, h, nil
	}
	r.Wipe()
	switch {
	case r.UUID != u:
		return nil, nil, fmt.Errorf("vTPM %s: its record: %w: that of %s", u, ErrForeign, r.UUID)
	case h.sequence <= sequence:
		return nil, nil, fmt.Errorf("vTPM %s: its record: %w: commit %d, generation %d of its state", u, ErrRolledBack, h.sequence, h.generation)
	}
	// Genuine and from a commit that the root does not know: a file that was copied
	// on, and put back in parts.
	return nil, nil, fmt.Errorf("vTPM %s: %w: its record is of commit %d, and the last was %d", u, ErrDamaged, h.sequence, sequence)
}

// hashState is the digest of a state as it is stored.
func hashState(b []byte) digest { return sha256.Sum256(b) }

// state reads the state that a proved record names.
func (s *Store) state(b *bolt.Bucket, h *header) ([]byte, error) {
	stored := b.Get(stateKey(h.uuid))
	switch {
	case h.generation == 0 && stored == nil:
		return nil, nil
	case h.generation == 0:
		return nil, fmt.Errorf("vTPM %s: its state: %w", h.uuid, ErrAdded)
	case stored == nil:
		return nil, fmt.Errorf("vTPM %s: its state: %w", h.uuid, ErrLost)
	}
	u, generation, state, err := s.keys.openState(stored)
	if err != nil {
		return nil, fmt.Errorf("vTPM %s: %w: %w", h.uuid, ErrDamaged, err)
	}
	if hashState(stored) == h.state && u == h.uuid && generation == h.generation && len(state) == int(h.stateSize) {
		return state, nil
	}
	clear(state)
	switch {
	case u != h.uuid:
		return nil, fmt.Errorf("vTPM %s: its state: %w: that of %s, generation %d", h.uuid, ErrForeign, u, generation)
	case generation <= h.generation:
		return nil, fmt.Errorf("vTPM %s: its state: %w: generation %d, and the last was %d", h.uuid, ErrRolledBack, generation, h.generation)
	}
	return nil, fmt.Errorf("vTPM %s: %w: its state is of generation %d, and the last was %d", h.uuid, ErrDamaged, generation, h.generation)
}

// Entry is a vTPM in a list: its record without key and state, or why it is refused.
type Entry struct {
	UUID   vtpm.UUID
	Record *Record
	Err    error
}

// List returns at most n vTPMs whose UUIDs come after one, in ascending order; the zero
// UUID begins. The tree proves the list to be complete. Where a part of the tree is
// damaged, the error says so and the list has what lies before it.
func (s *Store) List(after vtpm.UUID, n int) ([]Entry, error) {
	var list []Entry
	err := s.read(func(t *tree, root rootRecord) (err error) {
		t.walk(after, func(leaf slot) bool {
			if len(list) >= n {
				return false
			}
			e := Entry{UUID: leaf.at}
			if e.Record, _, e.Err = s.proved(t.b, root.sequence, leaf.at, leaf.digest); e.Err == nil {
				e.Record.Wipe()
				e.Record.Key = nil
			}
			list = append(list, e)
			return true
		}, func(_ place, e error) bool {
			err = e
			return false
		})
		return err
	})
	return list, err
}
