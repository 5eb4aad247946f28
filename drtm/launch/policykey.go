package launch

import (
	"crypto/ed25519"
	"errors"
	"fmt"
)

// ErrKey says that a file holds no key for launch policies.
var ErrKey = errors.New("this is no key for launch policies")

// A key's file is one line: what it is, and the key in hexadecimal digits. Of the
// secret key it holds the 32 bytes from which the rest is computed (RFC 8032, clause
// 5.1.5).
const (
	publicTitle = "aem launch policy public key 1 "
	secretTitle = "aem launch policy secret key 1 "
)

// PublicKeyFile is the file with a public key.
func PublicKeyFile(key ed25519.PublicKey) []byte { return keyFile(publicTitle, key) }

// SecretKeyFile is the file with a secret key, which the caller wipes.
func SecretKeyFile(key ed25519.PrivateKey) []byte {
	return keyFile(secretTitle, key[:ed25519.SeedSize])
}

func keyFile(title string, key []byte) []byte {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, len(title)+2*len(key)+1)
	b = append(b, title...)
	for _, x := range key {
		b = append(b, digits[x>>4], digits[x&15])
	}
	return append(b, '\n')
}

// ParsePublicKey reads a public key's file; the error wraps [ErrKey].
func ParsePublicKey(file []byte) (ed25519.PublicKey, error) {
	key, rest, ok := hexLine(file, publicTitle, ed25519.PublicKeySize)
	if !ok || len(rest) > 0 {
		return nil, fmt.Errorf("%w: a public key was expected", ErrKey)
	}
	return key, nil
}

// ParseSecretKey reads a secret key's file; the error wraps [ErrKey]. The caller wipes
// the key, and the file's bytes.
func ParseSecretKey(file []byte) (ed25519.PrivateKey, error) {
	seed, rest, ok := hexLine(file, secretTitle, ed25519.SeedSize)
	defer clear(seed)
	if !ok || len(rest) > 0 {
		return nil, fmt.Errorf("%w: a secret key was expected", ErrKey)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
