package manager

import (
	"crypto/rand"

	"github.com/antievilmaid/aem/vtpm/emulator"
)

// newKey makes the key that encrypts a vTPM's state.
func newKey() []byte {
	key := make([]byte, emulator.KeySize)
	rand.Read(key)
	return key
}
