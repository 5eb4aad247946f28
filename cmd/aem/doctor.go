package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/aem/doctor"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
)

func doctorCommand(where *aem.Where) *cobra.Command {
	var asJSON bool
	var save string
	cmd := &cobra.Command{
		Use:   "doctor [FOLDER]",
		Short: "Say whether this machine can make a dynamic launch, and why not",
		Long: `doctor looks at the TPM, the CPU and chipset, the firmware's switches, the SINIT modules
and loaders below /boot, TXT's registers and this boot's launch, and says for each
whether it is as a dynamic launch needs it, and what to do where it is not.

--save writes what was read into a folder, so that somebody else can look at it: doctor
FOLDER reads such a folder in place of the machine. It holds no secret, no key and no
serial number; the launch log and the files' names are in it.
Exit code 3: no dynamic launch is possible as things are.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return cli.Usage("one folder can be looked at at a time")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			evidence, err := collect(*where, args)
			if err != nil {
				return err
			}
			if save != "" {
				if err := evidence.Save(save); err != nil {
					return err
				}
			}
			records := doctor.Examine(evidence, time.Now())
			report := doctorReport{records, doctor.Judge(records)}
			if asJSON {
				err = json.NewEncoder(os.Stdout).Encode(report)
			} else {
				err = report.print(os.Stdout)
			}
			if err == nil && report.Verdict.State != doctor.Good && report.Verdict.State != doctor.Warning {
				return cli.Done{Exit: aem.ExitNotPossible}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	cmd.Flags().StringVar(&save, "save", "", "a folder to write what was read into")
	return cmd
}

// collect reads this machine, or a folder that was written before.
func collect(where aem.Where, args []string) (*doctor.Evidence, error) {
	if len(args) == 1 {
		return doctor.Load(args[0])
	}
	o := doctor.Options{OpenTPM: func() (tpm.Channel, io.Closer, error) {
		d, err := device.Open(device.Options{Spec: where.TPM, Wait: where.Wait})
		if err != nil {
			return nil, nil, err
		}
		return d, d, nil
	}}
	fmt.Fprintln(os.Stderr, "Looking at the TPM, the processor, the firmware and the launch ...")
	return doctor.Collect(o), nil
}

// doctorReport is what --json prints.
type doctorReport struct {
	Records []doctor.Record `json:"records"`
	Verdict doctor.Verdict  `json:"verdict"`
}

// marks are the states in four letters, so that a table without colours can be read.
var marks = map[doctor.State]string{
	doctor.Good: " ok ", doctor.Warning: "note", doctor.Bad: "BAD ", doctor.Unknown: " ?  ", doctor.NotApplicable: " -  ",
}

// print writes the table for a person, in 80 columns: what needs attention first.
func (r *doctorReport) print(out io.Writer) error {
	var b strings.Builder
	for _, group := range []struct {
		title  string
		states []doctor.State
	}{
		{"Needs attention", []doctor.State{doctor.Bad, doctor.Warning}},
		{"Could not be read", []doctor.State{doctor.Unknown}},
		{"As it should be", []doctor.State{doctor.Good}},
	} {
		first := true
		for _, state := range group.states {
			for _, x := range r.Records {
				if x.State != state {
					continue
				}
				if first {
					fmt.Fprintf(&b, "%s\n", group.title)
					first = false
				}
				printRecord(&b, &x)
			}
		}
		if !first {
			fmt.Fprintln(&b)
		}
	}
	wrap(&b, "", r.Verdict.Text)
	_, err := io.WriteString(out, b.String())
	return err
}

func printRecord(b *strings.Builder, x *doctor.Record) {
	required := ""
	if x.Required && x.State == doctor.Bad {
		required = " (required)"
	}
	wrap(b, "       ", fmt.Sprintf("[%s] %s%s: %s", marks[x.State], x.Name, required, x.Text))
	if x.State == doctor.Good || x.State == doctor.NotApplicable {
		return
	}
	if x.Advice != "" {
		wrap(b, "       ", "       What to do: "+x.Advice)
	}
	wrap(b, "       ", "       See: "+x.Chapter)
}

// width is what every terminal has.
const width = 80

// wrap writes a text in lines of at most 80 columns; all but the first are indented.
func wrap(b *strings.Builder, indent, text string) {
	line := ""
	lead := text[:len(text)-len(strings.TrimLeft(text, " "))]
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
			line = lead + word
		case len(line)+1+len(word) > width:
			b.WriteString(line + "\n")
			line = indent + word
		default:
			line += " " + word
		}
	}
	b.WriteString(line + "\n")
}
