package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/internal/cli"
)

func removeCommand(c *control) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "remove VTPM",
		Short: "Destroy a vTPM that no guest uses",
		Long: `remove destroys a vTPM: its keys, and with them all that its guest sealed to it, such as the key of an
encrypted disk. Only a backup has it then. It asks first, and --yes answers.`,
		Args:              arguments("VTPM"),
		ValidArgsFunction: c.complete,
		RunE: asking(func(ctx context.Context, args []string) error {
			u, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			v, err := c.client.Show(ctx, u)
			if err != nil {
				return err
			}
			if !yes {
				fmt.Fprintf(c.errs, "Destroy the vTPM %s %q, and all that was sealed with it? Type its UUID's first eight digits: ", u, shown(v.Name))
				line, _ := bufio.NewReader(c.in).ReadString('\n')
				if strings.TrimSpace(line) != u[:8] {
					return errors.New("nothing was removed")
				}
			}
			if err := c.client.Remove(ctx, u); err != nil {
				return err
			}
			return c.report(map[string]string{"removed": u}, "Removed "+u+".")
		}),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func approveCommand(c *control) *cobra.Command {
	return &cobra.Command{
		Use:   "approve",
		Short: "Have the store open in the boots that this machine's own set-up approves",
		Long: `approve takes the boots that aem-setup approved on this machine, and seals the store's key to them and to no
others. Run it after aem-setup approve, before the restart: after an update of the host, the store would stay
closed otherwise. The boot that runs now stays approved where aem-setup does not know it.`,
		Args: cli.NoArgs,
		RunE: asking(func(ctx context.Context, _ []string) error {
			a, err := c.client.Approve(ctx)
			if err != nil {
				return err
			}
			return c.report(a, fmt.Sprintf("The store opened in:\n  %s\nIt opens in:\n  %s", shownList(a.Before), shownList(a.After)))
		}),
	}
}

func shownList(list []string) string {
	var shownOnes []string
	for _, s := range list {
		shownOnes = append(shownOnes, shown(s))
	}
	return strings.Join(shownOnes, "\n  ")
}
