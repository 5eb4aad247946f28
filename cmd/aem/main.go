// Command aem is the program in the initramfs: it lets the machine prove itself
// before a passphrase is typed. In the running system it is for looking.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/internal/stage1/config"
)

func main() {
	// The kernel starts the first process by this name, with words of its command line
	// as arguments, which are none for stage 1.
	if os.Getpid() == 1 && os.Args[0] == config.Init {
		stageOne()
	}
	cli.Main(newCommand())
}

func newCommand() *cobra.Command {
	return commands(thisMachine())
}

func thisMachine() starter { return starter{stage1.ThisMachine().Load, stage1.Execute} }

func commands(start starter) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "aem",
		Short: "Let a machine prove itself before its owner types anything",
		Long: `aem lets a machine prove itself to its owner before the owner types a passphrase.

The CPU's dynamic launch measured what runs into the TPM. A secret that the owner
entrusted opens only in an approved state; whoever changed the machine can't show it.

Exit codes: 0 ok, 1 error, 2 usage, 3 not possible on this machine, 4 the machine is
in no approved state, 5 wrong PIN, 6 locked out, 7 superseded medium, 8 record damaged
or missing, 9 another TPM, or a cleared one.`,
	}
	var where aem.Where
	f := cmd.PersistentFlags()
	f.StringVar(&where.TPM, "tpm", "", `the TPM: a device, "tis:" and a locality (0 to 3) to do without the driver, or "swtpm:" and a control socket (default: this machine's)`)
	f.DurationVar(&where.Wait, "wait", 0, "how long to wait for drivers of TPM and medium, such as 5s")
	f.StringVar(&where.Log, "log", "", "a file to read in place of this machine's launch log")
	cmd.AddCommand(unsealCommand(&where), logCommand(&where), explainCommand(), predictCommand(&where), doctorCommand(&where),
		launchCommand(&where, start))
	return cmd
}
