// Command aem-setup prepares a running system so that its machine can prove
// itself at the next boot: it keeps the owner's secret and seals it to what the
// boot will measure.
package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
)

func main() { cli.Main(newCommand()) }

// setup is what all commands share.
type setup struct {
	where aem.Where
	home  string
	root  string // of the system that is set up
	json  bool

	machine *aem.Machine // once it is open
}

func newCommand() *cobra.Command {
	s := &setup{}
	cmd := &cobra.Command{
		Use:   "aem-setup",
		Short: "Prepare a machine to prove itself to its owner",
		Long: `aem-setup prepares a machine to prove itself to its owner. In this order:

  aem-setup doctor                    what fits and what is missing; changes nothing
  aem-setup init --medium FOLDER      prepare the TPM and a medium, once
  aem-setup secret set text           type the sentence that you will recognise, or
  aem-setup secret set totp           one-time codes for your phone
  aem-setup seal                      seal it to what this boot, or the next, measures
  aem-setup boot install              show it at each boot, before the passphrase
  aem-setup status                    what would open now, and why not
  aem-setup explain                   why the last boot did not open
  aem-setup approve                   after an update, before the restart
  aem-setup media add NAME FOLDER     a stick that carries the secret, too

From the next boot on, aem unseal shows the sentence before anything asks for a
passphrase, and only if the machine is as it was sealed.`,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&s.where.TPM, "tpm", "", `the TPM: a device, "tis:" and a locality (0 to 3) to do without the driver, or "swtpm:" and a control socket (default: this machine's)`)
	f.StringVar(&s.where.Log, "log", "", "a file to read in place of this machine's launch log")
	f.StringVar(&s.home, "home", aem.DefaultHome, "folder that remembers the set-up")
	f.StringVar(&s.root, "root", "/", "root folder of the system whose boot is changed")
	f.BoolVar(&s.json, "json", false, "print reports as JSON")
	cmd.AddCommand(doctorCommand(s), initCommand(s), secretCommand(s), sealCommand(s), approveCommand(s), mediaCommand(s), bootCommand(s),
		statusCommand(s), explainCommand(s), journalCommand(s), policyCommand(s), stage1Command(s), uninstallCommand(s))
	return cmd
}

// open opens the machine; the closer gives its TPM back.
func (s *setup) open() (*aem.Machine, aem.Home, io.Closer, error) {
	home := aem.OpenHome(s.home)
	if setup, err := home.Setup(); err == nil {
		s.where.Disks = setup.Disks
	}
	m, closer, err := aem.Open(s.where, nil)
	if err == nil {
		m.Root = s.root
	}
	s.machine = m
	return m, home, closer, err
}

// opened makes what cobra runs of a command that needs the machine from its beginning to
// its end.
func (s *setup) opened(run func(m *aem.Machine, home aem.Home, args []string) error) func(*cobra.Command, []string) error {
	return func(_ *cobra.Command, args []string) error {
		m, home, closer, err := s.open()
		if err != nil {
			return err
		}
		defer closer.Close()
		return run(m, home, args)
	}
}
