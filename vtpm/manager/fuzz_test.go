package manager_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/antievilmaid/aem/vtpm/manager"
)

// Who spoils a state on its way is noticed, whatever byte it is. The second one, the oldest version that can read it,
// says nothing.
func TestASpoiltStateIsNoticed(t *testing.T) {
	key := bytes.Repeat([]byte{5}, 32)
	sealed := manager.SealState(bytes.Repeat([]byte("a TPM's state"), 9), key)
	for i := range sealed {
		evil := bytes.Clone(sealed)
		evil[i] ^= 0x40
		if _, err := manager.OpenState(evil, key); i != 1 && !errors.Is(err, manager.ErrForeignState) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

// FuzzOpenState takes apart what may be anything. What it takes out can be put in again.
func FuzzOpenState(f *testing.F) {
	key := bytes.Repeat([]byte{5}, 32)
	sealed := manager.SealState([]byte("a TPM's state"), key)
	seeds := [][]byte{nil, sealed, []byte("\x02\x01\x00\x0a\x00\x00\x00\x00\x00\x13\x00\x01\x00\x00\x00\x03abc")}
	for i, seed := range seeds {
		if _, err := manager.OpenState(seed, key); (err == nil) != (i > 0) {
			f.Fatalf("seed %d: %v", i, err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		plain, err := manager.OpenState(b, key)
		if err != nil {
			if !errors.Is(err, manager.ErrForeignState) {
				t.Fatal(err)
			}
			return
		}
		again, err := manager.OpenState(manager.SealState(plain, key), key)
		if err != nil || !bytes.Equal(plain, again) {
			t.Fatalf("%x became %x, %v", plain, again, err)
		}
	})
}
