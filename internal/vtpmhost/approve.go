package vtpmhost

import (
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/root"
	"github.com/antievilmaid/aem/vtpm/store"
)

// errNothing says that the machine's own set-up approves nothing that the store could take over.
var errNothing = errors.New("this machine's own set-up approves no boot that the store could open in; run aem-setup approve, then vtpmctl approve")

// ErrOwnSetUp says that anti-evil-maid's own set-up was made with another TPM than this machine has.
var ErrOwnSetUp = errors.New("the machine's own set-up is another TPM's")

// ownSetUp says so where an error does: the store is not what is at fault.
func ownSetUp(err error) error {
	if errors.Is(err, seal.ErrOtherTPM) || errors.Is(err, seal.ErrOtherFamily) {
		return fmt.Errorf("%w: %w", ErrOwnSetUp, err)
	}
	return err
}

// approved are the boots that anti-evil-maid's own set-up on this machine approves, as far as the
// store is concerned.
func (m *Machine) approved(static bool) ([]seal.State, error) {
	states, err := m.Approved(m.home())
	if errors.Is(err, aem.ErrNotSetUp) || errors.Is(err, aem.ErrNothingApproved) {
		return nil, fmt.Errorf("%w: %w", errNothing, err)
	}
	if err != nil {
		return nil, ownSetUp(fmt.Errorf("read what this machine approves: %w", err))
	}
	launch := tpm.PCRSet(tpm.PCRCode, tpm.PCRData)
	var list []seal.State
	for _, s := range states {
		switch {
		case s.PCRs&launch == launch:
			s = root.Launched(s)
		case static:
			s = withoutHost(s)
		default:
			continue
		}
		if !contains(list, s) {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return nil, errNothing
	}
	return list, nil
}

// Approve has the store open in the boots that the machine's own set-up approves, and no
// others: the caller must be in one of them. It returns what it was and what it is now.
// An epoch begins, without which nothing would have changed.
func (m *Machine) Approve(r *root.Root, s *store.Store) (before, after []seal.State, err error) {
	was := r.Policy()
	before, static := was.States, was.Static
	list, err := m.approved(static)
	if err != nil {
		return nil, nil, err
	}
	banks, err := m.Chip.ReadPCRs(readable)
	if err != nil {
		return nil, nil, err
	}
	here := false
	for i := range list {
		here = here || list[i].Match(banks)
	}
	if !here {
		// The running boot is the way back if the next one does not come up.
		for _, state := range before {
			if state.Match(banks) && len(list) < seal.MaxStates {
				list = append(list, state)
			}
		}
	}
	if err := r.Approve(root.Policy{States: list, Static: static}); err != nil {
		return nil, nil, err
	}
	if err := m.where.patiently(s.NextEpoch); err != nil {
		// Else a later epoch would put in force what the owner was told is not.
		return nil, nil, errors.Join(fmt.Errorf("seal the store's key to the approved boots: %w", err), r.Approve(was))
	}
	return before, list, nil
}

// contains reports whether a list has a state with the same PCRs and values.
func contains(list []seal.State, s seal.State) bool {
	for i := range list {
		if list[i].PCRs == s.PCRs && len(list[i].Values) == len(s.Values) && list[i].Differing(s.Values) == 0 {
			return true
		}
	}
	return false
}
