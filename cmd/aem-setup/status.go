package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/seal"
)

func statusCommand(s *setup) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say what would open now, and why it would not",
		Long: `status looks at the TPM, the launch and the medium, and says whether the record would
open now. It opens nothing, and costs no try where a PIN is set. After the machine has
proved itself in this boot the record does not open again until it restarts.

It also lists the media and the approved states, and says when the machine last proved
itself and when it last did not, as the journal knows it.`,
		Args: cli.NoArgs,
		RunE: s.opened(func(m *aem.Machine, home aem.Home, _ []string) error {
			st, err := s.status(m, home)
			if err != nil {
				return err
			}
			return s.report(st, statusText(st))
		}),
	}
}

// statusReport is what --json prints.
type statusReport struct {
	*aem.Status
	Media       []mediumReport `json:"media,omitempty"`
	LastProof   *bootReport    `json:"last_proof,omitempty"`
	LastRefusal *bootReport    `json:"last_refusal,omitempty"`
	Journal     string         `json:"journal_problem,omitempty"`
}

func (s *setup) status(m *aem.Machine, home aem.Home) (*statusReport, error) {
	st, err := m.Status(home)
	if err != nil || !st.SetUp {
		return &statusReport{Status: st}, err
	}
	r := &statusReport{Status: st, Journal: s.problem(home)}
	// On a TPM that was cleared, or is another one, the cause above is what counts.
	if r.Media, err = s.media(m, home); err != nil && st.Cause == "" {
		return nil, err
	}
	boots, _ := s.boots()
	r.LastProof = last(boots, func(b *bootReport) bool { return b.proved() })
	r.LastRefusal = last(boots, func(b *bootReport) bool { return b.notProved() })
	return r, nil
}

func statusText(st *statusReport) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	row("TPM", st.TPM)
	row("in words", st.Identity)
	row("launch", st.Launch)
	row("", st.LaunchNote)
	row("log", st.LogSource)
	if !st.SetUp {
		row("set up", "no; run aem-setup init")
	} else {
		switch {
		case !st.SecretKept:
			row("secret", "none; run aem-setup secret set text, or totp")
		case st.SecretKind == seal.KindTOTP.String():
			row("secret", "one-time codes; their key is kept, sealed to this TPM")
		default:
			row("secret", "kept, sealed to this TPM")
		}
		for _, state := range st.States {
			row("approved", state)
		}
		if st.Generation != 0 {
			row("generation", fmt.Sprint(st.Generation))
		}
		if st.Opens {
			row("opens now", "yes")
		} else {
			row("opens now", "no: "+st.Sentence)
			for _, c := range st.Changes {
				row("differs", c.What)
			}
		}
		if st.LastProof != nil {
			row("last proof", st.LastProof.String())
		}
		if st.LastRefusal != nil {
			row("last without", st.LastRefusal.String()+" aem-setup explain says more")
		}
		row("journal", st.Journal)
	}
	w.Flush() // a strings.Builder takes everything
	if len(st.Media) > 0 {
		b.WriteString("\n" + mediaText(st.Media))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// dryRunFlag is the flag of commands that change something.
func dryRunFlag(cmd *cobra.Command, dryRun *bool) {
	cmd.Flags().BoolVar(dryRun, "dry-run", false, "say what would be done, and do nothing")
}

// would reports what a command without --dry-run would do.
func (s *setup) would(v any, format string, args ...any) error {
	return s.report(v, fmt.Sprintf("Would "+format+". Nothing was changed.", args...))
}

// report prints what a command found: as JSON, or as text.
func (s *setup) report(v any, text string) error {
	if s.json {
		return json.NewEncoder(os.Stdout).Encode(v)
	}
	_, err := fmt.Println(text)
	return err
}
