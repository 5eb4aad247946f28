package store

import (
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/vtpm"
)

// Add puts a new vTPM into the store, with a state (which is its generation 1) or without
// one. [ErrExists] says that the UUID is taken. Like every change it is durable when
// it returns.
func (s *Store) Add(r *Record) error {
	if r.Generation != 0 {
		return fmt.Errorf("vTPM %s: a new one has no generation yet", r.UUID)
	}
	added := *r
	if len(r.State) > 0 {
		added.Generation = 1
	}
	return s.commit(func(t *tree, root *rootRecord) error { return s.add(t, root, &added) })
}

func (s *Store) add(t *tree, root *rootRecord, r *Record) error {
	if err := r.check(); err != nil {
		return err
	}
	_, ok, err := t.find(r.UUID)
	switch {
	case err != nil:
		return err
	case ok:
		return fmt.Errorf("vTPM %s: %w", r.UUID, ErrExists)
	case t.b.Get(recordKey(r.UUID)) != nil || t.b.Get(stateKey(r.UUID)) != nil:
		return fmt.Errorf("vTPM %s: its place is taken: %w", r.UUID, ErrAdded)
	}
	root.count++
	if r.Generation == 0 {
		return s.put(t, root, r, 0, digest{})
	}
	return s.putWithState(t, root, r)
}

func (s *Store) putWithState(t *tree, root *rootRecord, r *Record) error {
	stored := s.keys.sealState(r.UUID, r.Generation, r.State)
	if err := t.b.Put(stateKey(r.UUID), stored); err != nil {
		return err
	}
	return s.put(t, root, r, len(r.State), hashState(stored))
}

func (s *Store) put(t *tree, root *rootRecord, r *Record, stateSize int, state digest) error {
	stored := s.keys.seal(r, root.sequence, stateSize, state)
	if err := t.b.Put(recordKey(r.UUID), stored); err != nil {
		return err
	}
	return t.set(r.UUID, hashRecord(stored))
}

// PutState commits a vTPM's state. generation is the new state's: one more than
// the one stored, or [ErrGeneration] says that somebody else was there.
func (s *Store) PutState(u vtpm.UUID, generation uint64, state []byte) error {
	if len(state) == 0 {
		return fmt.Errorf("vTPM %s: an empty state is none", u)
	}
	return s.Change(u, func(r *Record) error {
		if generation != r.Generation+1 {
			return fmt.Errorf("vTPM %s: %w: %d, and %d was to be put after it", u, ErrGeneration, r.Generation, generation)
		}
		r.State = state
		return nil
	})
}

// Change changes a vTPM in one commit. change gets the record with its key and
// without its state; a state that it puts there is committed too, as the next generation.
// So a new key and the state encrypted with it take each other's place at once.
// UUID, family, generation and time of creation can't be changed. The function must not
// call the store; where it returns an error, nothing is changed and the error is returned.
func (s *Store) Change(u vtpm.UUID, change func(*Record) error) error {
	return s.commit(func(t *tree, root *rootRecord) error {
		r, h, err := s.record(t, root.sequence-1, u)
		if err != nil {
			return err
		}
		defer clear(r.Key)
		was := *r
		if err := change(r); err != nil {
			return err
		}
		if r.UUID != was.UUID || r.Family != was.Family || r.Generation != was.Generation || !r.Created.Equal(was.Created) {
			return errors.New("the UUID, family, generation and time of creation of a vTPM can't be changed")
		}
		if err := r.check(); err != nil {
			return err
		}
		next := *r
		if len(r.State) > 0 {
			next.Generation++
			return s.putWithState(t, root, &next)
		}
		return s.put(t, root, &next, int(h.stateSize), h.state)
	})
}

// Remove takes a vTPM out of the store for good, also one that is refused because its
// record is damaged, and what somebody else put into its place.
func (s *Store) Remove(u vtpm.UUID) error {
	return s.commit(func(t *tree, root *rootRecord) error {
		_, ok, err := t.find(u)
		switch {
		case err != nil:
			return fmt.Errorf("vTPM %s: %w", u, err)
		case ok:
			root.count--
			if err := t.remove(u); err != nil {
				return err
			}
		case t.b.Get(recordKey(u)) == nil && t.b.Get(stateKey(u)) == nil:
			return fmt.Errorf("%w: %s", ErrUnknown, u)
		}
		return errors.Join(t.b.Delete(recordKey(u)), t.b.Delete(stateKey(u)))
	})
}
