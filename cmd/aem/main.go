// Command aem is the program in the initramfs: it lets the machine prove itself
// before a passphrase is typed. In the running system it is for looking.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
)

func main() {
	// Ctrl-C must not lead past the proof; full screens read it as a key.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(int(run(ctx, os.Args[1:])))
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string) aem.Exit {
	cmd := newCommand()
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	var usage usageError
	var done exitError
	switch {
	case err == nil:
		return aem.ExitOK
	case errors.As(err, &done):
		return done.exit
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "aem: %v\nTry aem --help.\n", err)
		return aem.ExitUsage
	}
	fmt.Fprintf(os.Stderr, "aem: %v\n", err)
	return aem.ExitOf(err)
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

// exitError ends the program with a code when everything was said already.
type exitError struct{ exit aem.Exit }

func (e exitError) Error() string { return fmt.Sprintf("exit %d", e.exit) }

func newCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "aem",
		Short: "Let a machine prove itself before its owner types anything",
		Long: `aem lets a machine prove itself to its owner before the owner types a passphrase.

The CPU's dynamic launch measured what runs into the TPM. A secret that the owner
entrusted opens only in an approved state; whoever changed the machine can't show it.

Exit codes: 0 ok, 1 error, 2 usage, 3 not possible on this machine, 4 the machine is
in no approved state, 5 wrong PIN, 6 locked out, 7 superseded medium, 8 record damaged
or missing, 9 another TPM, or a cleared one.`,
		SilenceErrors: true, SilenceUsage: true,
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	var where aem.Where
	f := cmd.PersistentFlags()
	f.StringVar(&where.TPM, "tpm", "", `the TPM: a device, or "swtpm:" and a control socket (default: this machine's)`)
	f.DurationVar(&where.Wait, "wait", 0, "how long to wait for drivers of TPM and medium, such as 5s")
	f.StringVar(&where.Log, "log", "", "a file to read in place of this machine's launch log")
	cmd.AddCommand(unsealCommand(&where), logCommand(&where))
	return cmd
}

// noArgs refuses arguments, as a usage error.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%q is one argument too many", args[0])}
	}
	return nil
}
