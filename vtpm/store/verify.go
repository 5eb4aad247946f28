package store

import (
	"fmt"

	"github.com/antievilmaid/aem/vtpm"
)

// Fault is something in a store that is not as it was committed.
type Fault struct {
	// UUID names the vTPM, and is zero where it can't be known.
	UUID vtpm.UUID
	Err  error
}

// Verify reads everything, states included, and tells each fault. The error is of
// reading as a whole. Commits go on meanwhile, as with [Store.Backup].
func (s *Store) Verify(tell func(Fault)) error {
	return s.read(func(t *tree, root rootRecord) error {
		known := map[vtpm.UUID]bool{}
		t.walk(vtpm.UUID{}, func(leaf slot) bool {
			known[leaf.at] = true
			r, h, err := s.proved(t.b, root.sequence, leaf.at, leaf.digest)
			if err == nil {
				r.State, err = s.state(t.b, h)
				r.Wipe()
			}
			if err != nil {
				tell(Fault{leaf.at, err})
			}
			return true
		}, func(p place, err error) bool {
			if !s.tellBeneath(t, p, err, known, tell) {
				tell(Fault{Err: fmt.Errorf("the vTPM store: %w", err)})
			}
			return true
		})
		return s.tellStrangers(t, known, tell)
	})
}

// tellBeneath names the vTPMs that a damaged part of the tree would prove.
func (s *Store) tellBeneath(t *tree, p place, err error, known map[vtpm.UUID]bool, tell func(Fault)) (any bool) {
	c := t.b.Cursor()
	for k, _ := c.Seek(recordKey(p.at)); len(k) == 17 && k[0] == prefixRecord && p.holds(vtpm.UUID(k[1:])); k, _ = c.Next() {
		u := vtpm.UUID(k[1:])
		known[u], any = true, true
		tell(Fault{u, fmt.Errorf("vTPM %s: %w", u, err)})
	}
	return any
}

// tellStrangers names what the tree does not lead to.
func (s *Store) tellStrangers(t *tree, known map[vtpm.UUID]bool, tell func(Fault)) error {
	return t.b.ForEach(func(k, _ []byte) error {
		switch {
		case string(k) == keyRoot, len(k) == 18 && k[0] == prefixNode:
			// A node that nothing leads to is never read.
		case len(k) == 17 && (k[0] == prefixRecord || k[0] == prefixState):
			if u := vtpm.UUID(k[1:]); !known[u] {
				known[u] = true
				tell(Fault{u, fmt.Errorf("vTPM %s: %w", u, ErrAdded)})
			}
		default:
			tell(Fault{Err: fmt.Errorf("the vTPM store: something that no store has: %w", ErrAdded)})
		}
		return nil
	})
}
