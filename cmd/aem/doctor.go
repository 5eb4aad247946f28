package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
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
			report := doctor.Report{Records: records, Verdict: doctor.Judge(records)}
			if asJSON {
				err = json.NewEncoder(os.Stdout).Encode(report)
			} else {
				err = report.Print(os.Stdout)
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
