package seal

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

// TPM2 is the [Backend] of a TPM 2.0. The states, the counter and the PIN are one
// policy of the sealed key, which the TPM enforces.
type TPM2 struct {
	chip    *tpm2.TPM
	key     *tpm2.Key
	counter *tpm2.Counter
}

// ProvisionTPM2 prepares a TPM 2.0 for one medium: it takes the storage key that
// is there, or makes one, and defines a counter. owner is the owner hierarchy's
// authorisation, empty on most machines.
func ProvisionTPM2(chip *tpm2.TPM, owner []byte) (*TPM2, error) {
	key, err := chip.FindStorageKey()
	if errors.Is(err, tpm2.ErrNoKey) {
		key, err = chip.MakeStorageKey(owner)
	}
	if err != nil {
		return nil, translate2(err)
	}
	counter, err := chip.MakeCounter(owner)
	if err != nil {
		return nil, translate2(err)
	}
	return &TPM2{chip, key, counter}, nil
}

// OpenTPM2 finds key and counter by a record's anchor. Nothing is sent to the TPM.
func OpenTPM2(chip *tpm2.TPM, anchor []byte) (*TPM2, error) {
	r := &reader{b: anchor}
	handle, public := r.u32(), r.counted16()
	counter := &tpm2.Counter{Index: r.u32(), Name: r.counted16()}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("%w: its anchor can't be read: %w", ErrDamaged, err)
	}
	if !tpm2.IsCounterIndex(counter.Index) {
		return nil, fmt.Errorf("%w: at the NV index %#x that it names there are no counters", ErrDamaged, counter.Index)
	}
	key, err := tpm2.PinnedKey(handle, public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return &TPM2{chip, key, counter}, nil
}

// StorageKey is the key that records are sealed under.
func (t *TPM2) StorageKey() *tpm2.Key { return t.key }

// Version is TPM 2.0.
func (t *TPM2) Version() tpm.Version { return tpm.V20 }

// Anchor holds the storage key's handle and public area, and the counter's index
// and Name.
func (t *TPM2) Anchor() []byte {
	w := &writer{}
	w.u32(t.key.Handle)
	w.counted16(t.key.Public())
	w.u32(t.counter.Index)
	w.counted16(t.counter.Name)
	return w.b
}

// Identity is a digest of the endorsement key's Name.
func (t *TPM2) Identity() ([32]byte, error) {
	name, err := t.chip.EndorsementName()
	return name.Digest(), err
}

// Check reads the storage key's public area and compares its Name.
func (t *TPM2) Check() error {
	_, err := t.chip.OpenKey(t.key.Handle, t.key.Name)
	return translate2(err)
}

// Generation reads the NV counter.
func (t *TPM2) Generation() (uint64, error) {
	v, err := t.chip.ReadCounter(t.counter)
	return v, translate2(err)
}

// Advance increments the NV counter; credential is the owner hierarchy's
// authorisation.
func (t *TPM2) Advance(from uint64, credential []byte) error {
	now, err := t.Generation()
	if err != nil {
		return err
	}
	if now != from {
		return fmt.Errorf("%w: the TPM's counter stands at %d, not at %d", ErrStale, now, from)
	}
	return translate2(t.chip.Increment(t.counter.Index, credential))
}

// Remove deletes the counter, and with it every record that was sealed to it.
// The storage key stays: others may use it.
func (t *TPM2) Remove(owner []byte) error {
	return translate2(t.chip.RemoveCounter(t.counter, owner))
}

func (t *TPM2) policy(r *Record) (*tpm2.Policy, error) {
	p := &tpm2.Policy{PIN: r.PIN}
	for i := range r.States {
		s, err := tpm2.StateOf(r.States[i].Values, r.States[i].Values.Algs(), r.States[i].PCRs)
		if err != nil {
			return nil, err
		}
		p.States = append(p.States, s)
	}
	if r.Generation != 0 {
		p.Counter, p.Value = t.counter, r.Generation
	}
	return p, nil
}

// Seal makes a sealed object; its two halves are the sealed key.
func (t *TPM2) Seal(key []byte, r *Record, pin []byte) ([]byte, error) {
	policy, err := t.policy(r)
	if err != nil {
		return nil, err
	}
	// A chip that does not hold the pinned key must not get the secret's key.
	if err := t.Check(); err != nil {
		return nil, err
	}
	object, err := t.chip.Seal(t.key, policy, pin, key)
	if err != nil {
		return nil, translate2(err)
	}
	w := &writer{}
	w.counted16(object.Public)
	w.counted16(object.Private)
	return w.b, nil
}

func (t *TPM2) object(r *Record) (*tpm2.Object, error) {
	rd := &reader{b: r.sealed}
	o := &tpm2.Object{Public: rd.counted16(), Private: rd.counted16()}
	if err := rd.end(); err != nil {
		return nil, fmt.Errorf("%w: its sealed key can't be read: %w", ErrDamaged, err)
	}
	return o, nil
}

// Agrees compares the object's policy with the record's.
func (t *TPM2) Agrees(r *Record) error {
	object, err := t.object(r)
	if err != nil {
		return err
	}
	policy, err := t.policy(r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return translate2(object.Carries(policy))
}

// Unseal opens the sealed object in a salted, encrypted session.
func (t *TPM2) Unseal(r *Record, state int, pin []byte) ([]byte, error) {
	object, err := t.object(r)
	if err != nil {
		return nil, err
	}
	policy, err := t.policy(r)
	if err != nil {
		return nil, err
	}
	key, err := t.chip.Unseal(t.key, object, policy, state, pin)
	return key, t.diagnose(err)
}

// Rehearse loads the object, compares its policy with the record's, runs the policy's
// PCR part, and looks whether the counter is the one in it.
func (t *TPM2) Rehearse(r *Record, state int) error {
	object, err := t.object(r)
	if err != nil {
		return err
	}
	policy, err := t.policy(r)
	if err != nil {
		return err
	}
	if err := t.diagnose(t.chip.Rehearse(t.key, object, policy, state)); err != nil || policy.Counter == nil {
		return err
	}
	// The counter's part of the policy can't be executed before the counter has moved. With
	// another Name than the counter's it would never be satisfied, and the record that
	// opens until then would be dead.
	found, err := t.chip.FindCounter(t.counter.Index)
	if err != nil {
		return translate2(err)
	}
	if !bytes.Equal(found.Name, t.counter.Name) {
		return fmt.Errorf("%w: the counter at NV index %#x is not the one that the record names", ErrDamaged, t.counter.Index)
	}
	return nil
}

// diagnose looks, after a refusal, whether the key is still the pinned one: an
// object that does not load is a damaged one only on the TPM that made it.
func (t *TPM2) diagnose(err error) error {
	if err == nil {
		return nil
	}
	if other := t.Check(); errors.Is(other, ErrOtherTPM) {
		return errors.Join(other, err)
	}
	return translate2(err)
}

// translate2 gives the errors of package tpm2 the meaning that they have for a record.
func translate2(err error) error {
	for _, e := range []struct{ cause, meaning error }{
		{tpm2.ErrOtherFamily, ErrOtherFamily},
		{tpm2.ErrNoKey, ErrOtherTPM},
		{tpm2.ErrOtherKey, ErrOtherTPM},
		{tpm2.ErrNoCounter, ErrOtherTPM},
		{tpm2.ErrStale, ErrStale},
		{tpm2.ErrLockout, ErrLockout},
		{tpm2.ErrAuth, ErrAuth},
		{tpm2.ErrPolicy, ErrMeasurements},
		{tpm2.ErrIntegrity, ErrDamaged},
		{tpm2.ErrOwnerAuth, ErrCredential},
	} {
		if errors.Is(err, e.cause) {
			return fmt.Errorf("%w: %w", e.meaning, err)
		}
	}
	return err
}
