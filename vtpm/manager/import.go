package manager

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/store"
)

// ErrForeignState says that a file is no state of swtpm's that can be taken over.
var ErrForeignState = errors.New("this state of swtpm's can't be taken over")

// Import makes a vTPM that goes on where another program's swtpm stopped: with its identity, and all that was
// sealed with it. state is swtpm's permanent state; it is copied. Where it is encrypted (AES-256, swtpm's
// --key), key is its key. What the other program has stays there, and whoever has it has the same TPM a second time.
func (m *Manager) Import(ctx context.Context, u vtpm.UUID, name string, v tpm.Version, p Policy, state, key []byte) error {
	err := isOwn(u)
	if err == nil {
		err = m.importState(ctx, u, name, v, p, state, key)
	}
	if err != nil {
		return fmt.Errorf("import the vTPM %s: %w", u, err)
	}
	m.Tell(Happening{Kind: "imported", UUID: u, Text: fmt.Sprintf("a %s was taken over for %q; whoever has a copy of what it was has the same TPM", v, name)})
	return nil
}

func (m *Manager) importState(ctx context.Context, u vtpm.UUID, name string, v tpm.Version, p Policy, state, key []byte) error {
	plain, err := openState(state, key)
	if err != nil {
		return err
	}
	defer clear(plain)
	fresh, _ := m.newKey() // of the kernel alone, at worst
	r := &store.Record{UUID: u, Family: v, Name: name, Created: m.Now(), Changed: m.Now(), Key: fresh}
	defer r.Wipe()
	if r.Config, err = p.bytes(); err != nil {
		return err
	}
	user, err := m.users.take()
	if err != nil {
		return err
	}
	defer m.users.give(user)
	// One start and one stop show that it is a TPM of this family, before anybody relies on it.
	cfg := emulator.Config{Version: v, Key: r.Key, State: sealState(plain, r.Key), UID: user, GID: user}
	e, err := m.Emulators.Start(ctx, cfg)
	if err == nil {
		err = e.PowerOn(ctx, emulator.Inheritance{})
	}
	if err == nil {
		err = e.Stop(ctx)
	}
	if err != nil {
		if e != nil {
			e.Kill()
		}
		return fmt.Errorf("%w: %w", ErrForeignState, err)
	}
	r.State = e.State()
	return m.Store.Add(r)
}

// The container of swtpm's state: a header, and parts with a tag and a length.
const (
	stateHeader    = 10
	stateVersion   = 2
	stateEncrypted = 1 << 0
	stateAES256    = 1 << 3

	partPlain     = 1
	partEncrypted = 2
	partHMAC      = 3
	partIV        = 6 // 32 bytes, of which AES-CBC takes the first 16
	ivSize        = 32
)

// openState takes the plain state out of a container.
func openState(b, key []byte) ([]byte, error) {
	if len(b) < stateHeader || b[0] != stateVersion || int(binary.BigEndian.Uint32(b[6:])) != len(b) {
		return nil, fmt.Errorf("%w: it is none of version %d, or not all of it is there", ErrForeignState, stateVersion)
	}
	flags, at := binary.BigEndian.Uint16(b[4:]), int(binary.BigEndian.Uint16(b[2:]))
	parts := map[uint16][]byte{}
	for at < len(b) {
		if len(b)-at < 6 || uint64(len(b)-at-6) < uint64(binary.BigEndian.Uint32(b[at+2:])) {
			return nil, fmt.Errorf("%w: it is cut off", ErrForeignState)
		}
		n := int(binary.BigEndian.Uint32(b[at+2:]))
		parts[binary.BigEndian.Uint16(b[at:])], at = b[at+6:at+6+n], at+6+n
	}
	switch {
	case flags&^(stateEncrypted|stateAES256) != 0:
		return nil, fmt.Errorf("%w: it is encrypted for migration", ErrForeignState)
	case flags&stateEncrypted == 0:
		if len(parts[partPlain]) == 0 {
			return nil, fmt.Errorf("%w: there is nothing in it", ErrForeignState)
		}
		return append([]byte(nil), parts[partPlain]...), nil
	case flags&stateAES256 == 0:
		return nil, fmt.Errorf("%w: it is encrypted with AES-128", ErrForeignState)
	case len(key) != emulator.KeySize:
		return nil, fmt.Errorf("%w: it is encrypted, and its key of %d bytes is needed", ErrForeignState, emulator.KeySize)
	}
	return decrypt(parts, key)
}

func decrypt(parts map[uint16][]byte, key []byte) ([]byte, error) {
	text, iv := parts[partEncrypted], parts[partIV]
	if len(iv) < aes.BlockSize || len(text) == 0 || len(text)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("%w: it is damaged", ErrForeignState)
	}
	if !hmac.Equal(stateMAC(key, text, iv), parts[partHMAC]) {
		return nil, fmt.Errorf("%w: the key is not right, or it is damaged", ErrForeignState)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(text))
	cipher.NewCBCDecrypter(block, iv[:aes.BlockSize]).CryptBlocks(plain, text)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > aes.BlockSize || pad >= len(plain) {
		return nil, fmt.Errorf("%w: it is damaged", ErrForeignState)
	}
	return plain[:len(plain)-pad], nil
}

// sealState makes the container of a plain state as swtpm makes it with --key mode=aes-256-cbc.
func sealState(plain, key []byte) []byte {
	iv := make([]byte, ivSize)
	rand.Read(iv)
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	text := append([]byte(nil), plain...)
	for range pad {
		text = append(text, byte(pad))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // newKey's length is right
	}
	cipher.NewCBCEncrypter(block, iv[:aes.BlockSize]).CryptBlocks(text, text)
	b := []byte{stateVersion, 1, 0, stateHeader, 0, stateEncrypted | stateAES256, 0, 0, 0, 0}
	for _, part := range []struct {
		tag   uint16
		bytes []byte
	}{{partEncrypted, text}, {partHMAC, stateMAC(key, text, iv)}, {partIV, iv}} {
		b = binary.BigEndian.AppendUint16(b, part.tag)
		b = binary.BigEndian.AppendUint32(b, uint32(len(part.bytes)))
		b = append(b, part.bytes...)
	}
	binary.BigEndian.PutUint32(b[6:], uint32(len(b)))
	return b
}

func stateMAC(key, text, iv []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	h.Write(iv)
	return h.Sum(nil)
}
