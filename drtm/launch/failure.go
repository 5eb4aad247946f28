package launch

import (
	"errors"
	"fmt"
)

// Step is a part of a launch, in the order of the constants.
type Step string

// The steps.
const (
	OpenTPM    Step = "open-tpm"    // at locality 2
	ReadPCRs   Step = "read-pcrs"   // what the launch and nobody else left there
	FindLog    Step = "find-log"    // of the launch
	Check      Step = "check"       // that there was a launch, and that its log is true
	Authority  Step = "authority"   // of the policy that has to approve; measured first
	ReadFiles  Step = "read-files"  // each once
	Hash       Step = "hash"        // in every bank
	Approval   Step = "approval"    // by the policy
	ExtendLog  Step = "extend-log"  // with what will be measured
	LoadKernel Step = "load-kernel" // hand the bytes to who starts them
	Extend     Step = "extend"      // the PCRs
	Confirm    Step = "confirm"     // that the PCRs hold what the log says
	Execute    Step = "execute"     // from which there is no return
)

// Errors on which a caller decides; each is wrapped by a [Failure].
var (
	// ErrNotLaunched: there was no dynamic launch, so that there is nothing that a
	// measurement could continue, and nothing to cap.
	ErrNotLaunched = errors.New("this machine made no dynamic launch")
	// ErrUnproven: something is in PCR 17, and the log does not prove what.
	ErrUnproven = errors.New("the launch is not proven by its log")
	// ErrLost: the TPM took the extends, and does not hold what they lead to.
	ErrLost = errors.New("PCRs 17 and 18 do not hold what was just measured")
	// ErrReturned: what was loaded should have been started, and was not.
	ErrReturned = errors.New("the next stage was not started")
)

// Failure is a launch that did not take place. Nothing was started.
type Failure struct {
	Step Step
	Err  error
	// Capped says that PCRs 17 and 18 were capped: nothing can be unsealed in this boot.
	Capped bool
	// CapErr says why they were not, where they should have been. Then the machine must
	// not be left running: whoever comes to its console may find the PCRs of an
	// approved state.
	CapErr error
}

func (f *Failure) Error() string {
	s := fmt.Sprintf("the next stage was not launched (%s): %v", f.Step, f.Err)
	switch {
	case f.Capped:
		s += "; PCRs 17 and 18 were capped, nothing opens in this boot any more"
	case f.CapErr != nil:
		s += fmt.Sprintf("; PCRs 17 and 18 COULD NOT BE CAPPED, switch the machine off: %v", f.CapErr)
	}
	return s
}

// Unwrap gives the cause, and why the cap failed.
func (f *Failure) Unwrap() []error {
	if f.CapErr != nil {
		return []error{f.Err, f.CapErr}
	}
	return []error{f.Err}
}
