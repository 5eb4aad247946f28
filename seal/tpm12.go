package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
)

// TPM12 is the [Backend] of a TPM 1.2. Each state is a sealed blob of its own;
// the PIN is the blobs' password.
//
// The generation is a number in an NV area that anyone reads and that only the
// holder of a random password writes. The TPM does not compare it when it
// unseals; the program that opens a record does. So a superseded copy is dead on
// a machine that runs the approved program, and that the machine does is what the
// PCRs stand for.
type TPM12 struct {
	chip  *tpm12.TPM
	index uint32
	id    [16]byte // in the NV area, to know it by
	// identity is the endorsement key's digest, known at setup. Once the TPM has
	// an owner it tells that key to nobody else.
	identity *[32]byte
}

const (
	areaFirst, areaLast = 0x0000ae00, 0x0000aeff // free for the owner's use
	areaSize            = 16 + 8                 // id, generation
)

// Credential12 is what moves a TPM 1.2's counter: the passwords of the NV area
// and of the owner, who defines areas for more media.
type Credential12 struct{ Area, Owner tpm12.Auth }

// Bytes is the credential as [TPM12.Advance] takes it.
func (c Credential12) Bytes() []byte { return append(c.Area[:], c.Owner[:]...) }

func parseCredential12(b []byte) (c Credential12, err error) {
	if len(b) != len(c.Area)+len(c.Owner) {
		return c, fmt.Errorf("%w: it has %d bytes", ErrCredential, len(b))
	}
	copy(c.Area[:], b)
	copy(c.Owner[:], b[len(c.Area):])
	return c, nil
}

// ProvisionTPM12 prepares a TPM 1.2 for one medium. A TPM without an owner gets
// one: with the password given, or with a random one where it is empty. A TPM
// that has an owner needs its password.
func ProvisionTPM12(chip *tpm12.TPM, owner []byte) (*TPM12, *Credential12, error) {
	owned, err := chip.Owned()
	if err != nil {
		return nil, nil, err
	}
	var auth tpm12.Auth
	switch {
	case len(owner) > 0:
		auth = tpm12.PasswordAuth(owner)
	case owned:
		return nil, nil, fmt.Errorf("%w: this TPM has an owner", ErrCredential)
	default:
		rand.Read(auth[:])
	}
	if !owned {
		if err := chip.TakeOwnership(auth, tpm12.WellKnown); err != nil {
			return nil, nil, fmt.Errorf("take the TPM into ownership: %w", err)
		}
	}
	return defineTPM12(chip, auth)
}

// ProvisionMoreTPM12 prepares a TPM for a further medium, with the credential of one
// that it was prepared for before.
func ProvisionMoreTPM12(chip *tpm12.TPM, credential []byte) (*TPM12, *Credential12, error) {
	c, err := parseCredential12(credential)
	if err != nil {
		return nil, nil, err
	}
	return defineTPM12(chip, c.Owner)
}

// defineTPM12 makes a counter in an NV area of its own.
func defineTPM12(chip *tpm12.TPM, owner tpm12.Auth) (*TPM12, *Credential12, error) {
	c := &Credential12{Owner: owner}
	rand.Read(c.Area[:])
	t := &TPM12{chip: chip}
	key, err := chip.OwnerReadEK(c.Owner)
	if err != nil {
		return nil, nil, t.translate(err)
	}
	identity := key.Digest()
	t.identity = &identity
	rand.Read(t.id[:])
	if t.index, err = freeArea(chip); err != nil {
		return nil, nil, err
	}
	area := tpm12.NVArea{Index: t.index, Size: areaSize, Permissions: tpm12.PermAuthWrite}
	if err := chip.NVDefine(c.Owner, area, c.Area); err != nil {
		return nil, nil, fmt.Errorf("define the counter's NV area: %w", t.translate(err))
	}
	return t, c, t.write(1, c.Area)
}

func freeArea(chip *tpm12.TPM) (uint32, error) {
	used, err := chip.NVIndices()
	if err != nil {
		return 0, err
	}
	taken := map[uint32]bool{}
	for _, i := range used {
		taken[i] = true
	}
	for i := uint32(areaFirst); i <= areaLast; i++ {
		if !taken[i] {
			return i, nil
		}
	}
	return 0, fmt.Errorf("all %d NV areas for counters are in use; remove media that you no longer have", areaLast-areaFirst+1)
}

// ProvisionedTPM12 reports whether any area of ours is defined.
func ProvisionedTPM12(chip *tpm12.TPM) (bool, error) {
	used, err := chip.NVIndices()
	for _, i := range used {
		if i >= areaFirst && i <= areaLast {
			return true, nil
		}
	}
	return false, err
}

// OpenTPM12 finds the counter by a record's anchor. Nothing is sent to the TPM.
func OpenTPM12(chip *tpm12.TPM, anchor []byte) (*TPM12, error) {
	r := &reader{b: anchor}
	t := &TPM12{chip: chip, index: r.u32()}
	copy(t.id[:], r.raw(len(t.id)))
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("%w: its anchor can't be read: %w", ErrDamaged, err)
	}
	if t.index < areaFirst || t.index > areaLast {
		return nil, fmt.Errorf("%w: at the NV index %#x that it names there are no counters", ErrDamaged, t.index)
	}
	return t, nil
}

// Version is TPM 1.2.
func (t *TPM12) Version() tpm.Version { return tpm.V12 }

// Anchor holds the NV area's index and its identification.
func (t *TPM12) Anchor() []byte {
	w := &writer{}
	w.u32(t.index)
	w.raw(t.id[:])
	return w.b
}

// Identity is a digest of the endorsement key. At a boot it is to be had only
// where the TPM has lost its owner.
func (t *TPM12) Identity() ([32]byte, error) {
	if t.identity != nil {
		return *t.identity, nil
	}
	key, err := t.chip.ReadEK()
	if err != nil {
		return [32]byte{}, fmt.Errorf("read the TPM's endorsement key: %w", err)
	}
	return key.Digest(), nil
}

// Check reads the NV area and compares its identification.
func (t *TPM12) Check() error {
	_, err := t.Generation()
	return err
}

// Generation reads the number in the NV area.
func (t *TPM12) Generation() (uint64, error) {
	b, err := t.chip.NVRead(t.index, 0, areaSize)
	if err != nil {
		return 0, fmt.Errorf("read the counter: %w", t.translate(err))
	}
	if len(b) != areaSize || !bytes.Equal(b[:len(t.id)], t.id[:]) {
		return 0, fmt.Errorf("%w: its NV area %#x is another one", ErrOtherTPM, t.index)
	}
	return binary.BigEndian.Uint64(b[len(t.id):]), nil
}

// Advance writes the next number; credential is a [Credential12].
func (t *TPM12) Advance(from uint64, credential []byte) error {
	c, err := parseCredential12(credential)
	if err != nil {
		return err
	}
	now, err := t.Generation()
	if err != nil {
		return err
	}
	if now != from {
		return fmt.Errorf("%w: the TPM's counter stands at %d, not at %d", ErrStale, now, from)
	}
	return t.write(from+1, c.Area)
}

func (t *TPM12) write(generation uint64, auth tpm12.Auth) error {
	content := binary.BigEndian.AppendUint64(t.id[:len(t.id):len(t.id)], generation)
	if err := t.chip.NVWriteAuth(t.index, 0, content, auth); err != nil {
		if errors.Is(err, tpm12.ErrAuthFail) {
			return fmt.Errorf("write the counter: %w: %w", ErrCredential, err)
		}
		return fmt.Errorf("write the counter: %w", t.translate(err))
	}
	return nil
}

// Remove deletes the NV area, and with it the counter of the medium.
func (t *TPM12) Remove(credential []byte) error {
	c, err := parseCredential12(credential)
	if err != nil {
		return err
	}
	return t.translate(t.chip.NVUndefine(c.Owner, t.index))
}

// password is what the blobs are protected with besides the PCRs.
func password(r *Record, pin []byte) tpm12.Auth {
	if r.PIN {
		return tpm12.PasswordAuth(pin)
	}
	return tpm12.WellKnown
}

// Seal makes a blob for each state, or one that opens in any.
func (t *TPM12) Seal(key []byte, r *Record, pin []byte) ([]byte, error) {
	releases, err := releases12(r)
	if err != nil {
		return nil, err
	}
	w := &writer{}
	for _, release := range releases {
		blob, err := t.chip.Seal(tpm12.WellKnown, password(r, pin), release, key)
		if err != nil {
			return nil, t.translate(err)
		}
		w.counted16(blob)
	}
	return w.b, nil
}

// releases12 are the states that the blobs are sealed to, or none of them.
func releases12(r *Record) ([]*tpm12.Release, error) {
	if len(r.States) == 0 {
		return []*tpm12.Release{nil}, nil
	}
	var list []*tpm12.Release
	for i := range r.States {
		s := &r.States[i]
		digest, err := tpm12.Composite(s.PCRs, s.Values.Bank(tpm.SHA1))
		if err != nil {
			return nil, fmt.Errorf("boot state %q: %w", s.Label, err)
		}
		list = append(list, &tpm12.Release{PCRs: s.PCRs, Digest: digest})
	}
	return list, nil
}

// Agrees compares the blobs' states with the record's.
func (t *TPM12) Agrees(r *Record) error {
	releases, err := releases12(r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for i, release := range releases {
		blob, err := t.blob(r, i)
		if err != nil {
			return err
		}
		if !release.Fits(blob) {
			return fmt.Errorf("%w: a sealed blob carries another state than the record", ErrDamaged)
		}
	}
	return nil
}

// blob returns the sealed blob of a state, or the only one.
func (t *TPM12) blob(r *Record, state int) ([]byte, error) {
	rd := &reader{b: r.sealed}
	var chosen []byte
	for i := range max(1, len(r.States)) {
		if b := rd.counted16(); i == max(0, state) {
			chosen = b
		}
	}
	if err := rd.end(); err != nil {
		return nil, fmt.Errorf("%w: its sealed key can't be read: %w", ErrDamaged, err)
	}
	return chosen, nil
}

// Unseal opens the state's blob.
func (t *TPM12) Unseal(r *Record, state int, pin []byte) ([]byte, error) {
	blob, err := t.blob(r, state)
	if err != nil {
		return nil, err
	}
	key, err := t.chip.Unseal(tpm12.WellKnown, password(r, pin), blob)
	if err == nil {
		return key, nil
	}
	if other := t.Check(); errors.Is(other, ErrOtherTPM) {
		return nil, errors.Join(other, err)
	}
	return nil, t.translate(err)
}

// Rehearse opens the blob and forgets what was in it. With a PIN, or for a state
// that the machine is not in, only the record's form can be looked at.
func (t *TPM12) Rehearse(r *Record, state int) error {
	if _, err := t.blob(r, state); err != nil || r.PIN || state < 0 {
		return err
	}
	key, err := t.Unseal(r, state, nil)
	clear(key)
	return err
}

// translate gives the errors of package tpm12 the meaning that they have for a record.
func (t *TPM12) translate(err error) error {
	for _, e := range []struct{ cause, meaning error }{
		{tpm12.ErrOtherFamily, ErrOtherFamily},
		{tpm12.ErrBadIndex, ErrOtherTPM},
		{tpm12.ErrNoSRK, ErrOtherTPM},
		{tpm12.ErrWrongPCR, ErrMeasurements},
		{tpm12.ErrDefendLock, ErrLockout},
		{tpm12.ErrAuth2Fail, ErrAuth},
		{tpm12.ErrAuthFail, ErrCredential},
		{tpm12.ErrNotSealedBlob, ErrDamaged},
		{tpm12.ErrDecrypt, ErrDamaged},
		{tpm12.ErrInvalidPCRInfo, ErrDamaged},
		{tpm12.ErrInvalidStructure, ErrDamaged},
	} {
		if errors.Is(err, e.cause) {
			return fmt.Errorf("%w: %w", e.meaning, err)
		}
	}
	return err
}
