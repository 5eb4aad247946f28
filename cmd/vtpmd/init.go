package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/internal/vtpmhost"
)

func initCommand(o *options) *cobra.Command {
	var static bool
	var ownerFile string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the store, once, in a boot that is good",
		Long: `init makes a key and a counter in this machine's TPM, and an empty store that rests on both. The key opens
in boots that were launched as this one was, and in those that this machine's own anti-evil-maid set-up
approves. Where there is a store already, nothing is touched.

It prints the store's name, which stands in what vtpmctl doctor shows. Keep it: by it you know the store.

Without a dynamic launch it refuses. --static-root chooses the weaker thing all the same: what firmware and
boot loader measured of themselves, PCRs 0 to 9. Every report and every guest is told so.`,
		Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error { return o.where.Say(o.errs, "vtpmd", o.init(static, ownerFile)) },
	}
	cmd.Flags().BoolVar(&static, "static-root", false, "rely on what firmware and boot loader measured, without a dynamic launch")
	cmd.Flags().StringVar(&ownerFile, "owner-password-file", "", "file with the TPM's owner password, - for the standard input (default: it has none, or aem-setup keeps it)")
	return cmd
}

func (o *options) init(static bool, ownerFile string) error {
	owner, err := cli.Password(ownerFile)
	if err != nil {
		return err
	}
	defer clear(owner)
	lock, err := o.where.Lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	m, err := vtpmhost.Open(o.where)
	if err != nil {
		return err
	}
	defer m.Close()
	fmt.Fprintln(o.errs, "Preparing the TPM; a slow one takes up to a minute ...")
	id, err := m.Init(static, owner)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.out, "The store %s was made.\n", id)
	if static {
		fmt.Fprintln(o.out, "It rests on the static root, not on a dynamic launch: who changes the firmware can make it measure what she likes.")
	}
	j, err := journal.Open(o.where.State)
	if err != nil {
		return err
	}
	return j.Append(journal.Entry{Kind: journal.SetUp, Text: "the store " + id.String() + " was made"})
}
