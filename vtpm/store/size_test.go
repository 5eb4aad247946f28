package store

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

// With 20,000 vTPMs a commit writes the nodes of one path, the list is whole, and a
// crowd of UUIDs that count upwards makes no deep tree.
func TestTwentyThousandVTPMs(t *testing.T) {
	const many, atOnce, deepest = 20000, 250, 8
	for name, number := range map[string]func(uint32) vtpm.UUID{
		"random": func(i uint32) vtpm.UUID {
			return vtpm.UUID(tpm.SHA256.Sum(binary.BigEndian.AppendUint32(nil, i))[:16])
		},
		"counted": func(i uint32) vtpm.UUID { return vtpm.UUID(binary.BigEndian.AppendUint32(make([]byte, 12), i+1)) },
	} {
		t.Run(name, func(t *testing.T) {
			path, root := filepath.Join(t.TempDir(), "vtpms"), &memoryRoot{}
			err := build(path, root, func(s *Store) error {
				for first := uint32(0); first < many; first += atOnce {
					err := s.commit(func(tr *tree, r *rootRecord) error {
						for i := range uint32(atOnce) {
							x := fuzzRecord()
							x.UUID, x.Generation, x.State = number(first+i), 1, []byte("state")
							if err := s.add(tr, r, x); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			s, err := Open(path, root)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			before := nodesOf(t, s)
			if err := s.PutState(number(777), 2, []byte("next")); err != nil {
				t.Fatal(err)
			}
			changed := 0
			for k, v := range nodesOf(t, s) {
				if !bytes.Equal(v, before[k]) {
					changed++
				}
			}
			if changed == 0 || changed > deepest {
				t.Errorf("a commit changed %d nodes of %d", changed, len(before))
			}
			listed := 0
			for after := (vtpm.UUID{}); ; {
				page, err := s.List(after, 1000)
				if err != nil {
					t.Fatal(err)
				}
				if listed += len(page); len(page) == 0 {
					break
				}
				after = page[len(page)-1].UUID
			}
			if listed != many || s.Count() != many {
				t.Errorf("%d are listed, %d counted", listed, s.Count())
			}
			if err := s.Verify(func(f Fault) { t.Errorf("%s: %v", f.UUID, f.Err) }); err != nil {
				t.Error(err)
			}
		})
	}
}

func nodesOf(t *testing.T, s *Store) map[string][]byte {
	t.Helper()
	m := map[string][]byte{}
	err := s.read(func(tr *tree, _ rootRecord) error {
		return tr.b.ForEach(func(k, v []byte) error {
			if k[0] == prefixNode {
				m[string(k)] = bytes.Clone(v)
			}
			return nil
		})
	})
	if err != nil || len(m) == 0 {
		t.Fatalf("%d nodes, %v", len(m), err)
	}
	return m
}
