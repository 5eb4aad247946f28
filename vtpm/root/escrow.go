package root

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/antievilmaid/aem/internal/durable"
	"github.com/antievilmaid/aem/seal"
)

// Escrow is what [Recover] and [Transfer] take: the key, and what moves the counter. Who
// has it opens every copy of the store anywhere. The caller encrypts it to a key that
// is kept offline, and wipes it.
func (r *Root) Escrow() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.secret == nil {
		return nil, ErrClosed
	}
	return r.secret.encode(), nil
}

// Escrowed says which root an escrow is of, and gives its key, which the caller wipes.
func Escrowed(escrow []byte) (ID, []byte, error) {
	secret, err := parsePayload(escrow)
	if err != nil {
		return ID{}, nil, err
	}
	clear(secret.credential)
	return secret.id, secret.key, nil
}

// Here reports whether a TPM is the one that was escrowed from, with the counter still in it: then
// [Recover] is the way back, which proves that the store is the newest.
func Here(chip Chip, escrow []byte) bool {
	secret, err := parsePayload(escrow)
	if err != nil {
		return false
	}
	defer secret.wipe()
	b, err := chip.Backend(secret.anchor)
	if err != nil || b.Check() != nil {
		return false
	}
	_, err = b.Generation()
	return err == nil
}

// Recover opens a root on its own TPM with what was escrowed, where its record does not open,
// because the machine was changed before the change was approved, or is lost. It seals for the
// states given and leaves the counter where it is: the store is as fresh as it
// was, and an old one is refused as before.
func Recover(dir string, chip Chip, escrow []byte, p Policy) (*Root, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	secret, err := parsePayload(escrow)
	if err != nil {
		return nil, err
	}
	r := &Root{dir: dir, chip: chip, secret: secret, states: p.States}
	if err := r.useEscrow(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Root) useEscrow() (err error) {
	if r.backend, err = r.chip.Backend(r.secret.anchor); err != nil {
		return err
	}
	list, err := seal.Read(os.DirFS(r.dir))
	if err != nil && !errors.Is(err, seal.ErrNoRecord) {
		return err
	}
	for _, s := range list {
		if old, err := seal.Parse(s.Bytes); err == nil && old.Medium != seal.MediumID(r.secret.id) {
			return fmt.Errorf("what was escrowed is the key of the store %s, and in %s is the root of %s", r.secret.id, r.dir, ID(old.Medium))
		}
	}
	now, err := r.backend.Generation()
	if err != nil {
		return err
	}
	record, actual, err := r.record(now)
	if err != nil {
		return err
	}
	if err := r.backend.Rehearse(record, record.Match(actual)); err != nil {
		return fmt.Errorf("the new record does not open on trial; nothing was changed: %w", err)
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder for the vTPM store's root: %w", err)
	}
	// It replaces a record that does not open, with the same key in it.
	return durable.Write(recordPath(r.dir, now), record.Bytes(), nil)
}

// Transfer is Create with the key that was escrowed, for another TPM than the one that it was
// made on: the old one broke, or was cleared. The store's epoch is not this TPM's; it
// is taken over with store.Restore.
func Transfer(dir string, chip Chip, backend seal.Backend, credential, escrow []byte, p Policy) (*Root, error) {
	secret, err := parsePayload(escrow)
	if err != nil {
		return nil, err
	}
	clear(secret.credential)
	secret.credential = bytes.Clone(credential)
	return create(dir, chip, backend, secret, p)
}
