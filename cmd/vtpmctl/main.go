// Command vtpmctl is how the owner of a machine's guests speaks to vtpmd.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/vtpmhost"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/admin"
)

func main() { cli.Main(newCommand()) }

// control is what all commands share.
type control struct {
	socket string
	json   bool
	in     io.Reader
	out    io.Writer
	errs   io.Writer

	client *admin.Client
}

func newCommand() *cobra.Command {
	c := &control{in: os.Stdin, out: os.Stdout, errs: os.Stderr}
	cmd := &cobra.Command{
		Use:   "vtpmctl",
		Short: "Look after guests' TPMs",
		Long: `vtpmctl speaks to vtpmd, which gives this machine's guests TPMs of their own. Root may do everything,
members of the group that vtpmd was told of may look (list, show, log, metrics).

  vtpmctl doctor                       what is there, what is missing, what to do about it
  vtpmctl create --name web            make a vTPM; it prints the UUID for the guest's configuration
  vtpmctl run /etc/xen/web.cfg         measure a guest of Xen's into its vTPM, and start it
  vtpmctl suspend web FILE             put it into a file; vtpmctl resume has it go on, with its PCRs
  vtpmctl show web                     who has it, how the guest started
  vtpmctl approve                      after aem-setup approve, before the host's restart
  vtpmctl backup FILE                  a copy of all of them; vtpmctl restore puts it back
  vtpmctl escrow --to RECIPIENT FILE   what opens them on another machine, when this one is dead

A vTPM is named by its UUID, or by its name where only one has it.

Exit codes: 0 done; 1 something failed; 2 the command line is wrong; 3 vtpmd does not answer, or this
machine can't do it; 4 this boot is not an approved one, or not launched; 7 the store, or its key, was put back
from an earlier time; 8 it is damaged or missing; 9 another TPM, or a cleared one.`,
		PersistentPreRun: func(*cobra.Command, []string) { c.client = admin.NewClient(c.socket) },
	}
	f := cmd.PersistentFlags()
	f.StringVar(&c.socket, "socket", admin.DefaultSocket, "vtpmd's socket")
	f.BoolVar(&c.json, "json", false, "print reports as JSON")
	cmd.AddCommand(createCommand(c), listCommand(c), showCommand(c), logCommand(c), runCommand(c), stopCommand(c), suspendCommand(c), resumeCommand(c), removeCommand(c),
		importCommand(c), approveCommand(c), backupCommand(c), escrowCommand(c), restoreCommand(c), recoverCommand(c), auditCommand(c), metricsCommand(c), doctorCommand(c), bootloaderCommand(c))
	return cmd
}

// whereFlags say where the store is, for commands that look at it themselves.
func whereFlags(cmd *cobra.Command, w *vtpmhost.Where) {
	w.Wait = 10 * time.Second
	f := cmd.Flags()
	f.StringVar(&w.TPM, "tpm", "", "the TPM, as vtpmd's --tpm, where vtpmd does not run")
	f.StringVar(&w.Log, "launch-log", "", "a file to read in place of this machine's launch log")
	f.StringVar(&w.State, "state", vtpmhost.DefaultState, "folder of the store")
	f.StringVar(&w.Home, "home", aem.DefaultHome, "folder of this machine's own anti-evil-maid set-up")
}

// arguments demands a number of arguments, and names them where there are others.
func arguments(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) > len(names):
			return cli.Usage("%q is one argument too many", args[len(names)])
		case len(args) < len(names):
			return cli.Usage("%s is missing", strings.Join(names[len(args):], " "))
		}
		return nil
	}
}

// asking makes what cobra runs of a command; what vtpmd's absence means is the exit code's to say.
func asking(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := f(cmd.Context(), args)
		if errors.Is(err, admin.ErrNoDaemon) {
			return fmt.Errorf("%w%w", err, quiet{aem.ErrNotPossible})
		}
		return err
	}
}

// quiet is an error that says nothing.
type quiet struct{ error }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.error }

// report prints a report, or a sentence.
func (c *control) report(v any, text string) error {
	if c.json {
		e := json.NewEncoder(c.out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	_, err := fmt.Fprintln(c.out, strings.TrimRight(text, "\n"))
	return err
}

// tell says what is under way.
func (c *control) tell(text string) { fmt.Fprintln(c.errs, text) }

// all asks for the whole list, page by page.
func (c *control) all(ctx context.Context) (admin.List, error) {
	var all admin.List
	for after := ""; ; {
		page, err := c.client.List(ctx, after, 0)
		if err != nil {
			return all, err
		}
		page.VTPMs = append(all.VTPMs, page.VTPMs...)
		if all.Fault != "" {
			page.Fault = all.Fault
		}
		if all, after = page, page.Next; after == "" {
			return all, nil
		}
	}
}

// find is the UUID of a vTPM that is named by it, or by its name.
func (c *control) find(ctx context.Context, name string) (string, error) {
	if u, err := vtpm.ParseUUID(name); err == nil {
		return u.String(), nil
	}
	list, err := c.all(ctx)
	if err != nil {
		return "", err
	}
	found := ""
	for _, v := range list.VTPMs {
		switch {
		case v.Name != name:
		case found != "":
			return "", fmt.Errorf("two vTPMs are called %q: %s and %s; name one by its UUID", name, found, v.UUID)
		default:
			found = v.UUID
		}
	}
	if found == "" {
		return "", fmt.Errorf("no vTPM is called %q", name)
	}
	return found, nil
}

// complete offers the UUIDs of the vTPMs that there are.
func (c *control) complete(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := admin.NewClient(c.socket).List(cmd.Context(), "", 0)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var all []string
	for _, v := range list.VTPMs {
		all = append(all, v.UUID+"\t"+v.Name)
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}
