package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/cli"
)

// explanation is what --json prints.
type explanation struct {
	ThisBoot bootReport `json:"this_boot"`
	// LastRefused is the last boot in the journal that did not open, this one left out.
	LastRefused *bootReport      `json:"last_refused,omitempty"`
	Differences *aem.Differences `json:"differences"`
	Journal     string           `json:"journal_problem,omitempty"`
	Next        string           `json:"next,omitempty"` // a command line
}

func explainCommand(s *setup) *cobra.Command {
	return &cobra.Command{
		Use:   "explain",
		Short: "Say why the last boot did not open, and what to do",
		Long: `explain says what the proof of this boot came to, and why; in what this boot differs
from the approved state that is nearest to it, with the old digest and the new one; when
the last boot was that did not open, and why; and what to do next.

What a machine that is not as you approved says of itself is a hint and no proof.`,
		Args: cli.NoArgs,
		RunE: s.opened(func(m *aem.Machine, home aem.Home, _ []string) error {
			x := &explanation{}
			o, err := m.Outcome(home)
			if err != nil {
				return err
			}
			x.ThisBoot = reportOf(o)
			x.ThisBoot.Time = m.Now().UTC()
			if x.ThisBoot.Boot, err = s.bootID(); err != nil {
				return err
			}
			if x.Differences, err = m.Differences(home); err != nil {
				return err
			}
			boots, _ := s.boots()
			x.Journal = s.problem(home)
			x.LastRefused = last(boots, func(b *bootReport) bool { return b.notProved() && b.Boot != x.ThisBoot.Boot })
			x.Next = x.next()
			return s.report(x, x.text())
		}),
	}
}

// nextSteps are the commands that lead on after a refusal that was nobody's evil doing.
var nextSteps = map[aem.Cause]string{
	aem.CauseFirstBoot:   "aem-setup seal",
	aem.CauseChanged:     "aem-setup approve",
	aem.CauseStale:       "aem-setup media sync",
	aem.CauseDamaged:     "aem-setup media sync",
	aem.CauseRecordGone:  "aem-setup media sync",
	aem.CauseLogEmpty:    "aem doctor",
	aem.CauseNotLaunched: "aem doctor",
	aem.CauseLogUnproven: "aem log",
	aem.CauseLocked:      "aem-setup status",
}

func (x *explanation) next() string {
	switch x.ThisBoot.Outcome {
	case aem.ResultFirstBoot:
		return nextSteps[aem.CauseFirstBoot]
	case aem.ResultRefused:
		return nextSteps[x.ThisBoot.Cause]
	case aem.ResultNotAsked:
		return "aem-setup boot install"
	case aem.ResultClaimed:
		return nextSteps[aem.CauseStale]
	}
	if !x.Differences.Same && x.Differences.State != "" {
		return nextSteps[aem.CauseChanged]
	}
	return ""
}

func (x *explanation) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "This boot: %s\n", shown(x.ThisBoot.Sentence))
	if x.ThisBoot.Medium != "" {
		fmt.Fprintf(&b, "  The medium: %s.\n", shown(x.ThisBoot.Medium))
	}
	if x.ThisBoot.Advice != "" {
		fmt.Fprintf(&b, "  %s\n", x.ThisBoot.Advice)
	}
	d := x.Differences
	fmt.Fprintf(&b, "\nLaunch: %s\n", shown(d.Launch))
	if d.LaunchNote != "" {
		fmt.Fprintf(&b, "  %s\n", shown(d.LaunchNote))
	}
	switch {
	case d.Same:
		fmt.Fprintf(&b, "It is the approved state %q.\n", shown(d.State))
	case d.State != "":
		fmt.Fprintf(&b, "It differs from the approved state %q in:\n%s\n", shown(d.State), changeLines(d.Changes))
	}
	if r := x.LastRefused; r != nil {
		fmt.Fprintf(&b, "\nThe last boot before that did not open, %s\n", r)
		if r.Advice != "" {
			fmt.Fprintf(&b, "  %s\n", r.Advice)
		}
	}
	if x.Journal != "" {
		fmt.Fprintf(&b, "\nThe journal can't be relied on: %s\n", shown(x.Journal))
	}
	if x.Next != "" {
		fmt.Fprintf(&b, "\nIf all of this was you: %s\n", x.Next)
	}
	return strings.TrimRight(b.String(), "\n")
}

// changeLines are differences with both digests.
func changeLines(changes []aem.Change) string {
	var lines []string
	for _, c := range changes {
		lines = append(lines, fmt.Sprintf("  %s\n    approved  %s\n    now       %s", shown(c.What), orNone(c.Before), orNone(c.After)))
	}
	return strings.Join(lines, "\n")
}

func orNone(digest string) string {
	if digest == "" {
		return "none"
	}
	return digest
}

// shown is text from logs and files as a terminal may have it.
func shown(s string) string { return eventlog.Printable([]byte(s)) }
