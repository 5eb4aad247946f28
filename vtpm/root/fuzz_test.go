package root

import (
	"bytes"
	"testing"

	"github.com/antievilmaid/aem/vtpm/store"
)

func FuzzPayload(f *testing.F) {
	whole := (&payload{id: ID{1}, tpm: [32]byte{2}, key: make([]byte, store.KeySize), credential: []byte("c"), anchor: []byte("an")}).encode()
	if p, err := parsePayload(whole); err != nil || string(p.anchor) != "an" || string(p.credential) != "c" {
		f.Fatalf("the seed can't be read: %v", err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parsePayload(b); err == nil && !bytes.Equal(p.encode(), b) {
			t.Error("what was read does not write the same bytes")
		}
	})
}
