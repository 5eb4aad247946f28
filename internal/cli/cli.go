// Package cli is what the owner's programs have in common: how a command line is
// run, how its errors are said, and with which exit code the program ends.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
)

// UsageError is a command line that makes no sense.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e UsageError) Unwrap() error { return e.Err }

// Usage makes a UsageError.
func Usage(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// Done ends the program with a code when everything was said already.
type Done struct{ Exit aem.Exit }

func (d Done) Error() string { return fmt.Sprintf("exit %d", d.Exit) }

// Main runs the program's command line and ends the program.
func Main(cmd *cobra.Command) {
	// Ctrl-C must not lead past the proof; full screens read it as a key.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	exit := Run(ctx, cmd, os.Args[1:])
	stop()
	os.Exit(int(exit))
}

// Run executes a command line and returns the program's exit code. What went
// wrong is said on the error output.
func Run(ctx context.Context, cmd *cobra.Command, args []string) aem.Exit {
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.Version = Version
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return UsageError{err} })
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	var usage UsageError
	var done Done
	switch {
	case err == nil:
		return aem.ExitOK
	case errors.As(err, &done):
		return done.Exit
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "%s: %v\nTry %s --help.\n", cmd.Name(), err, cmd.Name())
		return aem.ExitUsage
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", cmd.Name(), err)
	return aem.ExitOf(err)
}

// NoArgs refuses arguments.
func NoArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usage("%q is one argument too many", args[0])
	}
	return nil
}
