// Command vtpmd gives the guests of this machine TPMs of their own, whose secrets exist only
// while the machine runs what it was launched with and what its owner approved.
package main

import (
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/vtpmhost"
)

func main() { cli.Main(newCommand()) }

// options are what all commands share.
type options struct {
	where vtpmhost.Where
	out   io.Writer // for reports
	errs  io.Writer
}

func newCommand() *cobra.Command {
	o := &options{out: os.Stdout, errs: os.Stderr}
	d := &daemon{options: o}
	cmd := &cobra.Command{
		Use:   "vtpmd",
		Short: "Give guests TPMs of their own, on a machine that was launched as approved",
		Long: `vtpmd gives each guest of Xen's, QEMU's or libvirt's a TPM of its own. What these TPMs hold is encrypted
on the disk, and the key is sealed to this machine's TPM: it opens only in a boot that was launched as
approved. In any other boot vtpmd says so in a sentence, ends, and no guest gets its TPM.

  vtpmd init          once, in a boot that is good: make the store
  vtpmd               serve guests; systemd starts it
  vtpmctl             everything else

Exit codes: 0 it was told to end; 1 something failed; 2 the command line is wrong; 3 there is no TPM, or
vtpmd init was not run; 4 this boot is not an approved one; 7 the store, or its key, was put back from an
earlier time; 8 the store, or its key, is damaged or missing; 9 another TPM, or a cleared one.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.where.Say(o.errs, "vtpmd", d.run(cmd.Context())) },
	}
	f := cmd.PersistentFlags()
	f.StringVar(&o.where.TPM, "tpm", "", `the TPM: a device, or "swtpm:" and a control socket (default: this machine's)`)
	f.DurationVar(&o.where.Wait, "tpm-wait", 10*time.Second, "how long to wait for a TPM whose driver is not ready yet, or that other programs keep busy")
	f.StringVar(&o.where.Log, "launch-log", "", "a file to read in place of this machine's launch log")
	f.StringVar(&o.where.State, "state", vtpmhost.DefaultState, "folder of the store")
	f.StringVar(&o.where.Home, "home", aem.DefaultHome, "folder of this machine's own anti-evil-maid set-up")
	d.flags(cmd)
	cmd.AddCommand(initCommand(o))
	return cmd
}
