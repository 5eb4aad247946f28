package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
)

func logCommand(where *aem.Where) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "log [FILE]",
		Short: "Read a launch log, and compare it with the TPM",
		Long: `log prints what a dynamic launch measured, by this machine's log or a file's, and says
for each PCR in each bank whether the log leads to what the TPM holds.

Without a FILE the log is read where the kernel or the simulator shows it, and compared
with this machine's TPM; with a FILE only where --tpm names one. What a log says is
hearsay until it agrees with the TPM. Exit code 4: it does not.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return cli.Usage("one log can be read at a time")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := readLog(*where, args)
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(os.Stdout).Encode(r)
			} else {
				err = r.print(os.Stdout)
			}
			if err == nil && r.Compared && r.Launch != drtm.Verified.String() {
				return cli.Done{Exit: aem.ExitMeasurements}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

// logReport is a log as --json prints it.
type logReport struct {
	Source   string      `json:"source"`
	Format   string      `json:"format"`
	Damage   string      `json:"damage,omitempty"`
	Compared bool        `json:"compared_with_tpm"`
	Launch   string      `json:"launch,omitempty"`
	Platform string      `json:"platform,omitempty"`
	Reason   string      `json:"reason,omitempty"`
	Events   []logEvent  `json:"events"`
	Verdicts []logResult `json:"verdicts,omitempty"`
}

type logEvent struct {
	PCR      uint32            `json:"pcr"`
	Type     string            `json:"type"`
	Extended bool              `json:"extended"`
	What     string            `json:"what"`
	Digests  map[string]string `json:"digests"`
	Text     string            `json:"text"`
}

type logResult struct {
	PCR     uint32 `json:"pcr"`
	Bank    string `json:"bank"`
	Verdict string `json:"verdict"`
	TPM     string `json:"tpm"`
	Log     string `json:"log,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

func readLog(where aem.Where, args []string) (*logReport, error) {
	if len(args) == 1 {
		where.Log = args[0]
		if where.TPM == "" {
			l, err := aem.ReadLog(args[0])
			if err != nil {
				return nil, err
			}
			return newLogReport(l), nil
		}
	}
	m, closer, err := aem.Open(where, nil)
	if errors.Is(err, device.ErrNoTPM) {
		l, err := aem.FindLog()
		if err != nil || l == nil {
			return nil, errors.Join(err, fmt.Errorf("this machine shows neither a TPM nor a launch log: %w", aem.ErrNotPossible))
		}
		return newLogReport(l), nil
	}
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	boot, err := m.Boot()
	if err != nil {
		return nil, err
	}
	r := &logReport{Source: "none found"}
	if boot.Log != nil {
		r = newLogReport(boot.Log)
	}
	r.Compared, r.Launch, r.Reason = true, boot.Launch.State.String(), boot.Launch.Reason
	if boot.Launch.Platform != 0 {
		r.Platform = boot.Launch.Platform.String()
	}
	for _, v := range boot.Launch.Report {
		r.Verdicts = append(r.Verdicts, logResult{
			uint32(v.PCR), v.Alg.String(), v.Verdict.String(), v.Actual.String(), v.Replayed.String(), v.Reason,
		})
	}
	return r, nil
}

func newLogReport(l *aem.LaunchLog) *logReport {
	r := &logReport{Source: l.Source, Format: l.Log.Format.String()}
	if l.Broken != nil {
		r.Damage = l.Broken.Error()
	}
	roles := drtm.Roles(l.Log)
	for i := range l.Log.Events {
		e := &l.Log.Events[i]
		digests := map[string]string{}
		for _, d := range e.Digests {
			digests[d.Alg.String()] = d.Digest.String()
		}
		r.Events = append(r.Events, logEvent{
			uint32(e.PCR), e.Type.String(), e.Extended(), roles[i].String(), digests, eventlog.Printable(e.Data),
		})
	}
	return r
}

// print writes the report for a person, in 80 columns.
func (r *logReport) print(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Launch log: %s (%s)\n", r.Source, r.Format)
	if r.Damage != "" {
		fmt.Fprintf(&b, "Damaged: %s\n", r.Damage)
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nPCR\tWHAT\tDIGEST\tTEXT (hearsay)")
	for _, e := range r.Events {
		digest := e.Digests[tpm.SHA256.String()]
		if digest == "" {
			digest = e.Digests[tpm.SHA1.String()]
		}
		if !e.Extended {
			digest = "not extended"
		}
		fmt.Fprintf(w, "%d\t%s\t%.16s\t%.28s\n", e.PCR, e.What, digest, e.Text)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if r.Compared {
		fmt.Fprintf(&b, "\nLaunch: %s", r.Launch)
		if r.Platform != "" {
			fmt.Fprintf(&b, " (%s)", r.Platform)
		}
		fmt.Fprintln(&b)
		if r.Reason != "" {
			fmt.Fprintf(&b, "%s\n", r.Reason)
		}
		for _, v := range r.Verdicts {
			fmt.Fprintf(&b, "  PCR %d  %-8s %s\n", v.PCR, v.Bank, v.Verdict)
		}
	} else {
		fmt.Fprintln(&b, "\nNot compared with a TPM: nothing above is proven.")
	}
	_, err := io.WriteString(out, b.String())
	return err
}
