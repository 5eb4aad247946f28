package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
)

func backupCommand(c *control) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a copy of all vTPMs",
		Long: `backup writes a copy of the store as it is now. It is encrypted as the store is: only this machine's TPM, in
an approved boot, opens it. vtpmctl restore puts it back, and says what that breaks. A file that is there already
is left alone.

With the machine's TPM gone, the backup is gone, too, where the key was not escrowed (vtpmctl escrow).`,
		Args: arguments("FILE"),
		RunE: asking(func(ctx context.Context, args []string) error {
			n, err := writeNew(args[0], func(w io.Writer) error { return c.client.Backup(ctx, w) })
			if err != nil {
				return err
			}
			return c.report(map[string]any{"backup": args[0], "bytes": n}, fmt.Sprintf("%d bytes are in %s.", n, args[0]))
		}),
	}
}

func auditCommand(c *control) *cobra.Command {
	var accept bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show what happened to the vTPMs, and whether all of it is there",
		Long: `audit prints the audit log: each vTPM that was made, started, ended, removed, each guest that was refused,
and why. Each line has the digest of the one before, and the store keeps where it ended last, so changed, missing
and made-up lines are noticed. A log that is not what was written stays so until --accept, which is written
into it.`,
		Args: cli.NoArgs,
		RunE: asking(func(ctx context.Context, _ []string) error {
			if accept {
				if err := c.client.AcceptAudit(ctx); err != nil {
					return err
				}
				return c.report(map[string]bool{"accepted": true}, "The audit log is taken as it is.")
			}
			var failed error
			err := c.client.Audit(ctx, func(e journal.Entry) {
				if c.json {
					failed = errors.Join(failed, encode(c.out, e))
				} else {
					fmt.Fprintln(c.out, e)
				}
			})
			return errors.Join(failed, err)
		}),
	}
	cmd.Flags().BoolVar(&accept, "accept", false, "take it as it is from now on, whatever was done to it")
	return cmd
}

func metricsCommand(c *control) *cobra.Command {
	return &cobra.Command{
		Use:   "metrics",
		Short: "Print the figures, in the form that Prometheus reads",
		Long: `metrics prints what GET /metrics on vtpmd's socket answers: vTPMs, those that run, commands and their latency,
refused guests, states stored, pauses, emulators that died.`,
		Args: cli.NoArgs,
		RunE: asking(func(ctx context.Context, _ []string) error { return c.client.Metrics(ctx, c.out) }),
	}
}
