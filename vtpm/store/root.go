package store

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/vtpm"
)

// KeySize is the length of the root key and of each vTPM's key, in bytes.
const KeySize = 32

// Root is what the store rests on: a key that exists only on a machine launched as
// approved, and a counter that only moves forward.
type Root interface {
	// Key returns a copy of the root key, KeySize bytes; the store wipes it.
	Key() ([]byte, error)
	// Epoch reads the counter.
	Epoch() (uint64, error)
	// Advance moves the counter from one value to the next and refuses where it does
	// not stand at from. Where it returns an error, the counter may have moved all the same.
	Advance(from uint64) error
}

// digest is SHA-256, of a record or of a node of the tree.
type digest [sha256.Size]byte

// rootRecord is the one thing in the file that is believed by its own authentication.
// All else is believed because this leads to it.
type rootRecord struct {
	key      [16]byte // which root key authenticates it: a digest, to name a wrong one by
	store    [16]byte // which store it is, random
	epoch    uint64   // the counter's value, or one more in the middle of a step
	sequence uint64   // counts the commits
	count    uint64   // of vTPMs
	top      digest   // of the tree
}

const (
	rootMagic = "AEMVTPMS"
	rootForm  = 1
	rootBody  = 8 + 2 + 16 + 16 + 8 + 8 + 8 + sha256.Size
	// After the body come the authentication and a checksum, which tells damage from
	// another key.
	rootSize = rootBody + 2*sha256.Size
)

// encode writes the record, authenticated with a key made by [keys.derive].
func (r *rootRecord) encode(key []byte) []byte {
	b := append(make([]byte, 0, rootSize), rootMagic...)
	b = binary.BigEndian.AppendUint16(b, rootForm)
	b = append(append(b, r.key[:]...), r.store[:]...)
	b = binary.BigEndian.AppendUint64(b, r.epoch)
	b = binary.BigEndian.AppendUint64(b, r.sequence)
	b = binary.BigEndian.AppendUint64(b, r.count)
	b = append(b, r.top[:]...)
	mac := hmac.New(sha256.New, key)
	mac.Write(b)
	b = mac.Sum(b)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// parseRoot reads a root record's fields. They are hearsay until verify.
func parseRoot(b []byte) (*rootRecord, error) {
	if len(b) != rootSize || string(b[:8]) != rootMagic {
		return nil, errors.New("the root record does not begin or end as one does")
	}
	if sum := sha256.Sum256(b[:rootSize-sha256.Size]); sum != digest(b[rootSize-sha256.Size:]) {
		return nil, errors.New("the root record's checksum does not agree")
	}
	if form := binary.BigEndian.Uint16(b[8:]); form != rootForm {
		return nil, fmt.Errorf("the store has format %d; this program knows format %d", form, rootForm)
	}
	r := &rootRecord{
		epoch: binary.BigEndian.Uint64(b[42:]), sequence: binary.BigEndian.Uint64(b[50:]), count: binary.BigEndian.Uint64(b[58:]),
		top: digest(b[66:rootBody]),
	}
	copy(r.key[:], b[10:])
	copy(r.store[:], b[26:])
	return r, nil
}

// openRoot reads and authenticates a root record, and returns the keys of its store.
func openRoot(b, rootKey []byte) (*rootRecord, *keys, error) {
	r, err := parseRoot(b)
	if err != nil {
		return nil, nil, fmt.Errorf("the vTPM store: %w: %w", ErrDamaged, err)
	}
	name, err := keyName(rootKey)
	if err != nil {
		return nil, nil, err
	}
	if r.key != name {
		return nil, nil, ErrOtherRoot
	}
	k, err := newKeys(rootKey, r.store)
	if err != nil {
		return nil, nil, err
	}
	key := k.derive(labelRoot, vtpm.UUID{})
	defer clear(key)
	mac := hmac.New(sha256.New, key)
	mac.Write(b[:rootBody])
	if !hmac.Equal(mac.Sum(nil), b[rootBody:rootBody+sha256.Size]) {
		k.wipe()
		return nil, nil, fmt.Errorf("the vTPM store: %w: its root record is not authentic", ErrDamaged)
	}
	return r, k, nil
}

// What keys are for. One key for each use, so that nothing made for one use can
// stand in for another.
const (
	labelName   = "aem vtpm store: key name"
	labelRoot   = "aem vtpm store: root record"
	labelRecord = "aem vtpm store: record"
	labelState  = "aem vtpm store: state"
)

// keyName names a root key without telling it.
func keyName(rootKey []byte) (name [16]byte, err error) {
	if len(rootKey) != KeySize {
		return name, fmt.Errorf("the store's root key has %d bytes, not %d", len(rootKey), KeySize)
	}
	b, err := hkdf.Key(sha256.New, rootKey, nil, labelName, len(name))
	copy(name[:], b)
	return name, err
}

// keys are the keys of one store (RFC 5869).
type keys struct{ secret []byte }

func newKeys(rootKey []byte, store [16]byte) (*keys, error) {
	secret, err := hkdf.Extract(sha256.New, rootKey, store[:])
	return &keys{secret}, err
}

// derive makes the key of one use for one vTPM. The caller wipes it.
func (k *keys) derive(label string, u vtpm.UUID) []byte {
	key, err := hkdf.Expand(sha256.New, k.secret, label+string(u[:]), KeySize)
	if err != nil {
		panic(err) // the lengths are constants that RFC 5869 allows
	}
	return key
}

func (k *keys) wipe() { clear(k.secret) }
