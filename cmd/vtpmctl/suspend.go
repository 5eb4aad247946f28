package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/vtpm/admin"
)

func suspendCommand(c *control) *cobra.Command {
	return &cobra.Command{
		Use:   "suspend GUEST FILE",
		Short: "Put a guest of Xen's into a file, with its PCRs",
		Long: `suspend saves a guest into a file, as xl save does, and keeps the state of its vTPM for exactly these bytes.
vtpmctl resume has both go on. The guest is named by its name, its domain's number, or its vTPM's UUID.

The file holds the guest's memory, and so its secrets, in clear. A file that is there already is left alone. If
something fails the guest goes on; xl then does not look after it any more, and does not build it again when it
reboots.

The guest can be resumed once, and only until it is started in any other way: vtpmctl run, xl create and xl restore
give it fresh PCRs, and the file has none any more.`,
		Args:              arguments("GUEST", "FILE"),
		ValidArgsFunction: c.completeThenFile,
		RunE: asking(func(ctx context.Context, args []string) error {
			path, err := filepath.Abs(args[1])
			if err != nil {
				return err
			}
			if err := c.client.Suspend(ctx, admin.Suspending{Guest: args[0], Image: path}, c.tell); err != nil {
				return err
			}
			return c.report(map[string]string{"suspended": args[0], "image": path}, "Suspended.")
		}),
	}
}

func resumeCommand(c *control) *cobra.Command {
	return &cobra.Command{
		Use:   "resume VTPM FILE",
		Short: "Have a guest of Xen's go on that was suspended",
		Long: `resume has xl build a guest of the file that vtpmctl suspend wrote. The guest finds the PCRs that it had, if
every byte is as it was written, if it was not started since, and if the host was launched as it was then.
Otherwise it is destroyed before it runs.

The file stays, and is of no more use. A guest that vtpmctl run had started does not restart by itself when it
reboots after this: vtpmctl run starts it.`,
		Args:              arguments("VTPM", "FILE"),
		ValidArgsFunction: c.completeThenFile,
		RunE: asking(func(ctx context.Context, args []string) error {
			u, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			path, err := filepath.Abs(args[1])
			if err != nil {
				return err
			}
			if err := c.client.Resume(ctx, admin.Resuming{VTPM: u, Image: path}, c.tell); err != nil {
				return fmt.Errorf("%s was not resumed: %w", args[0], err)
			}
			return c.report(map[string]string{"resumed": u, "image": path}, "Resumed.")
		}),
	}
}

// completeThenFile offers vTPMs, and then files.
func (c *control) completeThenFile(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return c.complete(cmd, args, typed)
}
