package root

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/store"
)

// ID names a root, and with it the store that rests on it, for life; it is random.
type ID seal.MediumID

// String is hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Chip is the physical TPM, of either family.
type Chip interface {
	// ReadPCRs reads PCRs in every bank that the TPM keeps.
	ReadPCRs(tpm.PCRs) (tpm.Banks, error)
	// Backend finds key and counter by a record's anchor; it sends nothing.
	Backend(anchor []byte) (seal.Backend, error)
}

// Root is the store's root on a physical TPM. Its methods may be called from several
// goroutines; the caller sees to it that the chip may be used.
type Root struct {
	dir  string
	chip Chip

	mu      sync.Mutex
	backend seal.Backend
	secret  *payload     // nil once it was closed
	states  []seal.State // that the next sealing is for
}

var _ store.Root = (*Root)(nil)

// ErrExists says that there is a root in the folder already.
var ErrExists = errors.New("the folder holds the root of a vTPM store already")

// Create makes a root with a new key, in a folder that has none, which it makes where it is
// missing. backend is a TPM that was prepared for it (seal.ProvisionTPM2 and its likes),
// with a counter of its own; credential is what moves that counter.
func Create(dir string, chip Chip, backend seal.Backend, credential []byte, p Policy) (*Root, error) {
	secret := &payload{key: make([]byte, store.KeySize), credential: bytes.Clone(credential)}
	rand.Read(secret.key)
	rand.Read(secret.id[:])
	return create(dir, chip, backend, secret, p)
}

func create(dir string, chip Chip, backend seal.Backend, secret *payload, p Policy) (*Root, error) {
	r := &Root{dir: dir, chip: chip, backend: backend, secret: secret, states: p.States}
	secret.anchor = backend.Anchor()
	err := func() error {
		if err := p.check(); err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the folder for the vTPM store's root: %w", err)
		}
		if _, err := seal.Read(os.DirFS(dir)); err == nil {
			return ErrExists
		} else if !errors.Is(err, seal.ErrNoRecord) {
			return err
		}
		var err error
		if secret.tpm, err = backend.Identity(); err != nil {
			return err
		}
		now, err := backend.Generation()
		if err != nil {
			return err
		}
		if err := r.seal(now + 1); err != nil {
			// A record that was never in force must not stand in the way of the next try.
			return errors.Join(err, removeRecord(dir, now+1))
		}
		return nil
	}()
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// recordPath is where a record is, as package seal names it (docs/formats/record.md).
func recordPath(dir string, generation uint64) string {
	return filepath.Join(dir, fmt.Sprintf("record-%016x.aem", generation))
}

func removeRecord(dir string, generation uint64) error {
	err := os.Remove(recordPath(dir, generation))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Open opens the root in a folder. In a boot state that is not approved the error wraps
// [seal.ErrMeasurements] and names the PCRs; where nothing was ever made,
// [seal.ErrNoRecord].
func Open(dir string, chip Chip) (*Root, error) {
	record, backend, err := find(dir, chip)
	if err != nil {
		return nil, err
	}
	actual, err := chip.ReadPCRs(demanded(record.States))
	if err != nil {
		return nil, err
	}
	content, err := record.Open(backend, actual, nil)
	if errors.Is(err, seal.ErrMeasurements) {
		return nil, notApproved(record.States, actual, err)
	}
	if err != nil {
		return nil, fmt.Errorf("the vTPM store stays closed: %w", err)
	}
	defer clear(content)
	secret, err := parsePayload(content)
	if err != nil {
		return nil, err
	}
	return &Root{dir: dir, chip: chip, backend: backend, secret: secret, states: record.States}, nil
}

// find reads the record of the present generation.
func find(dir string, chip Chip) (*seal.Record, seal.Backend, error) {
	list, err := seal.Read(os.DirFS(dir))
	if err != nil {
		return nil, nil, fmt.Errorf("the root of the vTPM store in %s: %w", dir, err)
	}
	record, backend, err := seal.Choose(list, func(r *seal.Record) (seal.Backend, error) { return chip.Backend(r.Anchor) })
	if err != nil {
		return nil, nil, fmt.Errorf("the root of the vTPM store in %s: %w", dir, err)
	}
	if record.Kind != seal.KindVTPMs || len(record.States) == 0 || record.Generation == 0 {
		return nil, nil, fmt.Errorf("%w: it is not the root of a vTPM store", seal.ErrDamaged)
	}
	return record, backend, nil
}

// record seals the secret for a generation. It also returns what the PCRs hold.
func (r *Root) record(generation uint64) (*seal.Record, tpm.Banks, error) {
	record := &seal.Record{Kind: seal.KindVTPMs, Generation: generation, Medium: seal.MediumID(r.secret.id), TPM: r.secret.tpm, States: r.states}
	content := r.secret.encode()
	defer clear(content)
	if err := seal.Seal(r.backend, record, content, nil); err != nil {
		return nil, nil, err
	}
	actual, err := r.chip.ReadPCRs(demanded(r.states))
	return record, actual, err
}

// seal makes the record of a generation, the one after the counter's, the one that opens.
func (r *Root) seal(generation uint64) error {
	record, actual, err := r.record(generation)
	if err != nil {
		return err
	}
	return seal.Commit(r.dir, r.backend, record, actual, r.secret.credential, nil)
}

// ErrClosed says that the root was closed and its key forgotten.
var ErrClosed = errors.New("the root of the vTPM store was closed")

// Key returns a copy of the root key.
func (r *Root) Key() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.secret == nil {
		return nil, ErrClosed
	}
	return bytes.Clone(r.secret.key), nil
}

// Epoch reads the counter.
func (r *Root) Epoch() (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.secret == nil {
		return 0, ErrClosed
	}
	return r.backend.Generation()
}

// Advance seals the key for the next value of the counter and moves the counter there.
func (r *Root) Advance(from uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.secret == nil {
		return ErrClosed
	}
	return r.seal(from + 1)
}

// Approve names the boot states that the key is to open in. They are in force, and the
// ones before are dead, from the next Advance on: store.NextEpoch makes it.
func (r *Root) Approve(p Policy) error {
	if err := p.check(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states = p.States
	return nil
}

// Policy returns the states that the next sealing is for. Its Static is what the states say, and to be
// shown wherever the store's trust is reported.
func (r *Root) Policy() Policy {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Policy{States: r.states, Static: isStatic(r.states)}
}

// ID names the root. It is no secret.
func (r *Root) ID() (ID, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.secret == nil {
		return ID{}, ErrClosed
	}
	return r.secret.id, nil
}

// Close forgets the key.
func (r *Root) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.secret != nil {
		r.secret.wipe()
		r.secret = nil
	}
}
