package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
)

func initCommand(s *setup) *cobra.Command {
	var medium string
	var askOwner, noDisks, dryRun bool
	var disks []string
	cmd := &cobra.Command{
		Use:   "init --medium FOLDER",
		Short: "Prepare the TPM and a medium",
		Long: `init prepares the TPM and a medium for sealed records. It takes the TPM as it is:
nothing is cleared, a storage key that exists is used, other people's keys and NV areas
are left alone. The LUKS volumes that the root lies on are noted: their headers are
measured before each proof, so that a disk that was exchanged or given another key slot
is noticed before you type a passphrase. A root that is not encrypted is refused.

A TPM 1.2 without an owner gets one, with a random password that is kept sealed to the
TPM; give --owner-password to choose it. A TPM with an owner needs its password.`,
		Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if medium == "" {
				return cli.Usage("--medium is needed: the folder where the boot partition or stick is mounted")
			}
			var owner []byte
			if askOwner {
				var err error
				if owner, err = readSecret("TPM owner password: "); err != nil {
					return err
				}
				defer clear(owner)
			}
			if len(disks) == 0 && !noDisks {
				var err error
				if disks, err = aem.RootDisks(); err != nil {
					return fmt.Errorf("%w; name the disks with --disk, or say --no-disks", err)
				}
			}
			s.where.Disks = disks
			m, home, closer, err := s.open()
			if err != nil {
				return err
			}
			defer closer.Close()
			if dryRun {
				if _, err := home.Setup(); !errors.Is(err, aem.ErrNotSetUp) {
					return cmp.Or(err, errors.New("this machine is set up already"))
				}
				about, err := m.Chip.Describe()
				if err != nil {
					return err
				}
				return s.would(map[string]any{"tpm": about, "medium": medium, "disks": disks},
					"make a counter in the %s, and a storage key if it has none; keep records in %s; measure the headers of %d disks: %s",
					about, filepath.Join(medium, aem.RecordsFolder), len(disks), cmp.Or(strings.Join(disks, ", "), "none"))
			}
			fmt.Fprintln(os.Stderr, "Preparing the TPM; a slow one takes up to a minute ...")
			made, err := m.Init(home, medium, owner, disks...)
			if err != nil {
				return err
			}
			s.note(journal.SetUp, 0, nil, "set up with the %s", made.Family)
			return s.report(made, fmt.Sprintf("Ready. This machine's TPM in words: %s.\nNext: aem-setup secret set text", aem.Words([32]byte(made.Identity))))
		},
	}
	cmd.Flags().StringVar(&medium, "medium", "", "folder where the medium is mounted")
	cmd.Flags().StringSliceVar(&disks, "disk", nil, "UUID of a LUKS volume whose header is measured at each boot (default: those of the root)")
	cmd.Flags().BoolVar(&noDisks, "no-disks", false, "measure no disk's header")
	dryRunFlag(cmd, &dryRun)
	cmd.Flags().BoolVar(&askOwner, "owner-password", false, "ask for the TPM's owner password")
	return cmd
}
