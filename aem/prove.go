package aem

import (
	"context"
	"errors"
	"time"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm2"
)

// Proof is what a machine shows to its owner.
type Proof struct {
	// Secret is the sentence that the owner entrusted; nil where Codes is not. The
	// caller wipes the proof.
	Secret []byte
	// Codes makes one-time codes in place of a sentence.
	Codes  *Codes
	Record *seal.Record
	// State is the label of the approved state that this boot is in.
	State string
	Boot  *Boot
	// Took is the time from the call to the proof, less the time spent asking.
	Took time.Duration
}

// Wipe forgets what the owner entrusted.
func (p *Proof) Wipe() {
	clear(p.Secret)
	if p.Codes != nil {
		p.Codes.Wipe()
	}
}

// ErrCancelled says that the owner did not answer the question for the PIN.
var ErrCancelled = errors.New("no PIN was given")

// AskPIN asks the owner for the PIN. wrong is nil at first, and afterwards the
// state of the TPM's defence. It returns [ErrCancelled] where there is no answer;
// what it returns is wiped by the caller.
type AskPIN func(ctx context.Context, wrong *Guesses) ([]byte, error)

// Prove opens the medium's record on this boot. An error is always a [*Refusal].
func (m *Machine) Prove(ctx context.Context, records []seal.Stored, ask AskPIN) (*Proof, error) {
	start := m.Now()
	boot, err := m.Boot()
	if err != nil {
		return nil, Refuse(err)
	}
	record, backend, state, err := m.choose(records, boot)
	if err != nil {
		return nil, err
	}
	proof := &Proof{Record: record, State: record.States[state].Label, Boot: boot}
	var asking time.Duration
	proof.Secret, err = m.open(ctx, record, backend, state, ask, &asking)
	if err == nil && record.Kind == seal.KindTOTP {
		proof.Codes, err = m.codes(proof.Secret)
		proof.Secret = nil
	}
	if errors.Is(err, seal.ErrOtherTPM) {
		return nil, m.otherTPM(record, backend, err)
	}
	if err != nil {
		return nil, Refuse(err)
	}
	proof.Took = m.Now().Sub(start) - asking
	return proof, nil
}

// choose finds the record of this boot, and refuses where the PIN need not be
// asked for to know that it does not open.
func (m *Machine) choose(records []seal.Stored, boot *Boot) (*seal.Record, seal.Backend, int, error) {
	if len(records) == 0 {
		return nil, nil, 0, m.noRecord()
	}
	record, backend, err := seal.Choose(records, func(r *seal.Record) (seal.Backend, error) {
		if r.Version != m.Chip.Version() {
			return nil, seal.ErrOtherFamily
		}
		return m.Chip.Backend(r.Anchor)
	})
	if err != nil {
		return nil, nil, 0, Refuse(err)
	}
	if err := m.readFor(boot, record.States); err != nil {
		return nil, nil, 0, Refuse(err)
	}
	state, err := record.Ready(backend, boot.PCRs)
	switch {
	case errors.Is(err, seal.ErrOtherTPM):
		return nil, nil, 0, m.otherTPM(record, backend, err)
	case errors.Is(err, seal.ErrMeasurements):
		return nil, nil, 0, explain(record, boot)
	case err != nil:
		return nil, nil, 0, Refuse(err)
	case state < 0 || record.Generation == 0:
		// A record that opens in any state, or for ever, proves nothing about this boot. It
		// may be good on its own TPM all the same, so somebody put it here on purpose.
		return nil, nil, 0, &Refusal{Cause: CauseDamaged, Detail: "the record approves no boot state, or no counter limits it"}
	case record.Kind != seal.KindText && record.Kind != seal.KindTOTP:
		// What is kept in the running system is not for the screen.
		return nil, nil, 0, &Refusal{Cause: CauseDamaged, Detail: "the record holds nothing that proves the machine to its owner"}
	case isStatic(&record.States[state]):
		boot.Static = true
	case boot.Launch.State != drtm.Verified:
		return nil, nil, 0, explainLaunch(boot)
	}
	return record, backend, state, nil
}

// noRecord tells a first boot from a record that was taken away.
func (m *Machine) noRecord() *Refusal {
	was, err := m.Chip.Provisioned()
	off, alsoErr := m.Chip.SwitchedOff()
	switch {
	case off:
		return &Refusal{Cause: CauseSwitchedOff}
	case errors.Join(err, alsoErr) != nil:
		return Refuse(errors.Join(err, alsoErr))
	case was:
		return &Refusal{Cause: CauseRecordGone, err: seal.ErrNoRecord}
	}
	return &Refusal{Cause: CauseFirstBoot, err: seal.ErrNoRecord}
}

// otherTPM tells a TPM that was switched off, and a cleared one, from another one. It
// costs the time of making a key, once, after a refusal.
func (m *Machine) otherTPM(record *seal.Record, backend seal.Backend, cause error) *Refusal {
	if off, err := m.Chip.SwitchedOff(); off && err == nil {
		return &Refusal{Cause: CauseSwitchedOff, Detail: cause.Error(), err: cause}
	}
	if identity, err := backend.Identity(); err == nil && identity == record.TPM {
		// A clearing takes the counter away, and one that is made anew never stands where
		// the old one did. So where the counter is right the TPM was not cleared, and the
		// key that does not fit is the record's.
		if now, err := backend.Generation(); err == nil && now == record.Generation && errors.Is(cause, tpm2.ErrOtherKey) {
			return &Refusal{Cause: CauseDamaged, Detail: "it names another key than the TPM's, which was not cleared", err: errors.Join(seal.ErrDamaged, cause)}
		}
		return &Refusal{Cause: CauseCleared, Detail: cause.Error(), err: errors.Join(seal.ErrCleared, cause)}
	}
	return Refuse(cause)
}

// open opens the record, asking for its PIN until it is right, the owner gives
// up or the TPM refuses to take more.
func (m *Machine) open(ctx context.Context, record *seal.Record, backend seal.Backend, state int, ask AskPIN, asking *time.Duration) ([]byte, error) {
	if !record.PIN {
		return record.OpenIn(backend, state, nil)
	}
	var wrong *Guesses
	for {
		before := m.Now()
		pin, err := ask(ctx, wrong)
		*asking += m.Now().Sub(before)
		if errors.Is(err, ErrCancelled) {
			return nil, &Refusal{Cause: CausePIN, Detail: err.Error(), Guesses: wrong, err: seal.ErrAuth}
		}
		if err != nil {
			return nil, err
		}
		secret, err := record.OpenIn(backend, state, pin)
		clear(pin)
		switch {
		case errors.Is(err, seal.ErrAuth):
			guesses, gerr := m.Chip.Guesses()
			if gerr != nil {
				return nil, gerr
			}
			wrong = &guesses
		case errors.Is(err, seal.ErrLockout):
			r := Refuse(err)
			if guesses, gerr := m.Chip.Guesses(); gerr == nil {
				guesses.Lock = true
				r.Guesses = &guesses
			}
			return nil, r
		default:
			return secret, err
		}
	}
}
