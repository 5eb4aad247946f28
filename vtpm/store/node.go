package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/antievilmaid/aem/vtpm"
)

// place is a place in the tree: the vTPMs whose UUIDs begin with these half-bytes. All of
// them are a place too, of 32 half-bytes: one vTPM.
type place struct {
	at vtpm.UUID // zeros behind the length
	n  uint8     // half-bytes
}

const leafLength = 2 * uint8(len(vtpm.UUID{}))

// nibble is the half-byte of a UUID at an index.
func nibble(u vtpm.UUID, i uint8) byte {
	if i%2 == 0 {
		return u[i/2] >> 4
	}
	return u[i/2] & 15
}

// placeOf cuts a UUID to a length.
func placeOf(u vtpm.UUID, n uint8) place {
	p := place{n: n}
	copy(p.at[:], u[:n/2])
	if n%2 == 1 {
		p.at[n/2] = u[n/2] & 0xf0
	}
	return p
}

func (p place) holds(u vtpm.UUID) bool { return placeOf(u, p.n) == p }

// common counts the half-bytes with which both UUIDs begin.
func common(a, b vtpm.UUID) uint8 {
	for i := range leafLength {
		if nibble(a, i) != nibble(b, i) {
			return i
		}
	}
	return leafLength
}

// key is where a node stands in the file: a parent right before its first child.
func (p place) key() []byte {
	return append(append([]byte{prefixNode}, p.at[:]...), p.n)
}

// slot is what a node knows of a place beneath it.
type slot struct {
	place
	digest // of the record where the place is one vTPM, of the node otherwise
}

const slotSize = 16 + 1 + sha256.Size

// node is where the vTPMs beneath a place part ways: a slot for each half-byte that
// follows, in ascending order. A node other than the top has at least two, so that the
// tree has one form for each set of vTPMs and a lone one costs no chain of nodes.
type node struct {
	place
	slots []slot
}

// find returns the index of the slot for a UUID beneath the node, or where it would be.
func (n *node) find(u vtpm.UUID) (int, bool) {
	return slices.BinarySearchFunc(n.slots, nibble(u, n.n), func(s slot, x byte) int {
		return int(nibble(s.at, n.n)) - int(x)
	})
}

func (n *node) encode() []byte {
	b := append(make([]byte, 0, 1+len(n.slots)*slotSize), byte(len(n.slots)))
	for _, s := range n.slots {
		b = append(append(append(b, s.at[:]...), s.n), s.digest[:]...)
	}
	return b
}

// hashNode is a node's digest. It covers the place, so that no node stands in for another.
func hashNode(p place, b []byte) digest {
	h := sha256.New()
	h.Write([]byte("aem vtpm store: node\x00"))
	h.Write(p.at[:])
	h.Write([]byte{p.n})
	h.Write(b)
	return digest(h.Sum(nil))
}

// hashRecord is the digest of a record as it is stored.
func hashRecord(b []byte) digest {
	h := sha256.New()
	h.Write([]byte("aem vtpm store: leaf\x00"))
	h.Write(b)
	return digest(h.Sum(nil))
}

// parseNode reads the node of a place.
func parseNode(p place, b []byte) (*node, error) {
	wrong := errors.New("a node of the tree can't be read")
	if len(b) < 1 || len(b) != 1+int(b[0])*slotSize || b[0] > 16 || b[0] < 2 && p.n > 0 {
		return nil, wrong
	}
	n := &node{place: p}
	for b = b[1:]; len(b) > 0; b = b[slotSize:] {
		s := slot{place{vtpm.UUID(b[:16]), b[16]}, digest(b[17:slotSize])}
		if s.n <= p.n || s.n > leafLength || !p.holds(s.at) || placeOf(s.at, s.n) != s.place {
			return nil, wrong
		}
		if l := len(n.slots); l > 0 && bytes.Compare(n.slots[l-1].at[:], s.at[:]) >= 0 || l > 0 && nibble(n.slots[l-1].at, p.n) == nibble(s.at, p.n) {
			return nil, wrong
		}
		n.slots = append(n.slots, s)
	}
	return n, nil
}

// String names a place to people.
func (p place) String() string {
	if p.n == 0 {
		return "all vTPMs"
	}
	return fmt.Sprintf("the vTPMs whose UUIDs begin with %.*s", p.n, fmt.Sprintf("%x", p.at[:]))
}
