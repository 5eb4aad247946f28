package aem

import (
	"errors"
	"fmt"
	"os"

	"github.com/antievilmaid/aem/seal"
)

// Sealed is what a sealing did to one medium.
type Sealed struct {
	Medium     string `json:"medium"`
	Generation uint64 `json:"generation,omitempty"`
	// Away says that the medium was not at hand: it opens what it opened before.
	Away bool `json:"away,omitempty"`
}

// ErrNothingApproved says that the secret was not sealed to any state yet.
var ErrNothingApproved = errors.New("no boot was approved yet; run aem-setup seal")

// Seal seals the kept secret to boot states, on every medium that is at hand, and
// commits the records. pin is empty for a secret without one. What was approved
// before is approved no more, but for media that are away: those are to be synced,
// or revoked.
func (m *Machine) Seal(h Home, states []seal.State, pin []byte) ([]Sealed, error) {
	return h.locked(func(s *Setup) ([]Sealed, error) {
		if !h.has(secretFile) {
			return nil, ErrNoSecret
		}
		if err := s.oneAtHand(); err != nil {
			return nil, err
		}
		b, err := m.backend(s, s.anchor())
		if err != nil {
			return nil, err
		}
		if err := m.keepPIN(h, b, pin); err != nil {
			return nil, err
		}
		return m.reseal(h, s, states)
	})
}

// Reseal seals to other states with the PIN that the secret has.
func (m *Machine) Reseal(h Home, states []seal.State) ([]Sealed, error) {
	return h.locked(func(s *Setup) ([]Sealed, error) { return m.reseal(h, s, states) })
}

// reseal is Reseal under the lock.
func (m *Machine) reseal(h Home, s *Setup, states []seal.State) ([]Sealed, error) {
	if err := s.oneAtHand(); err != nil {
		return nil, err
	}
	b, err := m.backend(s, s.anchor())
	if err != nil {
		return nil, err
	}
	// First what is approved, then the records: a power cut in between leaves media that
	// are behind, which is seen, and not states that nobody remembers.
	if err := m.keepApproved(h, b, states); err != nil {
		return nil, err
	}
	return m.sealAll(h, s, states)
}

// Sync seals what is approved to the media that are at hand and behind.
func (m *Machine) Sync(h Home) ([]Sealed, error) {
	return h.locked(func(s *Setup) ([]Sealed, error) { return m.sync(h, s) })
}

// sync is Sync under the lock.
func (m *Machine) sync(h Home, s *Setup) ([]Sealed, error) {
	states, err := m.Approved(h)
	if err != nil {
		return nil, err
	}
	list, err := m.MediaStatus(h)
	if err != nil {
		return nil, err
	}
	var done []Sealed
	for i, st := range list {
		medium := s.Media[i]
		switch {
		case medium.Revoked || st.Present && st.Generation > 0 && !st.Behind:
			continue
		case !st.Present:
			done = append(done, Sealed{Medium: medium.Name, Away: true})
			continue
		}
		generation, err := m.sealTo(h, s, medium, states)
		if err != nil {
			return done, fmt.Errorf("seal to the medium %q: %w", medium.Name, err)
		}
		done = append(done, Sealed{Medium: medium.Name, Generation: generation})
	}
	return done, nil
}

func (m *Machine) sealAll(h Home, s *Setup, states []seal.State) ([]Sealed, error) {
	var done []Sealed
	// Remembered first: what is away now, or not reached before a power cut, may hold
	// the same states with another secret.
	for _, medium := range s.active() {
		medium.Missed = true
	}
	if err := h.saveSetup(s); err != nil {
		return nil, err
	}
	for _, medium := range s.active() {
		if _, err := os.Stat(medium.folder()); err != nil {
			done = append(done, Sealed{Medium: medium.Name, Away: true})
			continue
		}
		generation, err := m.sealTo(h, s, medium, states)
		if err != nil {
			return done, fmt.Errorf("seal to the medium %q: %w", medium.Name, err)
		}
		done = append(done, Sealed{Medium: medium.Name, Generation: generation})
	}
	return done, nil
}

// oneAtHand is asked before anything is approved: with no medium to seal to, nothing
// may change.
func (s *Setup) oneAtHand() error {
	for _, medium := range s.active() {
		if _, err := os.Stat(medium.folder()); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: none of the %d media is", ErrMediumAway, len(s.active()))
}

// sealTo makes the next record of one medium, and the one that opens.
func (m *Machine) sealTo(h Home, s *Setup, medium *Medium, states []seal.State) (uint64, error) {
	b, err := m.backend(s, medium.Anchor)
	if err != nil {
		return 0, err
	}
	keeper, err := m.backend(s, s.anchor())
	if err != nil {
		return 0, err
	}
	secret, kind, err := m.keptSecret(h, keeper)
	if err != nil {
		return 0, err
	}
	defer clear(secret)
	var pin []byte
	if h.has(pinFile) {
		if pin, err = h.fetch(pinFile, keeper); err != nil {
			return 0, err
		}
		defer clear(pin)
	}
	credential, err := m.credential(h, medium, b)
	if err != nil {
		return 0, err
	}
	defer clear(credential)
	now, err := b.Generation()
	if err != nil {
		return 0, err
	}
	demanded := sealedPCRs
	for i := range states {
		demanded |= states[i].PCRs
	}
	actual, err := m.Chip.ReadPCRs(demanded)
	if err != nil {
		return 0, err
	}
	r := &seal.Record{
		Kind: kind, PIN: len(pin) > 0, Generation: now + 1,
		Medium: medium.id(), TPM: s.identity, States: states,
	}
	if err := seal.Seal(b, r, secret, pin); err != nil {
		return 0, err
	}
	if err := seal.Commit(medium.folder(), b, r, actual, credential, nil); err != nil || !medium.Missed {
		return r.Generation, err
	}
	medium.Missed = false
	return r.Generation, h.saveSetup(s)
}

// keptSecret is what to seal, and what it is. The caller wipes it.
func (m *Machine) keptSecret(h Home, keeper seal.Backend) ([]byte, seal.Kind, error) {
	secret, kind, err := h.fetchKind(secretFile, keeper)
	switch {
	case err != nil:
		return nil, 0, err
	case kind == seal.KindTOTP:
		defer clear(secret)
		secret, err = m.sightAnew(secret)
		return secret, kind, err
	case kind != seal.KindText:
		// Somebody put another of the kept files in its place.
		clear(secret)
		return nil, 0, fmt.Errorf("open %s: %w: it is no secret to be shown", secretFile, seal.ErrDamaged)
	}
	return secret, kind, nil
}

// keepPIN keeps the PIN for later sealings, sealed to this TPM as the secret is, or
// forgets the one that was.
func (m *Machine) keepPIN(h Home, b seal.Backend, pin []byte) error {
	if len(pin) == 0 {
		return h.forget(pinFile)
	}
	return h.keep(pinFile, seal.KindCredential, b, pin)
}

// keepApproved keeps the approved states, sealed to this TPM so that nobody can
// change them unnoticed on the disk.
func (m *Machine) keepApproved(h Home, b seal.Backend, states []seal.State) error {
	if len(states) == 0 || len(states) > seal.MaxStates {
		return fmt.Errorf("%d boot states can't be approved at a time; at least one, and at most %d", len(states), seal.MaxStates)
	}
	return h.keep(approvedFile, seal.KindApproved, b, seal.EncodeStates(states))
}

// Approved are the boot states that the secret opens in.
func (m *Machine) Approved(h Home) ([]seal.State, error) {
	s, err := h.Setup()
	if err != nil {
		return nil, err
	}
	if !h.has(approvedFile) {
		return nil, ErrNothingApproved
	}
	b, err := m.backend(s, s.anchor())
	if err != nil {
		return nil, err
	}
	raw, err := h.fetch(approvedFile, b)
	if err != nil {
		return nil, err
	}
	return seal.DecodeStates(raw)
}

// sameStates compares what two lists of states demand.
func sameStates(a, b []seal.State) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !sameState(&a[i], &b[i]) {
			return false
		}
	}
	return true
}

// sameState reports whether two states demand the same values of the same PCRs.
func sameState(a, b *seal.State) bool {
	return a.PCRs == b.PCRs && len(a.Values) == len(b.Values) && a.Match(b.Values)
}
