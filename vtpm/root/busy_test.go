package root_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/root"
	"github.com/antievilmaid/aem/vtpm/store"
)

// neighboured is a server whose TPM other programs use, too, without a resource manager.
type neighboured struct {
	*server
	*testbed.Shared
	root.Chip
}

func eachNeighboured(t *testing.T, test func(*testing.T, *neighboured)) {
	eachFamily(t, func(t *testing.T, s *server) {
		n := &neighboured{server: s, Shared: testbed.NewShared(s.conn, s.version)}
		chip, err := aem.NewChip(n.Shared, s.version)
		s.must(err)
		n.Chip = chip
		test(t, n)
	})
}

// at has somebody answer one command, the nth from now on (0 is the next), and reports whether it came.
// kind is its ordinal or code.
func (n *neighboured) at(nth int, answer testbed.Between) (came func() (kind uint32, ok bool)) {
	var kind uint32
	seen := 0
	n.SetBetween(func(cmd []byte, pass func([]byte) ([]byte, error)) ([]byte, error) {
		seen++
		if seen-1 != nth {
			return nil, nil
		}
		kind = binary.BigEndian.Uint32(cmd[6:])
		return answer(cmd, pass)
	})
	return func() (uint32, bool) {
		n.SetBetween(nil)
		return kind, seen > nth
	}
}

func (n *neighboured) left() int {
	n.t.Helper()
	left, err := n.Left()
	n.must(err)
	return len(left)
}

// What a TPM answers while others use it, by its family.
type refusals struct {
	again []uint32 // the same command succeeds if it is sent again
	full  []uint32 // others have to give places back first
	flush uint32   // the command that gives a place back is never refused for want of one
}

var codes = map[tpm.Version]refusals{
	tpm.V20: {[]uint32{0x922, 0x908, 0x90a}, []uint32{0x902, 0x903, 0x904, 0x905}, 0x165}, // RETRY, YIELDED, TESTING; OBJECT_MEMORY, SESSION_MEMORY, MEMORY, SESSION_HANDLES
	tpm.V12: {[]uint32{0x800, 0x802}, []uint32{21}, 0xba},                                 // RETRY, DOING_SELFTEST; RESOURCES
}

// vital is a root in use: a store with one vTPM on it, and a copy of the store's file that is to be dead after
// the next epoch.
type vital struct {
	*neighboured
	root  *root.Root
	store *store.Store
}

func (n *neighboured) vital() *vital {
	n.t.Helper()
	n.create()
	v := &vital{neighboured: n}
	var err error
	v.root, err = root.Open(n.folder(), n.Chip)
	n.must(err)
	n.must(store.Create(n.path(), v.root))
	v.store, err = store.Open(n.path(), v.root)
	n.must(err)
	n.must(v.store.Add(guest))
	n.t.Cleanup(func() { v.store.Close(); v.root.Close() })
	return v
}

// moves demands that an epoch can be begun, and kills the file before it.
func (v *vital) moves() {
	v.t.Helper()
	old, err := os.ReadFile(v.path())
	v.must(err)
	// What a step that failed left open is made up for first.
	for v.must(v.store.NextEpoch()); v.store.Changed(); {
		v.must(v.store.NextEpoch())
	}
	other := v.path() + ".old"
	v.must(os.WriteFile(other, old, 0o600))
	if _, err := store.Open(other, v.root); !errors.Is(err, store.ErrRolledBack) {
		v.t.Errorf("the file from before the epoch: %v", err)
	}
}

// whole demands that the store opens on the TPM, with what was put last.
func (v *vital) whole(generation uint64) {
	v.t.Helper()
	v.must(v.store.Close())
	want := key(v.t, v.root)
	r, err := root.Open(v.folder(), v.Chip)
	v.must(err)
	if !bytes.Equal(key(v.t, r), want) {
		v.t.Error("it is another key")
	}
	v.root.Close()
	v.root = r
	v.store, err = store.Open(v.path(), r)
	v.must(err)
	if g, err := v.store.Get(guest.UUID); err != nil || g.Generation != generation {
		v.t.Errorf("%+v, %v; generation %d was put", g, err, generation)
	}
}

// put commits a state, as a guest makes its vTPM do, which takes no TPM.
func (v *vital) put(generation uint64) {
	v.t.Helper()
	v.must(v.store.PutState(guest.UUID, generation, []byte{byte(generation)}))
}

// At each command of an epoch the TPM is busy, full, or does not answer. Asked again it goes on where the TPM says
// so; otherwise the epoch is made up for later. Guests' states are stored meanwhile, nothing is lost, and
// the file from before is refused in the end. What the TPM answered leaves no place in it taken; where its
// answer was lost nobody knows what is taken, and closing the device gives it back.
func TestTheTPMIsBusyAtEachCommandOfAnEpoch(t *testing.T) {
	eachNeighboured(t, func(t *testing.T, n *neighboured) {
		v := n.vital()
		generation := uint64(1)
		code := codes[n.version]
		made := func() {
			generation++
			v.put(generation)
			v.moves()
		}
		for nth, reached := 0, true; reached; nth++ {
			c := code.again[nth%len(code.again)]
			came := n.at(nth, func([]byte, func([]byte) ([]byte, error)) ([]byte, error) { return n.Refusal(c), nil })
			err := v.store.NextEpoch()
			kind, ok := came()
			if err != nil {
				t.Errorf("%#x at command %d (%#x): %v", c, nth, kind, err)
			}
			if reached = ok; !ok && nth < 10 {
				t.Errorf("an epoch takes only %d commands", nth)
			}
			if left := n.left(); left != 0 {
				t.Fatalf("%#x at command %d (%#x): %d places of the TPM are taken", c, nth, kind, left)
			}

			c = code.full[nth%len(code.full)]
			came = n.at(nth, func(cmd []byte, _ func([]byte) ([]byte, error)) ([]byte, error) {
				if binary.BigEndian.Uint32(cmd[6:]) == code.flush {
					return nil, nil
				}
				return n.Refusal(c), nil
			})
			err = v.store.NextEpoch()
			if kind, ok = came(); ok && kind != code.flush && !errors.Is(err, tpm.ErrBusy) {
				t.Errorf("%#x at command %d (%#x): %v", c, nth, kind, err)
			}
			if left := n.left(); left != 0 {
				t.Fatalf("%#x at command %d (%#x): %d places of the TPM are taken", c, nth, kind, left)
			}
			made()

			came = n.at(nth, func(cmd []byte, pass func([]byte) ([]byte, error)) ([]byte, error) {
				if nth%2 == 0 {
					if _, err := pass(cmd); err != nil {
						return nil, err
					}
				}
				return nil, errGone
			})
			err = v.store.NextEpoch()
			if kind, ok = came(); ok && kind != code.flush && !errors.Is(err, errGone) {
				t.Errorf("no answer to command %d (%#x): %v", nth, kind, err)
			}
			lost, err := n.Left()
			n.must(err)
			n.must(n.Flush(lost))
			made()
		}
		v.whole(generation)
	})
}

var errGone = errors.New("the TPM's driver is gone")

// Another program has taken all places in the TPM, for good: whoever needs one hears so, nothing is refused as if it were
// somebody's fault, and when the places are free again everything goes on.
func TestAnotherProgramHoldsAllPlacesInTheTPM(t *testing.T) {
	eachNeighboured(t, func(t *testing.T, n *neighboured) {
		v := n.vital()
		generation := uint64(1)
		for range 2 {
			empty, err := n.Fill()
			n.must(err)
			full := n.left()
			if full < 3 {
				t.Fatalf("only %d places could be taken", full)
			}
			if err := v.store.NextEpoch(); !errors.Is(err, tpm.ErrBusy) {
				t.Errorf("an epoch: %v", err)
			}
			if _, err := root.Open(n.folder(), n.Chip); !errors.Is(err, tpm.ErrBusy) {
				t.Errorf("opening: %v", err)
			}
			generation++
			v.put(generation)
			if left := n.left(); left != full {
				t.Errorf("%d places are taken, there were %d", left, full)
			}
			n.must(empty())
			v.moves()
			v.whole(generation)
			if left := n.left(); left != 0 {
				t.Errorf("%d places are taken", left)
			}
		}
	})
}
