package root

import (
	"errors"
	"fmt"
	"slices"

	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// Policy says in which boot states the store's key opens.
type Policy struct {
	// States are the approved ones, at least one and at most [seal.MaxStates].
	States []seal.State
	// Static says that the owner chose to rely on the static root: states may rest on what firmware
	// and boot loader measured of themselves (PCRs 0 to 9), without PCRs 17 and 18.
	Static bool
}

var (
	launchPCRs = tpm.PCRSet(tpm.PCRCode, tpm.PCRData)
	staticPCRs = tpm.PCRSet(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
)

// ErrNoLaunch says that a state does not hold a dynamic launch and that nobody chose
// to do without.
var ErrNoLaunch = errors.New("the boot state does not rest on PCRs 17 and 18")

func (p *Policy) check() error {
	if len(p.States) == 0 {
		return errors.New("a store without an approved boot state would open in any")
	}
	for i := range p.States {
		s := &p.States[i]
		switch {
		case s.PCRs&launchPCRs == launchPCRs:
		case !p.Static:
			return fmt.Errorf("%w: %q has PCRs %s", ErrNoLaunch, s.Label, s.PCRs)
		case s.PCRs&staticPCRs != staticPCRs:
			return fmt.Errorf("boot state %q rests neither on PCRs 17 and 18 nor on all of 0 to 9", s.Label)
		}
	}
	return nil
}

// isStatic reports whether one of the states rests on the static root.
func isStatic(states []seal.State) bool {
	return slices.ContainsFunc(states, func(s seal.State) bool { return s.PCRs&launchPCRs != launchPCRs })
}

// Launched is what of an approved state concerns the store: PCRs 17 and 18. The
// others, such as the one that aem caps once its proof was shown, have other values by the time
// the manager starts.
func Launched(s seal.State) seal.State {
	cut := seal.State{Label: s.Label, PCRs: s.PCRs & launchPCRs}
	for _, b := range s.Values {
		bank := tpm.Bank{Alg: b.Alg}
		for p := range cut.PCRs.All() {
			bank.Values[p] = b.Values[p]
		}
		cut.Values = append(cut.Values, bank)
	}
	for _, m := range s.Measured {
		if cut.PCRs.Has(m.PCR) {
			cut.Measured = append(cut.Measured, m)
		}
	}
	return cut
}

// demanded are the PCRs of all states.
func demanded(states []seal.State) (set tpm.PCRs) {
	for i := range states {
		set |= states[i].PCRs
	}
	return set
}

// notApproved says how far the machine is from the state that it is nearest to.
func notApproved(states []seal.State, actual tpm.Banks, err error) error {
	var label string
	var nearest tpm.PCRs
	for i := range states {
		if d := states[i].Differing(actual); i == 0 || d.Len() < nearest.Len() {
			label, nearest = states[i].Label, d
		}
	}
	return fmt.Errorf("the vTPM store stays closed: %w: from the state %q differ PCRs %s; approve this boot from one that is approved, or use the escrowed key", err, label, nearest)
}
