package aem

import (
	"fmt"

	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// Result is what a boot's proof came to.
type Result string

// The results that a cap can carry. Their texts are stable: they are measured, and they
// stand in the journal.
const (
	ResultProved     Result = "proved"     // the owner recognised the secret
	ResultUnanswered Result = "unanswered" // the secret was shown, and the terminal went away
	ResultRefused    Result = "refused"    // for a cause
	ResultFirstBoot  Result = "first-boot" // nothing is sealed yet
	ResultContinued  Result = "continued"  // after a refusal: the owner typed the word to boot on
)

// Outcome is what the cap tells the running system of the proof. Nothing else is left of it.
type Outcome struct {
	Result Result `json:"result"`
	Cause  Cause  `json:"cause,omitempty"` // of a refusal
	// Medium is the one whose record the TPM opened, and zero where it opened none: what an
	// unopened record says of itself could be anything, and a chain with anything in it
	// could not be told from a forged one.
	Medium seal.MediumID `json:"-"`
}

// text is what the cap's digests are taken of: three words after the name, each always
// there, in printable ASCII.
func (o Outcome) text() string {
	cause, medium := "-", "-"
	if o.Cause != "" {
		cause = string(o.Cause)
	}
	if o.Medium != (seal.MediumID{}) {
		medium = fmt.Sprintf("%x", o.Medium)
	}
	return fmt.Sprintf("aem: %s %s %s", o.Result, cause, medium)
}

// digests are what the cap extends.
func (o Outcome) digests(algs []tpm.Alg) []tpm.TaggedDigest {
	return tpm.SumAll(algs, []byte(o.text()))
}

// Cap extends a PCR of every policy, so that no record opens again before the
// machine restarts, with what the proof came to. It is called before anything runs that
// was not measured. A cap can't be taken back and none can be put before it, so what
// runs later can't give this boot another outcome.
func (m *Machine) Cap(o Outcome) error {
	banks, err := m.Chip.ReadPCRs(tpm.PCRSet(tpm.PCRHost))
	if err != nil {
		return err
	}
	return m.Chip.Extend(tpm.PCRHost, o.digests(banks.Algs()))
}

// continued is capped after a refusal's own cap, once the word was typed.
var continued = Outcome{Result: ResultContinued}

// openedOutcomes are the ones that follow on an opened record of one of the media.
func openedOutcomes(media []seal.MediumID) []Outcome {
	var list []Outcome
	for _, id := range media {
		list = append(list, Outcome{Result: ResultProved, Medium: id}, Outcome{Result: ResultUnanswered, Medium: id},
			Outcome{Result: ResultRefused, Cause: CauseRejected, Medium: id})
	}
	return list
}

// closedOutcomes are the ones where no record was opened.
func closedOutcomes() []Outcome {
	list := []Outcome{{Result: ResultFirstBoot}}
	for _, c := range Causes() {
		list = append(list, Outcome{Result: ResultRefused, Cause: c})
	}
	return list
}
