package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/bootside"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/internal/stage1/config"
	"github.com/antievilmaid/aem/tpm"
)

// files are the files and lines of a launch, given by hand.
type files struct {
	target, image, line, loader string
	initrds, modules            []string
}

// predictOptions are the flags of aem predict.
type predictOptions struct {
	now, was             files
	entry, booted, boot  string
	good, home, diff     string
	simulated            string
	then, thenEntry      string
	thenRoot             string
	policy               policyOptions
	version              string
	banks                []string
	keep, score, asJSON  bool
	entryGiven, wasGiven bool
}

func predictCommand(where *aem.Where) *cobra.Command {
	o := &predictOptions{}
	cmd := &cobra.Command{
		Use:   "predict",
		Short: "Compute what the next boot will measure",
		Long: `predict computes the events and the PCRs of the next launch, in every bank, from the log
of a good one. What changes with the files is computed anew; how a launch hashes each
file is learned from the good one, so its files, or its boot entry, must be at hand
with --was-..., or --booted. What belongs to the machine and its firmware is kept.
A PCR that can't be fully explained is not predicted, and the event that stands in the
way is named: exit code 3.

The next boot is an entry of GRUB's menu (--entry; the default entry unless files are
given), or files by hand: --kernel is what is launched, which is Xen or tboot with
--target; these get their files with --module.

The good log is the one that aem-setup seal kept, or --good. --simulated computes what
drtmsim makes of the files, without a good log.

Where the initramfs is that of a stage 1 (aem-setup stage1 build), what stage 1 will start
is computed, too: from the disks that it mounts, where this system has them mounted, or
below --then-root. For a Linux that runs aem launch in another way --then or --then-entry
say what that starts: a launch description, or an entry of GRUB's menu. --diff shows what will be different from a
log: exit code 4. --keep remembers the prediction; after the boot, --score says how much
of it was right.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.entryGiven = cmd.Flags().Changed("entry")
			o.wasGiven = o.was.image != "" || o.booted != ""
			return predict(*where, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.entry, "entry", "default", "GRUB's menu entry: a title, an identifier, a number, or default")
	f.StringVar(&o.booted, "booted", "", "the menu entry that the good launch booted")
	f.StringVar(&o.boot, "boot", "", "the folder that GRUB reads (default: this machine's)")
	f.StringVar(&o.good, "good", "", "log of a good launch (default: the one that aem-setup seal kept)")
	f.StringVar(&o.home, "home", aem.DefaultHome, "the folder of this machine's setup")
	f.StringVar(&o.diff, "diff", "", "a log to compare the prediction with; \"good\" for the good one")
	f.StringVar(&o.simulated, "simulated", "", "compute drtmsim's launch, by txt or skinit")
	f.StringVar(&o.version, "family", "2.0", "the TPM's family, with --simulated: 1.2 or 2.0")
	f.StringSliceVar(&o.banks, "banks", []string{"sha256"}, "the TPM's banks, with --simulated")
	f.StringVar(&o.then, "then", "", "what aem launch then starts: its description")
	f.StringVar(&o.thenEntry, "then-entry", "", "what aem launch then starts: an entry of GRUB's menu")
	f.StringVar(&o.thenRoot, "then-root", "", "the folder that is the root folder of what runs aem launch (default: this system's disks)")
	o.policy.flags(f)
	f.BoolVar(&o.keep, "keep", false, "remember the prediction")
	f.BoolVar(&o.score, "score", false, "compare the prediction that was kept with this boot")
	f.BoolVar(&o.asJSON, "json", false, "print it as JSON")
	for _, g := range []struct {
		prefix, what string
		*files
	}{{"", "of the next boot", &o.now}, {"was-", "of the good launch", &o.was}} {
		f.StringVar(&g.image, g.prefix+"kernel", "", "kernel, Xen or tboot "+g.what)
		f.StringVar(&g.line, g.prefix+"append", "", "its command line")
		f.StringVar(&g.loader, g.prefix+"loader", "", "SINIT module or Secure Loader Block "+g.what)
		f.StringArrayVar(&g.initrds, g.prefix+"initrd", nil, "initramfs "+g.what+"; several are joined")
		f.StringArrayVar(&g.modules, g.prefix+"module", nil, `a module of Xen or tboot, in order: "FILE COMMAND LINE"`)
	}
	f.StringVar(&o.now.target, "target", "linux", "what is launched: linux, xen (by Multiboot 2), xen-efi or tboot")
	return cmd
}

// prediction is what --json prints.
type prediction struct {
	Events  []predictedEvent   `json:"events"`
	PCRs    map[string]pcrList `json:"pcrs"`
	Assumed bool               `json:"assumed,omitempty"` // some form was not learned from the good launch
	Diff    *difference        `json:"diff,omitempty"`
}

type predictedEvent struct {
	PCR     uint32            `json:"pcr"`
	What    string            `json:"what"`
	How     string            `json:"how"`
	From    string            `json:"from,omitempty"`
	Changed bool              `json:"changed"`
	Digests map[string]string `json:"digests"`
}

func predict(where aem.Where, o *predictOptions) error {
	home := aem.OpenHome(o.home)
	if o.then != "" && o.thenEntry != "" {
		return cli.Usage("--then and --then-entry exclude each other")
	}
	if o.policy.given() && o.then == "" && o.thenEntry == "" {
		return cli.Usage("a policy belongs to what aem launch starts, which --then or --then-entry names; a stage 1 brings its own")
	}
	if err := o.policy.check(); err != nil {
		return err
	}
	if o.score {
		return score(where, home, o.asJSON)
	}
	good, err := o.goodLog(home)
	if err != nil {
		return err
	}
	forecast, err := o.forecast(good)
	if err != nil {
		return err
	}
	if o.keep {
		if err := home.KeepPrediction(forecast); err != nil {
			return err
		}
	}
	p := newPrediction(forecast)
	if o.diff != "" {
		base := good
		if o.diff != "good" {
			if base, err = aem.ReadLog(o.diff); err != nil {
				return err
			}
		}
		if base == nil {
			return cli.Usage("there is no good log to compare with; give --diff a file")
		}
		p.Diff = newLogDifference(base, &aem.LaunchLog{Log: forecast.Log, Source: "the prediction"})
	}
	if o.asJSON {
		err = json.NewEncoder(os.Stdout).Encode(p)
	} else {
		err = p.print(os.Stdout)
	}
	if err == nil && p.Diff != nil && !p.Diff.Same {
		return cli.Done{Exit: aem.ExitMeasurements}
	}
	return err
}

// goodLog is the log to start from; none is needed for a simulated launch.
func (o *predictOptions) goodLog(home aem.Home) (*aem.LaunchLog, error) {
	if o.good != "" {
		return aem.ReadLog(o.good)
	}
	good, err := home.GoodLog()
	if errors.Is(err, aem.ErrNoGoodLog) && o.simulated != "" {
		return nil, nil
	}
	return good, err
}

func (o *predictOptions) forecast(good *aem.LaunchLog) (*drtm.Forecast, error) {
	if good != nil && good.Broken != nil {
		return nil, fmt.Errorf("the good log in %s is damaged, and nothing can be computed from it: %w", good.Source, good.Broken)
	}
	var log *eventlog.Log
	if good != nil {
		log = good.Log
	}
	now, err := o.next(log)
	if err != nil {
		return nil, err
	}
	chain, err := o.chain(now, log)
	if err != nil {
		return nil, err
	}
	if o.simulated != "" {
		return o.simulate(now, chain)
	}
	var was *drtm.Boot
	switch {
	case o.booted != "":
		was, err = o.fromMenu(o.booted, log)
	case o.was.image != "":
		o.was.target = o.now.target
		was, err = o.was.read()
	}
	if err != nil {
		return nil, err
	}
	return aem.Predict(good, was, now, chain)
}

// next is the next boot, by hand or from GRUB's menu.
func (o *predictOptions) next(good *eventlog.Log) (*drtm.Boot, error) {
	switch {
	case o.now.image != "" && o.entryGiven:
		return nil, cli.Usage("--kernel and --entry exclude each other")
	case o.now.image != "":
		return o.now.read()
	}
	return o.fromMenu(o.entry, good)
}

func (o *predictOptions) fromMenu(name string, good *eventlog.Log) (*drtm.Boot, error) {
	menu, err := aem.BootMenu(o.boot)
	if err != nil {
		return nil, err
	}
	e, err := menu.Find(name)
	if err != nil {
		return nil, fmt.Errorf("look for the menu entry: %w", err)
	}
	if notice := bootside.LaunchNotice("/", e); notice != "" {
		fmt.Fprintln(os.Stderr, notice)
	}
	return aem.BootOf(menu, e, good)
}

func (o *predictOptions) simulate(now *drtm.Boot, chain *aem.Chain) (*drtm.Forecast, error) {
	p, err := drtm.ParsePlatform(o.simulated)
	if err != nil {
		return nil, cli.UsageError{Err: err}
	}
	version := tpm.V20
	algs := []tpm.Alg{tpm.SHA1}
	switch o.version {
	case "1.2":
		version = tpm.V12
	case "2.0":
		algs = nil
		for _, name := range o.banks {
			a, err := tpm.ParseAlg(name)
			if err != nil {
				return nil, cli.UsageError{Err: err}
			}
			algs = append(algs, a)
		}
	default:
		return nil, cli.Usage("%q is no family of TPMs; there are 1.2 and 2.0", o.version)
	}
	if now.Loader == nil {
		return nil, cli.Usage("--loader is needed: the file that drtmsim was given, or wrote with drtmsim loader")
	}
	return aem.PredictSimulated(p, version, algs, now, chain)
}

// chain is what the launched Linux starts, as flags say it or its stage 1 was told; nil
// where it starts nothing.
func (o *predictOptions) chain(now *drtm.Boot, good *eventlog.Log) (*aem.Chain, error) {
	c := &aem.Chain{}
	var err error
	switch {
	case o.then != "":
		c.Stage, err = stage1.ReadDescribed(o.then, cmp.Or(o.thenRoot, "/"))
	case o.thenEntry != "":
		c.Stage, err = o.thenStage(good)
	default:
		return o.told(now, good)
	}
	if err != nil {
		return nil, err
	}
	if good != nil {
		c.Stage.KeepFacts(good)
	}
	if demand := o.policy.demand(); demand != nil {
		c.Approval, err = demand.Approval(c.Stage)
	}
	return c, err
}

// thenStage reads an entry of the menu on the file system that is /boot then.
func (o *predictOptions) thenStage(good *eventlog.Log) (*drtm.Stage, error) {
	folder := ""
	if o.thenRoot != "" {
		folder = filepath.Join(o.thenRoot, config.BootFolder)
	}
	menu, err := aem.BootMenu(folder)
	if err != nil {
		return nil, err
	}
	return aem.MenuStage(menu, o.thenEntry, good)
}

// told is what the stage 1 in the launched initramfs was told.
func (o *predictOptions) told(now *drtm.Boot, good *eventlog.Log) (*aem.Chain, error) {
	var where aem.Mounted
	if o.thenRoot != "" {
		where = func(_, folder string) (string, error) { return filepath.Join(o.thenRoot, folder), nil }
	}
	c, err := aem.ChainOf(now, good, where, time.Now)
	if err != nil {
		return nil, fmt.Errorf("compute what stage 1 would start: %w", err)
	}
	if c != nil && c.Refusal != nil {
		fmt.Fprintf(os.Stderr, "aem: it is launched all the same: %v\n", c.Refusal)
	}
	return c, nil
}

// read reads files that were given by hand.
func (g *files) read() (*drtm.Boot, error) {
	kind, err := drtm.ParseKind(g.target)
	if err != nil {
		return nil, cli.UsageError{Err: err}
	}
	b := &drtm.Boot{Kind: kind, Line: g.line}
	read := func(path string) []byte {
		content, e := os.ReadFile(path)
		err = errors.Join(err, e)
		return content
	}
	if g.loader != "" {
		b.Loader = read(g.loader)
	}
	b.Image = read(g.image)
	for i, path := range g.initrds {
		b.Initrd = append(b.Initrd, read(path)...)
		for i < len(g.initrds)-1 && len(b.Initrd)%4 != 0 {
			b.Initrd = append(b.Initrd, 0) // as boot loaders join them
		}
	}
	for _, m := range g.modules {
		path, line, _ := strings.Cut(m, " ")
		b.Modules = append(b.Modules, drtm.Module{Content: read(path), Line: line})
	}
	if err != nil {
		return nil, fmt.Errorf("read the files to launch: %w", err)
	}
	return b, nil
}

func newPrediction(f *drtm.Forecast) *prediction {
	p := &prediction{PCRs: map[string]pcrList{}}
	var used tpm.PCRs
	for _, s := range f.Steps {
		e := &f.Log.Events[s.Event]
		used |= tpm.PCRSet(e.PCR)
		x := predictedEvent{uint32(e.PCR), s.Role.String(), s.How.String(), s.Thing, s.Changed, map[string]string{}}
		if s.Form != "" {
			x.From += ", " + s.Form
		}
		for _, d := range e.Digests {
			x.Digests[d.Alg.String()] = d.Digest.String()
		}
		p.Assumed = p.Assumed || s.How == drtm.Assumed
		p.Events = append(p.Events, x)
	}
	banks := f.PCRs()
	for i := range banks {
		list := pcrList{}
		for r := range used.All() {
			list[uint32(r)] = banks[i].Values[r].String()
		}
		p.PCRs[banks[i].Alg.String()] = list
	}
	return p
}

func (p *prediction) print(out io.Writer) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PCR\tWHAT\tHOW\tDIGEST\tFROM")
	for _, e := range p.Events {
		how := e.How
		if e.Changed {
			how += " *"
		}
		digest := e.Digests[tpm.SHA256.String()]
		if digest == "" {
			digest = e.Digests[tpm.SHA1.String()]
		}
		fmt.Fprintf(w, "%d\t%.28s\t%s\t%.12s\t%.24s\n", e.PCR, e.What, how, digest, e.From)
	}
	w.Flush()
	fmt.Fprintln(&b, "\n* differs from the good launch. The next boot's PCRs will be:")
	for _, bank := range sortedBanks(p.PCRs) {
		for r := range uint32(tpm.NumPCRs) {
			if v, ok := p.PCRs[bank][r]; ok {
				fmt.Fprintf(&b, "  PCR %-2d %-6s %s\n", r, bank, v)
			}
		}
	}
	if p.Assumed {
		fmt.Fprintln(&b, "\nAssumed: nothing confirms in which form this machine hashes these files. Name the\nfiles of the good launch with --was-kernel and the like, or --booted, to be sure.")
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return err
	}
	if p.Diff == nil {
		return nil
	}
	fmt.Fprintln(out)
	return p.Diff.print(out)
}

// sortedBanks lists banks in the order of their strength.
func sortedBanks(m map[string]pcrList) []string {
	var list []string
	for _, a := range []tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512} {
		if _, ok := m[a.String()]; ok {
			list = append(list, a.String())
		}
	}
	return list
}

// scoreReport is what --score --json prints.
type scoreReport struct {
	Events int         `json:"predicted"`
	Right  int         `json:"right"`
	Diff   *difference `json:"diff"`
}

func score(where aem.Where, home aem.Home, asJSON bool) error {
	actual, err := aem.FindOrReadLog(where.Log)
	if err != nil {
		return err
	}
	if len(actual.Log.Events) == 0 {
		return fmt.Errorf("this boot left no launch log to compare with: %w", aem.ErrNotPossible)
	}
	s, kept, err := home.Score(actual)
	if err != nil {
		return err
	}
	r := scoreReport{s.Events, s.Right, newLogDifference(kept, actual)}
	if asJSON {
		err = json.NewEncoder(os.Stdout).Encode(r)
	} else {
		fmt.Printf("Predicted %d events, %d right.\n", r.Events, r.Right)
		if !r.Diff.Same {
			err = r.Diff.print(os.Stdout)
		}
	}
	if err == nil && (r.Right != r.Events || !r.Diff.Same) {
		return cli.Done{Exit: aem.ExitMeasurements}
	}
	return err
}
