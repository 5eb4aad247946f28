package store

import (
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/antievilmaid/aem/vtpm"
)

// What keys in the bucket begin with; one for each kind, so that a kind is one range of keys.
const (
	prefixNode   = 'n'
	prefixRecord = 'r'
	prefixState  = 's'
	keyRoot      = "top"
)

func recordKey(u vtpm.UUID) []byte { return append([]byte{prefixRecord}, u[:]...) }
func stateKey(u vtpm.UUID) []byte  { return append([]byte{prefixState}, u[:]...) }

// tree is the hash tree within one transaction. Nothing is read from it that does not
// lead to top.
type tree struct {
	b   *bolt.Bucket
	top digest
}

// load reads a node and proves it. The error wraps [ErrDamaged].
func (t *tree) load(p place, want digest) (*node, error) {
	b := t.b.Get(p.key())
	if b == nil {
		return nil, fmt.Errorf("%w: the part of the tree that proves %s is missing", ErrDamaged, p)
	}
	if hashNode(p, b) != want {
		return nil, fmt.Errorf("%w: the part of the tree that proves %s is not the one that was committed", ErrDamaged, p)
	}
	n, err := parseNode(p, b)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, p, err)
	}
	return n, nil
}

// save writes a node and returns its digest.
func (t *tree) save(n *node) (digest, error) {
	b := n.encode()
	return hashNode(n.place, b), t.b.Put(n.key(), b)
}

// find returns the digest of a vTPM's record, or proves that there is none.
func (t *tree) find(u vtpm.UUID) (d digest, ok bool, err error) {
	s := slot{place{}, t.top}
	for s.n < leafLength {
		n, err := t.load(s.place, s.digest)
		if err != nil {
			return d, false, err
		}
		i, ok := n.find(u)
		if !ok || !n.slots[i].holds(u) {
			return d, false, nil
		}
		s = n.slots[i]
	}
	return s.digest, true, nil
}

// set gives a vTPM's record a digest, and the tree a new top.
func (t *tree) set(u vtpm.UUID, d digest) (err error) {
	t.top, err = t.setIn(slot{place{}, t.top}, slot{placeOf(u, leafLength), d})
	return err
}

func (t *tree) setIn(at, leaf slot) (digest, error) {
	n, err := t.load(at.place, at.digest)
	if err != nil {
		return digest{}, err
	}
	i, ok := n.find(leaf.at)
	switch {
	case !ok:
		n.slots = slices.Insert(n.slots, i, leaf)
	case n.slots[i].place == leaf.place:
		n.slots[i] = leaf
	case n.slots[i].holds(leaf.at):
		if n.slots[i].digest, err = t.setIn(n.slots[i], leaf); err != nil {
			return digest{}, err
		}
	default:
		// They part ways between this node and what is beneath it.
		other := n.slots[i]
		fork := &node{place: placeOf(leaf.at, common(other.at, leaf.at)), slots: []slot{leaf}}
		if j, _ := fork.find(other.at); j == 0 {
			fork.slots = []slot{other, leaf}
		} else {
			fork.slots = []slot{leaf, other}
		}
		d, err := t.save(fork)
		if err != nil {
			return digest{}, err
		}
		n.slots[i] = slot{fork.place, d}
	}
	return t.save(n)
}

// remove takes a vTPM, which must be in the tree, out of it.
func (t *tree) remove(u vtpm.UUID) error {
	n, err := t.removeIn(slot{place{}, t.top}, u)
	if err == nil {
		t.top, err = t.save(n)
	}
	return err
}

// removeIn returns the node as it is without the vTPM, not saved yet: with one slot
// left it is not to be saved.
func (t *tree) removeIn(at slot, u vtpm.UUID) (*node, error) {
	n, err := t.load(at.place, at.digest)
	if err != nil {
		return nil, err
	}
	i, ok := n.find(u)
	if !ok || !n.slots[i].holds(u) {
		return nil, ErrUnknown
	}
	s := &n.slots[i]
	if s.n == leafLength {
		n.slots = slices.Delete(n.slots, i, i+1)
		return n, nil
	}
	child, err := t.removeIn(*s, u)
	if err != nil {
		return nil, err
	}
	if len(child.slots) == 1 {
		*s = child.slots[0]
		return n, t.b.Delete(child.key())
	}
	s.digest, err = t.save(child)
	return n, err
}

// walk visits the vTPMs whose UUIDs come after one, in ascending order, until a visit returns
// false. Where a part of the tree can't be proved, bad is told and decides.
func (t *tree) walk(after vtpm.UUID, visit func(slot) bool, bad func(place, error) bool) {
	t.walkIn(slot{place{}, t.top}, after, visit, bad)
}

func (t *tree) walkIn(at slot, after vtpm.UUID, visit func(slot) bool, bad func(place, error) bool) bool {
	n, err := t.load(at.place, at.digest)
	if err != nil {
		return bad(at.place, err)
	}
	for _, s := range n.slots {
		if before(s.place, after) {
			continue
		}
		if s.n == leafLength {
			if !visit(s) {
				return false
			}
		} else if !t.walkIn(s, after, visit, bad) {
			return false
		}
	}
	return true
}

// before reports whether all of a place comes before a UUID, or is it.
func before(p place, u vtpm.UUID) bool {
	for i := range p.n {
		if a, b := nibble(p.at, i), nibble(u, i); a != b {
			return a < b
		}
	}
	return p.n == leafLength
}
