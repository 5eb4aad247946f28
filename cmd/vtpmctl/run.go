package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/vtpm/admin"
)

func runCommand(c *control) *cobra.Command {
	return &cobra.Command{
		Use:   "run GUEST.cfg",
		Short: "Measure a guest of Xen's into its vTPM, and start it",
		Long: `run reads a guest's configuration for xl, its kernel and its initrd, once, into memory that nobody can
change, measures that, and has xl start exactly it. The guest finds the kernel in PCR 4, the command line and
the initrd in PCR 5, the configuration in PCR 1; vtpmctl log shows it.

When the guest reboots, xl builds it of the same bytes, and it is measured again. It takes a new kernel after
vtpmctl stop and vtpmctl run, or with plain xl create and the boot loader (vtpmctl bootloader --help).`,
		Args: arguments("GUEST.cfg"),
		RunE: asking(func(ctx context.Context, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if err := c.client.Run(ctx, path, c.tell); err != nil {
				return fmt.Errorf("%s was not started: %w", args[0], err)
			}
			return c.report(map[string]string{"started": path}, "Started.")
		}),
	}
}

func stopCommand(c *control) *cobra.Command {
	patience := time.Minute
	cmd := &cobra.Command{
		Use:   "stop GUEST",
		Short: "Shut a guest of Xen's down, and wait until its vTPM is, too",
		Long: `stop asks a guest to shut down and waits. It is named by its name, its domain's number, or its vTPM's
UUID. Where it does not shut down in time, its power is cut.`,
		Args: arguments("GUEST"),
		RunE: asking(func(ctx context.Context, args []string) error {
			if err := c.client.Stop(ctx, admin.Stopping{Guest: args[0], Seconds: int(patience.Seconds())}, c.tell); err != nil {
				return err
			}
			return c.report(map[string]string{"stopped": args[0]}, "Stopped.")
		}),
	}
	cmd.Flags().DurationVar(&patience, "patience", patience, "how long it may take before its power is cut")
	return cmd
}
