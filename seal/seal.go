package seal

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
)

// Backend is one TPM, through the commands of its family.
type Backend interface {
	// Version is the family.
	Version() tpm.Version
	// Anchor is what a record must carry so that key and counter are found again.
	Anchor() []byte
	// Identity tells this TPM from all others and outlives its clearing. It may be
	// slow, and is asked for at setup and after a refusal only.
	Identity() ([32]byte, error)
	// Check looks whether this is the TPM of the anchor. It is asked after a
	// refusal, to name the right cause: another TPM has other PCRs and another
	// counter, too. [ErrOtherTPM] says that it is not.
	Check() error
	// Agrees looks, without the TPM, whether the sealed key was made for what the record
	// says: its states, and for a TPM 2.0 its generation and PIN. Where it was not,
	// somebody changed the record, and what else it says must not name a cause. The
	// error wraps [ErrDamaged].
	Agrees(r *Record) error
	// Generation reads the freshness counter.
	Generation() (uint64, error)
	// Advance moves the counter from one generation to the next, and refuses where
	// it does not stand at from. credential is what the family demands for it.
	Advance(from uint64, credential []byte) error
	// Remove takes the counter out of the TPM, and with it every record that was
	// sealed to it. The storage key stays: others may use it.
	Remove(credential []byte) error
	// Seal seals a key so that it opens as the record says.
	Seal(key []byte, r *Record, pin []byte) (sealed []byte, err error)
	// Unseal opens the record's sealed key in one of its states (-1 where it has none).
	Unseal(r *Record, state int, pin []byte) (key []byte, err error)
	// Rehearse does as much of Unseal as is possible before the counter stands at
	// the record's generation. With state -1 the PCRs are left out.
	Rehearse(r *Record, state int) error
}

// Seal fills in a record: r says what is to be demanded, secret what is to be
// kept. It refuses approved states that no launch leads to.
func Seal(b Backend, r *Record, secret, pin []byte) error {
	if len(r.States) > MaxStates {
		return fmt.Errorf("%d boot states are to be approved; %d are possible: drop one first", len(r.States), MaxStates)
	}
	for i := range r.States {
		if err := r.States[i].check(); err != nil {
			return err
		}
	}
	if r.PIN == (len(pin) == 0) {
		return errors.New("a PIN is needed exactly where the record asks for one")
	}
	r.Version, r.Anchor = b.Version(), b.Anchor()
	key := newKey()
	defer clear(key)
	var err error
	if r.sealed, err = b.Seal(key, r, pin); err != nil {
		return err
	}
	r.box, err = encrypt(key, r.header(), secret)
	return err
}

// Open opens a record on the TPM that the backend stands for. actual is what the
// TPM's PCRs hold; they choose the state, and the TPM then judges for itself. The
// caller wipes the secret.
//
// The order of the checks is from what costs nothing to what costs a try: the
// family, the counter, the PCRs, and only then the PIN.
func (r *Record) Open(b Backend, actual tpm.Banks, pin []byte) ([]byte, error) {
	state, err := r.Ready(b, actual)
	if err != nil {
		return nil, err
	}
	return r.OpenIn(b, state, pin)
}

// OpenIn opens a record in the state that [Record.Ready] returned.
func (r *Record) OpenIn(b Backend, state int, pin []byte) ([]byte, error) {
	key, err := b.Unseal(r, state, pin)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return decrypt(key, r.header(), r.box)
}

// Ready makes the checks of [Record.Open] that need no PIN and returns the state
// that the machine is in, or -1 for a record without states.
func (r *Record) Ready(b Backend, actual tpm.Banks) (state int, err error) {
	if r.Version != b.Version() {
		return -1, fmt.Errorf("%w: it is for a %s and this is a %s", ErrOtherFamily, r.Version, b.Version())
	}
	if err := b.Agrees(r); err != nil {
		return -1, err
	}
	if r.Generation != 0 {
		now, err := b.Generation()
		if err != nil {
			return -1, err
		}
		switch {
		case r.Generation < now:
			err = fmt.Errorf("%w: it is generation %d, and the TPM's counter stands at %d", ErrStale, r.Generation, now)
		case r.Generation > now:
			err = fmt.Errorf("%w: it is generation %d of a sealing that was never finished; the TPM's counter stands at %d", ErrStale, r.Generation, now)
		}
		if err != nil {
			return -1, cmp.Or(b.Check(), err)
		}
	}
	if len(r.States) == 0 {
		return -1, nil
	}
	if state = r.Match(actual); state < 0 {
		return -1, cmp.Or(b.Check(), ErrMeasurements)
	}
	return state, nil
}
