package store_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/store"
)

// crowded makes a store with many vTPMs, quickly: a backup of an empty one can't be had
// faster than by adding them. Their states have the size of a fresh swtpm's.
func crowded(b *testing.B, n int) *safe {
	s := &safe{t: b, path: filepath.Join(b.TempDir(), "vtpms"), root: newCounter()}
	memory := filepath.Join(folder(b), "vtpms")
	must(b, store.Create(memory, s.root))
	st, err := store.Open(memory, s.root)
	must(b, err)
	for i := range n {
		must(b, st.Add(&store.Record{
			UUID: numbered(i), Family: tpm.V20, Key: bytes.Repeat([]byte{1}, store.KeySize), Created: born, Changed: born,
			Name: fmt.Sprint("guest ", i), Config: []byte(`{"locality":0,"clones":"refuse"}`), State: make([]byte, 1404),
		}))
	}
	must(b, st.Close())
	file, err := os.ReadFile(memory)
	must(b, err)
	must(b, os.WriteFile(s.path, file, 0o600)) // from memory to the disk, where commits are measured
	s.open()
	b.Cleanup(func() { s.Close() })
	return s
}

func numbered(i int) vtpm.UUID {
	return vtpm.UUID(tpm.SHA256.Sum(binary.BigEndian.AppendUint32(nil, uint32(i)))[:16])
}

var sizes = []int{100, 1000, 20000}

// A commit of a fresh vTPM's state, on the disk, with what it costs there.
func BenchmarkCommit(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := crowded(b, n)
			state, writes := make([]byte, 1404), s.root.writes
			generations := map[int]uint64{}
			i := 0
			for b.Loop() {
				k := i * 7919 % n
				generations[k]++
				must(b, s.PutState(numbered(k), 1+generations[k], state))
				i++
			}
			if s.root.writes != writes {
				b.Errorf("%d commits wrote %d times to the TPM's NV memory", i, s.root.writes-writes)
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := crowded(b, n)
			i := 0
			for b.Loop() {
				_, err := s.Get(numbered(i * 7919 % n))
				must(b, err)
				i++
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := crowded(b, n)
			for b.Loop() {
				s.reopen(func() {})
			}
		})
	}
}
