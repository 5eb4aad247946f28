package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
)

// keySize is the length of the key that the TPM seals: AES-256.
const keySize = 32

// encrypt puts a secret into a box that also authenticates header. The key is
// used for this one box; the nonce is random all the same and stands before the
// ciphertext.
func encrypt(key, header, secret []byte) ([]byte, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, secret, header), nil
}

// decrypt is the inverse of encrypt. One flipped bit in key, header or box is [ErrDamaged].
func decrypt(key, header, box []byte) ([]byte, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	secret, err := aead.Open(nil, nil, box, header)
	if err != nil {
		return nil, fmt.Errorf("%w: what it says is not what was sealed", ErrDamaged)
	}
	return secret, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("%w: its key has %d bytes, not %d", ErrDamaged, len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func newKey() []byte {
	key := make([]byte, keySize)
	rand.Read(key) // never returns an error
	return key
}
