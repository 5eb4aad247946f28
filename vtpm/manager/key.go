package manager

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"

	"github.com/antievilmaid/aem/vtpm/emulator"
)

// newKey makes the key that encrypts a vTPM's state, of what the kernel and the hardware's TPM give. A TPM that gives
// nothing does not keep a vTPM from being made: err says why it did not.
func (m *Manager) newKey() (key []byte, err error) {
	kernel := make([]byte, emulator.KeySize)
	defer clear(kernel)
	rand.Read(kernel)
	var hardware []byte
	if m.Random != nil {
		hardware, err = m.Random(emulator.KeySize)
		defer clear(hardware)
	}
	return mix(kernel, hardware), err
}

// mix makes a key that nobody knows who does not know both (RFC 5869). What the hardware says came over a bus, from
// a chip that may be broken or somebody's: it only salts what the kernel gives, so the worst of it takes nothing away.
func mix(kernel, hardware []byte) []byte {
	key, err := hkdf.Key(sha256.New, kernel, hardware, "aem vtpm: key of a state", emulator.KeySize)
	if err != nil {
		panic(err) // the length is a constant that RFC 5869 allows
	}
	return key
}
