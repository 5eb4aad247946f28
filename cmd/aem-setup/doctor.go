package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/aem/doctor"
	"github.com/antievilmaid/aem/internal/bootentry"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
	"github.com/antievilmaid/aem/tpm2"
)

func doctorCommand(s *setup) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what fits and what is missing, before anything is changed",
		Long: `doctor looks at this machine and at the system on it, before anything is touched: all that
aem doctor looks at for a launch, and the firmware and GRUB's menu, what the default entry
boots and whether it launches, whether the root is encrypted and on which LUKS volumes,
what makes the initramfs and whether the proof is in it, and the clocks. Each row says
what to do about it.

Nothing is changed, and no question to the TPM costs a try at a password. Run it as root:
what only root may read is named as unknown otherwise.
Exit code 3: AEM can't be set up, or no dynamic launch is possible, as things are.`,
		Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error { return s.examine() },
	}
}

func (s *setup) examine() error {
	fmt.Fprintln(os.Stderr, "Looking at the TPM, the processor, the firmware, the launch, the disks and the boot ...")
	evidence := doctor.Collect(doctor.Options{Root: s.root, OpenTPM: s.openTPM})
	system := doctor.SystemOptions{Root: s.root, Now: time.Now(), Menu: s.bootMenu}
	if evidence.TPM != nil && evidence.TPM.Family == "2.0" {
		system.Clock = s.tpmClock
	}
	machine := doctor.Examine(evidence, time.Now())
	all := append(machine, doctor.ExamineSystem(doctor.CollectSystem(system))...)
	setUp := doctor.JudgeSetUp(all)
	report := doctor.Report{Records: all, Verdict: doctor.Judge(machine), SetUp: &setUp}
	var err error
	if s.json {
		err = json.NewEncoder(os.Stdout).Encode(report)
	} else {
		err = report.Print(os.Stdout)
	}
	for _, v := range []doctor.Verdict{report.Verdict, setUp} {
		if err == nil && v.State != doctor.Good && v.State != doctor.Warning {
			return cli.Done{Exit: aem.ExitNotPossible}
		}
	}
	return err
}

func (s *setup) openTPM() (tpm.Channel, io.Closer, error) {
	d, err := device.Open(device.Options{Spec: s.where.TPM, Wait: s.where.Wait})
	if err != nil {
		return nil, nil, err
	}
	return d, d, nil
}

// tpmClock reads the clock of a TPM 2.0.
func (s *setup) tpmClock() (tpm2.Clock, error) {
	d, closer, err := s.openTPM()
	if err != nil {
		return tpm2.Clock{}, err
	}
	defer closer.Close()
	return tpm2.New(d).ReadClock()
}

// bootMenu reads the menu of the system below the root.
func (s *setup) bootMenu() (*bootentry.Menu, error) {
	if s.root == "/" {
		return aem.BootMenu("")
	}
	return aem.BootMenu(filepath.Join(s.root, "boot"))
}
