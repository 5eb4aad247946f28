package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/internal/vtpmhost"
)

// broken is what restoring breaks, whatever is restored.
const broken = `How old the backup is, nobody can say. Each guest may find itself in the past: its counters lower, passwords
that it changed old again, keys that it destroyed back. vTPMs that were made since then are gone. If the
backup is also used on another machine, its guests' TPMs exist twice.`

func restoreCommand(o *options) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "restore BACKUP",
		Short: "Put a backup in the store's place, while vtpmd does not run",
		Long: `restore proves every vTPM of a backup (vtpmctl backup), or of an older store, and makes a new store of them
that this machine's TPM accepts as the newest. The store that was there is moved aside, not removed. Where
one vTPM of the backup can't be proved, nothing is restored.

` + broken,
		Args: cobra.MatchAll(func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.Usage("one backup is needed")
			}
			return nil
		}),
		RunE: func(_ *cobra.Command, args []string) error {
			if !yes {
				fmt.Fprintln(o.errs, broken)
				return cli.Usage("to do it all the same, say --yes")
			}
			return o.say(o.restore(args[0]))
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it, knowing what it breaks")
	return cmd
}

func (o *options) restore(from string) error {
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
	aside, err := m.Restore(from)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.out, "%s was restored.\n", from)
	if aside != "" {
		fmt.Fprintf(o.out, "The store that was there is now %s; nothing opens it any more but another restore.\n", aside)
	}
	j, err := journal.Open(o.where.State)
	if err != nil {
		return err
	}
	return j.Append(journal.Entry{Kind: "restored", Text: "a backup took the store's place", Details: map[string]string{"from": from, "aside": aside}})
}
