package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
)

// The details of a boot's entry in the journal.
const (
	detailBoot     = "boot" // the kernel's random name of the boot
	detailOutcome  = "outcome"
	detailCause    = "cause"
	detailMedium   = "medium"
	detailMediumID = "medium_id"
	detailState    = "state"
	detailOn       = "continued_unproven"
	detailSteps    = "steps"
)

// bootKinds are the kinds of entries that tell what a boot's proof came to.
var bootKinds = []journal.Kind{journal.Opened, journal.Refused, journal.Unproven}

// bootReport is what --json prints of a boot.
type bootReport struct {
	Time      time.Time  `json:"time"` // when it was written down
	Boot      string     `json:"boot"`
	Outcome   aem.Result `json:"outcome"`
	Cause     aem.Cause  `json:"cause,omitempty"`
	Continued bool       `json:"continued_unproven,omitempty"`
	Medium    string     `json:"medium,omitempty"`
	MediumID  string     `json:"medium_id,omitempty"`
	State     string     `json:"state,omitempty"`
	Sentence  string     `json:"sentence"`
	Advice    string     `json:"advice,omitempty"`
}

func journalBoot(s *setup) *cobra.Command {
	return &cobra.Command{
		Use:   "boot",
		Short: "Write down what this boot's proof came to",
		Long: `boot finds out from PCR 13 what the proof of this boot came to, and writes it into the
journal, once for each boot. The unit aem-journal.service runs it; aem-setup boot install
installs that.

The proof is made before the disk is open, and leaves nothing behind but a cap that
PCR 13 was extended with. Whatever runs later can extend the PCR once more, which is
written down as unknown, but it can't give the boot another outcome.`,
		Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error { return writeBoot(s) },
	}
}

func writeBoot(s *setup) error {
	m, home, closer, err := s.open()
	if err != nil {
		return err
	}
	defer closer.Close()
	o, err := m.Outcome(home)
	if err != nil {
		return err
	}
	id, err := s.bootID()
	if err != nil {
		return err
	}
	boots, _ := s.boots() // a line that was changed is no reason to write nothing; note says it
	if i := slices.IndexFunc(boots, func(b bootReport) bool { return b.Boot == id }); i >= 0 {
		return s.report(boots[i], "Written down already: "+boots[i].Sentence)
	}
	kind := journal.Unproven
	switch o.Result {
	case aem.ResultProved:
		kind = journal.Opened
	case aem.ResultRefused:
		kind = journal.Refused
	}
	b := reportOf(o)
	b.Time, b.Boot = m.Now().UTC().Truncate(time.Second), id
	s.note(kind, 0, b.details(o.Steps), "%s", b.Sentence)
	return s.report(b, b.Sentence)
}

// bootID is the name that the kernel gave to this boot.
func (s *setup) bootID() (string, error) {
	b, err := os.ReadFile(filepath.Join(s.root, "proc/sys/kernel/random/boot_id"))
	if err != nil {
		return "", fmt.Errorf("read the kernel's name of this boot: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// reportOf puts an outcome into words.
func reportOf(o *aem.BootOutcome) bootReport {
	b := bootReport{
		Outcome: o.Result, Cause: o.Cause, Continued: o.Continued, Medium: o.MediumIs, State: o.State,
		Sentence: o.Sentence(), Advice: o.Advice(),
	}
	if len(o.Medium) > 0 {
		b.MediumID = fmt.Sprintf("%x", []byte(o.Medium))
	}
	return b
}

func (b *bootReport) details(steps []string) map[string]string {
	details := map[string]string{
		detailBoot: b.Boot, detailOutcome: string(b.Outcome), detailCause: string(b.Cause), detailMedium: b.Medium,
		detailMediumID: b.MediumID, detailState: b.State, detailSteps: strings.Join(steps, ", "),
	}
	if b.Continued {
		details[detailOn] = "yes"
	}
	for name, value := range details {
		if value == "" {
			delete(details, name)
		}
	}
	return details
}

// boots are those that the journal tells of, the last one last, and the first problem of
// the journal itself.
func (s *setup) boots() (list []bootReport, problem error) {
	j, err := journal.Open(s.home)
	if err != nil {
		return nil, err
	}
	for e, err := range j.Entries() {
		if err != nil && problem == nil {
			problem = err
		}
		if slices.Contains(bootKinds, e.Kind) {
			list = append(list, bootOf(e))
		}
	}
	return list, problem
}

// problem is what is wrong with the journal, empty where nothing is.
func (s *setup) problem(home aem.Home) string {
	j, err := journal.Open(s.home)
	if err == nil {
		_, err = s.held(j, home)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// bootOf reads an entry again. The advice is this program's, not the journal's.
func bootOf(e journal.Entry) bootReport {
	o := aem.BootOutcome{
		Result: aem.Result(e.Details[detailOutcome]), Cause: aem.Cause(e.Details[detailCause]), Continued: e.Details[detailOn] != "",
		MediumIs: e.Details[detailMedium], State: e.Details[detailState],
	}
	b := reportOf(&o)
	b.Time, b.Boot, b.MediumID, b.Sentence = e.Time, e.Details[detailBoot], e.Details[detailMediumID], e.Text
	return b
}

// last finds the last boot for which something holds.
func last(boots []bootReport, holds func(*bootReport) bool) *bootReport {
	for i := len(boots) - 1; i >= 0; i-- {
		if holds(&boots[i]) {
			return &boots[i]
		}
	}
	return nil
}

func (b *bootReport) proved() bool { return b.Outcome == aem.ResultProved }

// notProved leaves out the boots before anything was sealed.
func (b *bootReport) notProved() bool {
	return b.Outcome != aem.ResultProved && b.Outcome != aem.ResultFirstBoot
}

// String is a boot in one line.
func (b *bootReport) String() string {
	text := b.Time.Format("2006-01-02 15:04") + " UTC: " + shown(b.Sentence)
	if b.Medium != "" {
		text += fmt.Sprintf(" (medium %s, state %q)", shown(b.Medium), shown(b.State))
	}
	return text
}
