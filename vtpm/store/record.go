package store

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

// The longest name, configuration and state that a record takes, in bytes. swtpm's state
// has 143 KB with all its NV memory in use.
const (
	MaxName   = 255
	MaxConfig = 64 << 10
	MaxState  = 1 << 20
)

// Record is one vTPM.
type Record struct {
	UUID   vtpm.UUID
	Family tpm.Version
	// Key encrypts the state for swtpm; KeySize bytes, another one for each vTPM.
	Key []byte
	// Generation counts the commits of the state. Zero: there never was one.
	Generation uint64
	Flags      uint32 // the manager's own
	// Created and Changed are told by the caller, to the second.
	Created, Changed time.Time
	Name             string
	Config           []byte // the manager's own, such as JSON
	// State is swtpm's permanent state, as swtpm wrote it.
	State []byte
}

// Wipe forgets the key and the state.
func (r *Record) Wipe() {
	clear(r.Key)
	clear(r.State)
}

// check refuses what can't be stored.
func (r *Record) check() error {
	switch {
	case r.UUID == vtpm.UUID{}:
		return errors.New("a vTPM needs a UUID that is not all zeros")
	case r.Family != tpm.V12 && r.Family != tpm.V20:
		return fmt.Errorf("a vTPM can't be an %s", r.Family)
	case len(r.Key) != KeySize:
		return fmt.Errorf("a vTPM's key has %d bytes, not %d", KeySize, len(r.Key))
	case len(r.Name) > MaxName:
		return fmt.Errorf("the vTPM's name has %d bytes; %d are possible", len(r.Name), MaxName)
	case len(r.Config) > MaxConfig:
		return fmt.Errorf("the vTPM's configuration has %d bytes; %d are possible", len(r.Config), MaxConfig)
	case len(r.State) > MaxState:
		return fmt.Errorf("the vTPM's state has %d bytes; %d are possible", len(r.State), MaxState)
	}
	return nil
}

// header is the part of a stored record that anybody may read; its box authenticates it.
type header struct {
	family     tpm.Version
	flags      uint32
	uuid       vtpm.UUID
	generation uint64
	sequence   uint64 // of the commit that wrote it, to know an old one by
	created    int64  // seconds since 1970
	changed    int64
	stateSize  uint32
	state      digest // of the state's box, as it stands in the file
}

const (
	recordForm = 1
	headerSize = 1 + 1 + 4 + 16 + 8 + 8 + 8 + 8 + 4 + sha256.Size
	boxExtra   = 12 + 16 // nonce and tag
	recordMin  = headerSize + boxExtra + KeySize + 1 + 4
)

func (h *header) encode() []byte {
	b := append(make([]byte, 0, headerSize), recordForm, byte(h.family))
	b = binary.BigEndian.AppendUint32(b, h.flags)
	b = append(b, h.uuid[:]...)
	b = binary.BigEndian.AppendUint64(b, h.generation)
	b = binary.BigEndian.AppendUint64(b, h.sequence)
	b = binary.BigEndian.AppendUint64(b, uint64(h.created))
	b = binary.BigEndian.AppendUint64(b, uint64(h.changed))
	b = binary.BigEndian.AppendUint32(b, h.stateSize)
	return append(b, h.state[:]...)
}

// parseHeader reads a stored record's header, which is hearsay until the box was opened.
func parseHeader(b []byte) (*header, error) {
	if len(b) < recordMin {
		return nil, fmt.Errorf("the record has %d bytes", len(b))
	}
	if b[0] != recordForm {
		return nil, fmt.Errorf("the record has format %d; this program knows format %d", b[0], recordForm)
	}
	h := &header{
		family: tpm.Version(b[1]), flags: binary.BigEndian.Uint32(b[2:]), uuid: vtpm.UUID(b[6:22]),
		generation: binary.BigEndian.Uint64(b[22:]), sequence: binary.BigEndian.Uint64(b[30:]),
		created: int64(binary.BigEndian.Uint64(b[38:])), changed: int64(binary.BigEndian.Uint64(b[46:])),
		stateSize: binary.BigEndian.Uint32(b[54:]), state: digest(b[58:headerSize]),
	}
	if h.family != tpm.V12 && h.family != tpm.V20 {
		return nil, fmt.Errorf("the record names an %s", h.family)
	}
	if h.stateSize > MaxState {
		return nil, fmt.Errorf("the record names a state of %d bytes", h.stateSize)
	}
	return h, nil
}

// seal writes a record as it is stored. Its state is stored elsewhere; state and
// stateSize say what it is.
func (k *keys) seal(r *Record, sequence uint64, stateSize int, state digest) []byte {
	h := header{
		family: r.Family, flags: r.Flags, uuid: r.UUID, generation: r.Generation, sequence: sequence,
		created: r.Created.Unix(), changed: r.Changed.Unix(), stateSize: uint32(stateSize), state: state,
	}
	secret := make([]byte, 0, KeySize+1+len(r.Name)+4+len(r.Config))
	secret = append(secret, r.Key...)
	secret = append(secret, byte(len(r.Name)))
	secret = append(secret, r.Name...)
	secret = binary.BigEndian.AppendUint32(secret, uint32(len(r.Config)))
	secret = append(secret, r.Config...)
	defer clear(secret)
	head := h.encode()
	return append(head, encrypt(k.derive(labelRecord, r.UUID), head, secret)...)
}

// open is the inverse of seal, without the state. The uuid is the record's own.
func (k *keys) open(b []byte) (*Record, *header, error) {
	h, err := parseHeader(b)
	if err != nil {
		return nil, nil, err
	}
	secret, err := decrypt(k.derive(labelRecord, h.uuid), b[:headerSize], b[headerSize:])
	if err != nil {
		return nil, nil, errors.New("the record is not authentic")
	}
	defer clear(secret)
	r := &Record{
		UUID: h.uuid, Family: h.family, Generation: h.generation, Flags: h.flags,
		Created: time.Unix(h.created, 0).UTC(), Changed: time.Unix(h.changed, 0).UTC(),
	}
	if err := r.parseSecret(secret); err != nil {
		return nil, nil, err
	}
	return r, h, nil
}

// parseSecret reads what was in the box. parseHeader has seen that the fixed part is there.
func (r *Record) parseSecret(b []byte) error {
	wrong := errors.New("the record's encrypted part can't be read")
	if len(b) < KeySize+1 {
		return wrong
	}
	key, b := b[:KeySize], b[KeySize:]
	n := int(b[0])
	if b = b[1:]; len(b) < n+4 {
		return wrong
	}
	name, b := b[:n], b[n:]
	if uint64(binary.BigEndian.Uint32(b)) != uint64(len(b)-4) {
		return wrong
	}
	r.Key, r.Name = append([]byte(nil), key...), string(name)
	if len(b) > 4 {
		r.Config = append([]byte(nil), b[4:]...)
	}
	return nil
}

// A state is stored as its own header (format, UUID, generation) and a box with that
// header as associated data: who exchanges two guests' states, or two generations of one,
// is not only refused but named.
const (
	stateForm   = 1
	stateHeader = 1 + 16 + 8
	stateMin    = stateHeader + boxExtra
)

func (k *keys) sealState(u vtpm.UUID, generation uint64, state []byte) []byte {
	head := append(make([]byte, 0, stateHeader), stateForm)
	head = append(head, u[:]...)
	head = binary.BigEndian.AppendUint64(head, generation)
	return append(head, encrypt(k.derive(labelState, u), head, state)...)
}

// openState is the inverse of sealState: it says whose state it is and of which generation.
func (k *keys) openState(b []byte) (u vtpm.UUID, generation uint64, state []byte, err error) {
	if len(b) < stateMin || b[0] != stateForm {
		return u, 0, nil, errors.New("the state does not begin as one does")
	}
	u, generation = vtpm.UUID(b[1:17]), binary.BigEndian.Uint64(b[17:])
	if state, err = decrypt(k.derive(labelState, u), b[:stateHeader], b[stateHeader:]); err != nil {
		return u, 0, nil, errors.New("the state is not authentic")
	}
	return u, generation, state, nil
}
