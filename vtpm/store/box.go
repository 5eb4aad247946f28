package store

import (
	"crypto/aes"
	"crypto/cipher"
)

// encrypt puts a secret into a box: 12 bytes random nonce, ciphertext, 16 bytes tag of
// AES-256-GCM, which covers the header too. It wipes the key.
func encrypt(key, header, secret []byte) []byte {
	return newAEAD(key).Seal(nil, nil, secret, header)
}

// decrypt is the inverse of encrypt. It wipes the key; the caller wipes the secret.
func decrypt(key, header, box []byte) ([]byte, error) {
	return newAEAD(key).Open(nil, nil, box, header)
}

func newAEAD(key []byte) cipher.AEAD {
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err == nil {
		var aead cipher.AEAD
		if aead, err = cipher.NewGCMWithRandomNonce(block); err == nil {
			return aead
		}
	}
	panic(err) // keys are KeySize long, which AES-256 takes
}
