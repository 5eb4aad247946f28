package seal

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
)

// Kind is what was entrusted.
type Kind uint8

// The kinds.
const (
	KindText       Kind = 1 // a sentence that the owner recognises, in UTF-8
	KindCredential Kind = 2 // what the TPM demands for moving the counter
	KindApproved   Kind = 3 // the approved states, kept on the machine
	KindTOTP       Kind = 4 // what one-time codes are made with
	KindHead       Kind = 5 // the journal's end, kept on the machine
	KindVTPMs      Kind = 6 // the key of guests' TPMs, kept on the machine
)

var kindNames = map[Kind]string{KindText: "text", KindCredential: "credential", KindApproved: "states", KindTOTP: "totp", KindHead: "journal head", KindVTPMs: "key of vTPMs"}

func (k Kind) String() string {
	if name, ok := kindNames[k]; ok {
		return name
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// MediumID names one medium; it is random.
type MediumID [16]byte

// Record is a sealed secret outside of the TPM.
type Record struct {
	Version tpm.Version // family of the TPM that sealed it
	Kind    Kind
	PIN     bool // whether a PIN is asked for
	// Generation is the counter's value at which the record opens. Zero stands
	// for a record that no counter limits.
	Generation uint64
	Medium     MediumID
	// TPM tells one TPM from another: a digest of its endorsement key.
	TPM [32]byte
	// States are the approved boot states. With none, the record opens on its TPM
	// in any state.
	States []State
	// Anchor is how the backend finds its key and its counter again.
	Anchor []byte

	sealed []byte // the backend's sealed key
	box    []byte // nonce and ciphertext of the secret
}

const (
	magic     = "AEMSEAL\x00"
	format    = 1
	flagPIN   = 1 << 0
	flagsMask = flagPIN
	// sumSize is the length of the checksum that ends a record. It tells damage
	// from change; against change there is the box's authentication.
	sumSize = sha256.Size
)

// header is all that the box authenticates: everything before it.
func (r *Record) header() []byte {
	w := &writer{}
	w.raw([]byte(magic))
	w.u16(format)
	w.u8(uint8(r.Version))
	w.u8(uint8(r.Kind))
	var flags uint8
	if r.PIN {
		flags |= flagPIN
	}
	w.u8(flags)
	w.u64(r.Generation)
	w.raw(r.Medium[:])
	w.raw(r.TPM[:])
	w.u8(uint8(len(r.States)))
	for i := range r.States {
		r.States[i].write(w)
	}
	w.counted16(r.Anchor)
	w.counted32(r.sealed)
	return w.b
}

// Bytes is the record as it stands in a file.
func (r *Record) Bytes() []byte {
	w := &writer{b: r.header()}
	w.counted32(r.box)
	sum := sha256.Sum256(w.b)
	w.raw(sum[:])
	return w.b
}

// Parse reads a record. Whatever is not exactly a record is [ErrDamaged]. What it
// returns is hearsay until the record was opened: the box authenticates it.
func Parse(b []byte) (*Record, error) {
	if len(b) < sumSize {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrDamaged, len(b))
	}
	body, sum := b[:len(b)-sumSize], b[len(b)-sumSize:]
	if want := sha256.Sum256(body); want != [sumSize]byte(sum) {
		return nil, fmt.Errorf("%w: its checksum does not agree", ErrDamaged)
	}
	r := &reader{b: body}
	rec, err := parseBody(r)
	if err = errors.Join(err, r.end()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return rec, nil
}

func parseBody(r *reader) (*Record, error) {
	rec := &Record{}
	if m := r.raw(len(magic)); string(m) != magic {
		return nil, errors.New("it does not begin as a record does")
	}
	if v := r.u16(); v != format {
		return nil, fmt.Errorf("it has format %d; this program knows format %d", v, format)
	}
	rec.Version = tpm.Version(r.u8())
	if rec.Version != tpm.V12 && rec.Version != tpm.V20 {
		return nil, fmt.Errorf("it names an %s", rec.Version)
	}
	if rec.Kind = Kind(r.u8()); rec.Kind < KindText || rec.Kind > KindVTPMs {
		return nil, fmt.Errorf("it holds a secret of unknown kind %d", rec.Kind)
	}
	flags := r.u8()
	if flags&^flagsMask != 0 {
		return nil, fmt.Errorf("it has unknown flags %#x", flags)
	}
	rec.PIN = flags&flagPIN != 0
	rec.Generation = r.u64()
	copy(rec.Medium[:], r.raw(len(rec.Medium)))
	copy(rec.TPM[:], r.raw(len(rec.TPM)))
	n := int(r.u8())
	if n > MaxStates {
		return nil, fmt.Errorf("it approves %d boot states; %d are possible", n, MaxStates)
	}
	for range n {
		var s State
		s.read(r)
		rec.States = append(rec.States, s)
	}
	rec.Anchor = r.counted16()
	rec.sealed = r.counted32()
	rec.box = r.counted32()
	return rec, nil
}

// Match returns the index of the first approved state that the values are in, or -1.
func (r *Record) Match(actual tpm.Banks) int {
	for i := range r.States {
		if r.States[i].Match(actual) {
			return i
		}
	}
	return -1
}
