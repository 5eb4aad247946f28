package aem

import (
	"errors"
	"fmt"
	"strings"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// The results of a boot in which nothing was capped that is known.
const (
	ResultNotAsked   Result = "not-asked"  // PCR 13 is as a restart leaves it
	ResultUnfinished Result = "unfinished" // the disks were measured, and no cap followed
	ResultUnknown    Result = "unknown"    // PCR 13 holds something else
	ResultClaimed    Result = "claimed"    // it says that a record opened, in a boot where none opens
)

// BootOutcome is what this boot's proof came to, as PCR 13 tells.
type BootOutcome struct {
	Result Result `json:"result"`
	Cause  Cause  `json:"cause,omitempty"`
	// Continued says that the owner booted on without proof.
	Continued bool `json:"continued_unproven,omitempty"`
	// Medium is the one whose record opened, where one did. It may be none of the set-up's.
	Medium   HexBytes `json:"medium,omitempty"`
	MediumIs string   `json:"medium_name,omitempty"`
	// State is the label of the approved state in which the record opened.
	State string `json:"state,omitempty"`
	// Steps are all that was capped, in order: the first decides, because nothing opens
	// after it.
	Steps []string `json:"steps,omitempty"`
}

// Proved reports whether the machine proved itself, and its owner said so.
func (o *BootOutcome) Proved() bool { return o.Result == ResultProved }

// Sentence says it to a person.
func (o *BootOutcome) Sentence() string {
	s := map[Result]string{
		ResultProved:     "The machine proved itself, and its secret was recognised.",
		ResultUnanswered: "The secret was shown, and nobody said whether it is the right one.",
		ResultFirstBoot:  causes[CauseFirstBoot].sentence,
		ResultNotAsked:   "No proof was asked for in this boot.",
		ResultUnfinished: "The disks were measured for a proof, and it never ended.",
		ResultUnknown:    fmt.Sprintf("Unknown: PCR %d holds something else than this program leaves there.", tpm.PCRHost),
		ResultClaimed:    fmt.Sprintf("PCR %d says that the secret was shown, but in what was launched no approved record opens.", tpm.PCRHost),
		ResultRefused:    causes[o.Cause].sentence,
	}[o.Result]
	if o.Continued {
		s += " Its owner booted on without proof."
	}
	return s
}

// Advice says what the owner can do. It is empty where nothing needs to be done.
func (o *BootOutcome) Advice() string {
	switch o.Result {
	case ResultProved:
		return ""
	case ResultRefused:
		return causes[o.Cause].advice
	case ResultFirstBoot:
		return causes[CauseFirstBoot].advice
	case ResultUnanswered:
		return "If you did not see it, somebody else may have. Restart, and look for yourself."
	case ResultNotAsked:
		return "Where the proof is installed, aem-setup boot install, something booted past it: choose the measured boot entry."
	case ResultClaimed:
		return "If a stick that was away when you approved something booted, sync it: aem-setup media sync. If not, what booted forged this."
	}
	return "Restart. If it stays so, something that is not this program's extends the PCR, or keeps the program from its end."
}

// Outcome finds out what this boot's proof came to. What PCR 13 holds is compared with
// everything that the program can have extended for the media and the disks of the set-up.
//
// Who can extend PCR 13 before aem unseal has run can extend what it would have, so an
// opened record is believed only in a boot whose launch is an approved one: what was
// launched there capped the PCR before anything else could run.
func (m *Machine) Outcome(h Home) (*BootOutcome, error) {
	s, err := h.Setup()
	if err != nil {
		return nil, err
	}
	boot, approved, err := m.bootAndApproved(h)
	if err != nil {
		return nil, err
	}
	return outcomeOf(s, boot, approved), nil
}

// bootAndApproved are the boot and what is approved, as far as they can be had: a disk that
// is missing, or a TPM that was cleared and opens nothing of what is kept, are causes to be
// told and not reasons to tell none.
func (m *Machine) bootAndApproved(h Home) (*Boot, []seal.State, error) {
	boot, err := m.Boot()
	if errors.Is(err, ErrDisk) {
		without := *m
		without.Disks = nil
		boot, err = without.Boot()
	}
	if err != nil {
		return nil, nil, err
	}
	approved, err := m.Approved(h)
	if err != nil {
		return boot, nil, nil
	}
	return boot, approved, m.readFor(boot, approved)
}

func outcomeOf(s *Setup, boot *Boot, approved []seal.State) *BootOutcome {
	var media []seal.MediumID
	for _, medium := range s.Media {
		media = append(media, medium.id())
	}
	disks := [][]seal.Measurement{boot.Disks}
	for i := range approved {
		disks = append(disks, hostMeasured(&approved[i]))
	}
	search := newCapSearch(boot.PCRs, media, disks...)
	if d, ok := search.uncapped(); ok {
		if d == 0 {
			return &BootOutcome{Result: ResultNotAsked}
		}
		return &BootOutcome{Result: ResultUnfinished}
	}
	links := search.find()
	if links == nil {
		return &BootOutcome{Result: ResultUnknown}
	}
	first := links[0]
	o := &BootOutcome{Result: first.outcome.Result, Cause: first.outcome.Cause, Steps: capSteps(links)}
	for _, l := range links {
		o.Continued = o.Continued || l.continued
	}
	if first.outcome.Medium == (seal.MediumID{}) {
		return o
	}
	o.Medium = first.outcome.Medium[:]
	for _, medium := range s.Media {
		if medium.id() == first.outcome.Medium {
			o.MediumIs = medium.Name
		}
	}
	if state := openedIn(boot, approved, search.disks[first.disks]); state != nil {
		o.State = state.Label
	} else {
		o.Result, o.Cause = ResultClaimed, ""
	}
	return o
}

// openedIn finds the approved state that a boot was in before its cap.
func openedIn(boot *Boot, approved []seal.State, disks []seal.Measurement) *seal.State {
	for i := range approved {
		s := &approved[i]
		if !isStatic(s) && boot.Launch.State != drtm.Verified {
			continue
		}
		if s.Differing(boot.PCRs)&rootPCRs(s) == 0 && sameMeasured(hostMeasured(s), disks) {
			return s
		}
	}
	return nil
}

// hostMeasured are the headers among what led to an approved state.
func hostMeasured(s *seal.State) []seal.Measurement {
	var list []seal.Measurement
	for _, m := range s.Measured {
		if m.PCR == tpm.PCRHost {
			list = append(list, m)
		}
	}
	return list
}

// capSteps are the caps in words.
func capSteps(links []capLink) []string {
	var list []string
	for _, l := range links {
		list = append(list, strings.TrimSpace(string(l.outcome.Result)+" "+string(l.outcome.Cause)))
		if l.continued {
			list = append(list, string(ResultContinued))
		}
	}
	return list
}
