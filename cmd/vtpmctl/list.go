package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/vtpm/admin"
)

func listCommand(c *control) *cobra.Command {
	var after string
	var n int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the vTPMs",
		Long: `list prints all vTPMs in the order of their UUIDs: family, who has them, how that guest's start counts, name.
The store proves the list to be complete, or the command says that it can't and fails. With --after or -n it
prints one page.`,
		Args: cli.NoArgs,
		RunE: asking(func(ctx context.Context, _ []string) error {
			var list admin.List
			var err error
			if after != "" || n > 0 {
				list, err = c.client.List(ctx, after, n)
			} else {
				list, err = c.all(ctx)
			}
			if err != nil {
				return err
			}
			if err := c.report(list, listText(list)); err != nil {
				return err
			}
			if list.Fault != "" {
				return fmt.Errorf("the list is not complete: %s", list.Fault)
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&after, "after", "", "begin after this UUID")
	cmd.Flags().IntVarP(&n, "number", "n", 0, "how many at most")
	return cmd
}

func listText(list admin.List) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, v := range list.VTPMs {
		guest, start := "-", "-"
		if v.Guest != nil {
			guest, start = v.Guest.Domain, cmp.Or(v.Guest.Start, "starting")
		}
		state := ""
		switch {
		case v.Fault != "":
			state = "REFUSED"
		case v.Guest != nil && v.Guest.Died:
			state = "DIED"
		case v.Guest != nil && v.Guest.Paused != "":
			state = "PAUSED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", v.UUID, cmp.Or(v.Family, "-"), shown(guest), start, shown(v.Name), state)
	}
	w.Flush()
	if list.Next != "" {
		fmt.Fprintf(&b, "%d of %d; more: vtpmctl list --after %s\n", len(list.VTPMs), list.Total, list.Next)
	}
	return b.String()
}

// shown is text that comes from elsewhere, for a terminal.
func shown(s string) string { return eventlog.Printable([]byte(s)) }

func showCommand(c *control) *cobra.Command {
	return &cobra.Command{
		Use:               "show VTPM",
		Short:             "Show a vTPM: its policy, its guest, how that started, why one was refused",
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
			status, err := c.client.Status(ctx)
			if err != nil {
				return err
			}
			return c.report(struct {
				admin.VTPM
				Grade string `json:"grade"`
			}{v, status.Grade}, showText(v, status))
		}),
	}
}

func showText(v admin.VTPM, host admin.Status) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, shown(fmt.Sprintf(format, args...)))
	}
	row("vTPM", "%s %s", v.UUID, v.Name)
	if v.Fault != "" {
		row("REFUSED", "%s", v.Fault)
	}
	if v.Family != "" {
		row("family", "TPM %s", v.Family)
		row("made", "%s", v.Created.Format(time.RFC3339))
		row("state", "generation %d", v.Generation)
		row("policy", "%s", policyText(v))
	}
	if v.WasLate {
		row("UNMEASURED", "it was once attached to a guest that ran already, so what was sealed then nobody vouches for")
	}
	if v.Socket != "" {
		row("for QEMU", "%s", v.Socket)
	}
	row("host", "%s: %s", host.Grade, host.Launch)
	if g := v.Guest; g == nil {
		row("guest", "none")
	} else {
		row("guest", "%s since %s, connected: %t", g.Domain, g.Since.Format(time.RFC3339), g.Connected)
		row("its start", "%s", startText(g))
		if g.Paused != "" {
			row("PAUSED", "%s", g.Paused)
		}
		if g.Died {
			row("DIED", "its emulator ended without being told to; the guest has no TPM until it starts anew")
		}
	}
	if v.Suspended != "" {
		row("suspended", "with the guest %s, which vtpmctl resume has go on; any other start drops its PCRs", shown(v.Suspended))
	}
	if v.Refused != nil {
		row("last refused", "%s: %s", v.Refused.At.Format(time.RFC3339), v.Refused.Text)
	}
	w.Flush()
	return b.String()
}

func startText(g *admin.Guest) string {
	switch {
	case g.Late:
		return "not known: the guest ran before it got its vTPM; PCRs 1, 4 and 5 are capped"
	case g.Start == "measured":
		return "measured: configuration, kernel, command line and initrd are in PCRs 1, 4 and 5"
	case g.Start == "firmware":
		return "its own firmware measures it"
	case g.Start == "unmeasured":
		return "not known: nobody measured it; PCRs 1, 4 and 5 are capped"
	}
	return "it is starting"
}

func policyText(v admin.VTPM) string {
	text := "any guest"
	if v.Policy.OnlyMeasured {
		text = "only a guest that was measured"
	}
	if len(v.Policy.Localities) > 0 {
		text += fmt.Sprintf("; localities 0 and %v", v.Policy.Localities)
	}
	if v.Policy.HostPCRs != "" {
		text += "; copies of the host's PCRs " + v.Policy.HostPCRs
	}
	return text
}
