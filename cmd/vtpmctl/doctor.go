package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/internal/vtpmhost"
	"github.com/antievilmaid/aem/vtpm/admin"
)

// Row is one thing that vTPMs need, and how it is.
type Row struct {
	Name   string `json:"name"`
	State  string `json:"state"` // good, warning, bad, unknown, absent
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"`
	exit   aem.Exit
}

// The states of rows. Absent is what this machine need not have.
const (
	good    = "good"
	warning = "warning"
	bad     = "bad"
	unknown = "unknown"
	absent  = "absent"
)

// doctor looks at the machine below a root folder.
type doctor struct {
	where vtpmhost.Where
	root  string
	path  func(program string) (string, error)
	rows  []Row
}

func doctorCommand(c *control) *cobra.Command {
	d := &doctor{path: lookPath}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what vTPMs have here and what they lack, and what to do about it",
		Long: `doctor looks at everything that guests' TPMs rest on: the hardware TPM, the launch, the store and its key,
swtpm and how well it can be confined, Xen's devices and xl, the kernel's module for the host's own vTPM, the
audit log. It changes nothing. Where vtpmd runs, it is asked; else the TPM is.

Exit code 0 where nothing is bad; else that of the first bad row: 3 not possible here, 4 not an approved boot,
7, 8, 9 as vtpmd's.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows := d.examine(cmd.Context(), c.client)
			if err := c.report(rows, rowsText(rows)); err != nil {
				return err
			}
			for _, r := range rows {
				if r.State == bad {
					return cli.Done{Exit: r.exit}
				}
			}
			return nil
		},
	}
	whereFlags(cmd, &d.where)
	cmd.Flags().StringVar(&d.root, "root", "/", "root folder of the system that is looked at")
	return cmd
}

func (d *doctor) add(name, state, advice, format string, args ...any) {
	d.rows = append(d.rows, Row{name, state, fmt.Sprintf(format, args...), advice, aem.ExitNotPossible})
}

func (d *doctor) examine(ctx context.Context, client *admin.Client) []Row {
	d.rows = []Row{}
	if status, err := client.Status(ctx); err == nil {
		d.running(ctx, client, status)
	} else {
		state := bad
		if _, e := os.Stat(d.where.State); e != nil {
			state = warning // it was not set up yet, and so need not run
		}
		d.add("vtpmd", state, "systemctl start vtpmd; it says why it does not start: journalctl -u vtpmd", "%v", err)
		d.alone()
		d.escrowed()
	}
	d.swtpm()
	d.xen()
	d.proxy()
	return d.rows
}

// running tells what vtpmd knows.
func (d *doctor) running(ctx context.Context, client *admin.Client, s admin.Status) {
	d.add("vtpmd", good, "", "version %s serves %s; %d vTPMs, %d have guests", s.Version, strings.Join(s.Frontends, " and "), s.VTPMs, s.Running)
	d.add("TPM", good, "", "%s", s.TPM)
	if s.Grade == "launched" {
		d.add("launch", good, "", "%s", s.Launch)
	} else {
		d.add("launch", warning, "boot with the measured launch, and set vtpmd up anew for it", "%s: %s", s.Grade, s.Launch)
	}
	d.add("key", good, "", "that of the store %s opened in this boot, epoch %d; approved: %s", s.Root, s.Epoch, strings.Join(s.Approved, ", "))
	if s.Late != "" {
		d.add("epoch", warning, "look who uses the TPM (fuser -v /dev/tpm*), and whether the kernel shows it; vtpmd tries again by itself",
			"older copies of the store are not refused: %s", s.Late)
	}
	switch faults, err := client.Verify(ctx); {
	case s.Store != "":
		d.add("store", bad, "look at the disk and the kernel's log; vtpmd goes on by itself when the disk confirms, and has to be started anew after anything else",
			"it answers nothing, and guests whose state changes are paused: %s", s.Store)
		d.rows[len(d.rows)-1].exit = aem.ExitError
	case err != nil:
		d.add("store", unknown, "run it as root", "%v", err)
	case len(faults) > 0:
		d.add("store", bad, "vtpmctl remove it, or vtpmctl restore a backup", "%d faults, the first: %s", len(faults), faults[0].Text)
		d.rows[len(d.rows)-1].exit = aem.ExitDamaged
	default:
		d.add("store", good, "", "all of it is as it was written")
	}
	if s.Journal != "" {
		d.add("audit log", bad, "look at it: vtpmctl audit; take it as it is: vtpmctl audit --accept", "%s", s.Journal)
		d.rows[len(d.rows)-1].exit = aem.ExitDamaged
	} else {
		d.add("audit log", good, "", "it is what was written")
	}
	d.escrow(s.Escrow)
	d.confinement(s.Missing)
}

// escrow tells whether guests' TPMs outlive this machine's.
func (d *doctor) escrow(e *admin.Escrow) {
	if e == nil {
		d.add("escrow", warning, "vtpmctl escrow --to RECIPIENT FILE", "none was made: with this machine's TPM all guests' TPMs are gone, whatever backups there are")
		return
	}
	var to []string
	for _, key := range e.To {
		if len(key) > 80 { // one of age's hybrid keys has two thousand letters
			key = key[:40] + "..."
		}
		to = append(to, key)
	}
	d.add("escrow", good, "", "made %s for %s; try now and then whether it opens: vtpmctl recover, without --yes", e.At.Format(time.DateTime), strings.Join(to, ", "))
}

// confinement tells what emulators lack.
func (d *doctor) confinement(missing []string) {
	if len(missing) > 0 {
		d.add("confinement", warning, "run vtpmd as root, on a kernel with name spaces", "%s", strings.Join(missing, "; "))
		return
	}
	d.add("confinement", good, "", "each emulator has a user of its own and sees nothing else")
}

// alone looks for itself, where vtpmd does not run. It opens no store, which would move the
// TPM's counter.
func (d *doctor) alone() {
	d.where.Wait = time.Second
	m, err := vtpmhost.Open(d.where)
	if err != nil {
		d.refusal("TPM", err)
		return
	}
	defer m.Close()
	d.add("TPM", good, "", "%s", m.Device())
	switch launched, text, err := m.Launched(); {
	case err != nil:
		d.refusal("launch", err)
	case launched:
		d.add("launch", good, "", "%s", text)
	default:
		d.add("launch", bad, "boot the entry with the measured launch", "not launched: %s", text)
		d.rows[len(d.rows)-1].exit = aem.ExitMeasurements
	}
	r, err := m.OpenRoot()
	if err != nil {
		d.refusal("key", err)
		return
	}
	r.Close()
	d.add("key", good, "", "it opens in this boot")
	d.add("store", unknown, "start vtpmd, which proves it", "it was not looked at")
}

// escrowed looks into the audit log, whatever else is wrong: it is then that an escrow is needed.
func (d *doctor) escrowed() {
	j, err := journal.Open(d.where.State)
	if _, missing := os.Stat(d.where.State); missing != nil || err != nil {
		return // nothing was set up, and nothing can be escrowed
	}
	last, err := vtpmhost.LastEscrow(j)
	switch {
	case last != nil:
		d.escrow(admin.EscrowOf(last))
	case err != nil:
		d.add("escrow", unknown, "run it as root", "%v", err)
	default:
		d.escrow(nil)
	}
}

// refusal is a row for what has a sentence of its own.
func (d *doctor) refusal(name string, err error) {
	row := Row{name, bad, err.Error(), "", aem.ExitError}
	if r := vtpmhost.Refuse(err); r != nil {
		row = Row{name, bad, r.Sentence + " (" + r.Detail + ")", r.Advice, r.Exit}
	}
	if errors.Is(err, vtpmhost.ErrNotSetUp) {
		row.State = warning
	}
	d.rows = append(d.rows, row)
}

func rowsText(rows []Row) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.State, r.Name, shown(r.Text))
		if r.Advice != "" {
			fmt.Fprintf(w, "\t\t-> %s\n", r.Advice)
		}
	}
	w.Flush()
	return b.String()
}
