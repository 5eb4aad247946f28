package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/tpm"
)

// starter hands a stage to the kernel and starts it. Tests have one that starts nothing.
type starter struct {
	load    func(*drtm.Stage, []byte) error
	execute func() error
}

// launchOptions are the flags of aem launch.
type launchOptions struct {
	describe, entry, boot, root string
	dryRun, powerOff, asJSON    bool
	policy                      policyOptions
}

func launchCommand(where *aem.Where, start starter) *cobra.Command {
	o := &launchOptions{}
	cmd := &cobra.Command{
		Use:   "launch",
		Short: "Load, measure and start the real system, from the Linux that was launched",
		Long: `launch is for a machine whose firmware launches a small Linux. From there it starts the
real system, Linux or Xen, without a gap: each file is read once into memory, measured
with its command line into PCRs 17 (code) and 18 (data) at locality 2, in every bank,
and those bytes are started. The launch's log goes on to the next system, where aem log
finds it.

What to start is an entry of GRUB's menu (--entry), or a file in JSON (--describe) that
names hypervisor, kernel, initrd and modules with their command lines, and what to measure
beside them: files, block devices, the CPU, the firmware's tables.

Without a dynamic launch nothing is measured and nothing started: exit code 3. A log that
does not lead to what the TPM holds: exit code 4. After every failure but the first of
these, PCRs 17 and 18 are capped, so that nothing opens in this boot; where the TPM did not
take even that, the machine must be switched off, which --power-off does.

With --policy-key nothing is started that the policy signed with that key does not approve
of: exit code 4. The key and the answer are measured, too. --launch-unapproved starts it
all the same, measured as not approved. aem-setup policy makes keys and policies.

--dry-run prints what would be measured, and changes nothing.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("describe") == cmd.Flags().Changed("entry") {
				return cli.Usage("say what to start: give --describe or --entry")
			}
			if err := o.policy.check(); err != nil {
				return err
			}
			return o.run(*where, start)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.describe, "describe", "", "a file that describes what to start")
	f.StringVar(&o.entry, "entry", "", "GRUB's menu entry to start: a title, an identifier, a number, or default")
	f.StringVar(&o.boot, "boot", "", "the folder that GRUB reads, for --entry (default: this machine's)")
	f.StringVar(&o.root, "root", "/", "the folder below which the description's files are")
	o.policy.flags(f)
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be measured, and change nothing")
	f.BoolVar(&o.powerOff, "power-off", false, "switch the machine off where nothing was started")
	f.BoolVar(&o.asJSON, "json", false, "print it as JSON")
	return cmd
}

// machine is this machine, as launch sees it.
func (o *launchOptions) machine(where aem.Where, start starter) launch.Machine {
	log := func() (*aem.LaunchLog, error) { return aem.FindOrReadLog(where.Log) }
	return launch.Machine{
		Open:    func() (*launch.TPM, error) { return stage1.OpenTPM(where.TPM, where.Wait) },
		Log:     func() (*eventlog.Log, error) { return wholeLog(log()) },
		Stage:   func() (*drtm.Stage, error) { return o.stage(log) },
		Demand:  o.policy.demand(),
		Load:    start.load,
		Execute: start.execute,
	}
}

func (o *launchOptions) run(where aem.Where, start starter) error {
	m := o.machine(where, start)
	if o.dryRun {
		m.Open = func() (*launch.TPM, error) { return stage1.LookAtTPM(where.TPM, where.Wait) }
		p, err := m.Plan()
		if err != nil {
			return err
		}
		return o.show(p)
	}
	defer stage1.Undisturbed()()
	err := o.showFailure(m.Launch())
	if o.powerOff {
		unix.Sync()
		if off := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); off != nil {
			return errors.Join(err, fmt.Errorf("switch the machine off: %w", off))
		}
	}
	return err
}

// wholeLog refuses a log that breaks off: what follows would not stand behind its end.
func wholeLog(l *aem.LaunchLog, err error) (*eventlog.Log, error) {
	if err != nil {
		return nil, err
	}
	if l.Broken != nil {
		return nil, fmt.Errorf("the log of the launch (%s) is damaged: %w", l.Source, l.Broken)
	}
	return l.Log, nil
}

// stage reads what to start.
func (o *launchOptions) stage(log func() (*aem.LaunchLog, error)) (*drtm.Stage, error) {
	if o.entry != "" {
		return o.menuEntry(log)
	}
	return stage1.ReadDescribed(o.describe, o.root)
}

// menuEntry reads what GRUB would load.
func (o *launchOptions) menuEntry(log func() (*aem.LaunchLog, error)) (*drtm.Stage, error) {
	menu, err := aem.BootMenu(o.boot)
	if err != nil {
		return nil, err
	}
	found, err := wholeLog(log())
	if err != nil {
		return nil, err
	}
	return aem.MenuStage(menu, o.entry, found)
}

// launchPlan is what --dry-run --json prints.
type launchPlan struct {
	Kind         string             `json:"kind"`
	Launch       string             `json:"launch"` // verified, not launched, unproven
	Reason       string             `json:"reason,omitempty"`
	Policy       string             `json:"policy,omitempty"`  // approved, not approved
	Refusal      string             `json:"refusal,omitempty"` // why not
	Measurements []planned          `json:"measurements"`
	PCRs         map[string]pcrList `json:"pcrs,omitempty"` // afterwards, of 17 and 18
}

type planned struct {
	PCR     uint32            `json:"pcr"`
	What    string            `json:"what"`
	Text    string            `json:"text"`
	Digests map[string]string `json:"digests"`
}

func (o *launchOptions) show(p *launch.Plan) error {
	l := launchPlan{Kind: p.Stage.Kind.String(), Launch: p.Launch.State.String(), Reason: p.Launch.Reason}
	if p.Approval != nil {
		l.Policy = "approved"
	}
	if p.Refusal != nil {
		l.Policy, l.Refusal = "not approved", p.Refusal.Error()
	}
	for _, m := range p.Measurements {
		x := planned{uint32(m.PCR), m.Role.String(), eventlog.Printable(m.Data), map[string]string{}}
		for _, d := range m.Digests {
			x.Digests[d.Alg.String()] = d.Digest.String()
		}
		l.Measurements = append(l.Measurements, x)
	}
	if p.PCRs != nil {
		l.PCRs = map[string]pcrList{}
	}
	for i := range p.PCRs {
		list := pcrList{}
		for _, r := range []tpm.PCR{tpm.PCRCode, tpm.PCRData} {
			list[uint32(r)] = p.PCRs[i].Values[r].String()
		}
		l.PCRs[p.PCRs[i].Alg.String()] = list
	}
	var err error
	if o.asJSON {
		err = json.NewEncoder(os.Stdout).Encode(l)
	} else {
		err = l.print(os.Stdout, o.policy.anyway)
	}
	exit := exitOfState(p.Launch.State)
	if exit == aem.ExitOK && p.Refusal != nil && !o.policy.anyway {
		exit = aem.ExitMeasurements
	}
	if err == nil && exit != aem.ExitOK {
		return cli.Done{Exit: exit}
	}
	return err
}

func exitOfState(s drtm.State) aem.Exit {
	switch s {
	case drtm.Verified:
		return aem.ExitOK
	case drtm.NotLaunched:
		return aem.ExitNotPossible
	}
	return aem.ExitMeasurements
}

func (l *launchPlan) print(out io.Writer, anyway bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PCR\tWHAT\tDIGEST\tTEXT")
	for _, m := range l.Measurements {
		digest := m.Digests[tpm.SHA256.String()]
		if digest == "" {
			digest = m.Digests[tpm.SHA1.String()]
		}
		fmt.Fprintf(w, "%d\t%s\t%.12s\t%.44s\n", m.PCR, m.What, digest, m.Text)
	}
	if l.Refusal != "" && !anyway {
		fmt.Fprintf(w, "\nNothing would be started: %s.\n", l.Refusal)
		return w.Flush()
	}
	if l.Refusal != "" {
		fmt.Fprintf(w, "\nIt would be launched all the same: %s.\n", l.Refusal)
	}
	if l.Reason != "" {
		fmt.Fprintf(w, "\nNothing would be started. The launch is %s: %s.\n", l.Launch, l.Reason)
		return w.Flush()
	}
	fmt.Fprintln(w, "\nThe PCRs would then be:")
	for _, bank := range sortedBanks(l.PCRs) {
		for _, r := range []uint32{uint32(tpm.PCRCode), uint32(tpm.PCRData)} {
			fmt.Fprintf(w, "  PCR %d %s %s\n", r, bank, l.PCRs[bank][r])
		}
	}
	return w.Flush()
}

// launchFailure is what --json prints where nothing was started.
type launchFailure struct {
	Step     launch.Step `json:"step"`
	Error    string      `json:"error"`
	Capped   bool        `json:"capped"`
	CapError string      `json:"cap_error,omitempty"`
	Exit     aem.Exit    `json:"exit"`
}

// showFailure says why nothing was started, and with which code the program ends.
func (o *launchOptions) showFailure(err error) error {
	var f *launch.Failure
	if !errors.As(err, &f) {
		return err
	}
	exit := aem.ExitError
	switch {
	case errors.Is(err, launch.ErrUnproven), errors.Is(err, launch.ErrLost), errors.Is(err, launch.ErrNotApproved):
		exit = aem.ExitMeasurements
	case errors.Is(err, launch.ErrNotLaunched), errors.Is(err, aem.ErrNotPossible), errors.Is(err, stage1.ErrUEFI), errors.Is(err, stage1.ErrLocality):
		exit = aem.ExitNotPossible
	}
	if !o.asJSON {
		fmt.Fprintf(os.Stderr, "aem launch: %v\n", f)
		return cli.Done{Exit: exit}
	}
	x := launchFailure{Step: f.Step, Error: f.Err.Error(), Capped: f.Capped, Exit: exit}
	if f.CapErr != nil {
		x.CapError = f.CapErr.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(x); err != nil {
		return err
	}
	return cli.Done{Exit: exit}
}
