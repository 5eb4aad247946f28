package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/artifact"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/unpack"
	"github.com/antievilmaid/aem/internal/words"
	"github.com/antievilmaid/aem/tpm"
)

// difference is what --json prints of two things of one kind.
type difference struct {
	Kind    string         `json:"kind"`
	Same    bool           `json:"same"`
	Events  []eventChange  `json:"events,omitempty"`
	Files   []fileChange   `json:"files,omitempty"`
	Words   []words.Change `json:"words,omitempty"`
	Rows    []rowChange    `json:"rows,omitempty"`
	Damages []string       `json:"damage,omitempty"`
}

// eventChange is an event of a log that changed.
type eventChange struct {
	Change string         `json:"change"`
	PCR    uint32         `json:"pcr"`
	Index  int            `json:"index"` // among the PCR's events
	What   string         `json:"what"`
	Type   string         `json:"type"`
	Before *eventSide     `json:"before,omitempty"`
	After  *eventSide     `json:"after,omitempty"`
	Words  []words.Change `json:"words,omitempty"` // where both are texts
}

type eventSide struct {
	Digests map[string]string `json:"digests"`
	Text    string            `json:"text"`
}

type fileChange struct {
	Path   string `json:"path"`
	Change string `json:"change"`
	Detail string `json:"detail"`
}

type rowChange struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
}

func logDiffCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff BEFORE AFTER",
		Short: "Say in which events two logs differ",
		Long: `diff aligns two logs, PCR by PCR, and names what differs: events with another digest,
added, removed and moved ones, and what they are. Of texts it names the words that
changed. Exit code 4: the logs differ.`,
		Args: exactly(2, "two logs are needed"),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := diffLogs(args[0], args[1])
			if err != nil {
				return err
			}
			return d.show(os.Stdout, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func explainCommand() *cobra.Command {
	var asJSON bool
	home := aem.DefaultHome
	cmd := &cobra.Command{
		Use:   "explain [[BEFORE] FILE]",
		Short: "Say what a file is, or what changed between two",
		Long: `explain says what a file of a launch is and what stands in it: logs, TXT heaps and
registers, SINIT modules, loader blocks, resource tables, kernels and initramfs images.

With two files of the same kind it says what changed: the events of logs, the words of
command lines, the files inside an initramfs that were added, removed or changed.
Without a file it compares this boot's log with the one of the last sealing.
Exit code 4: there is a difference.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 2 {
				return cli.Usage("two files can be compared at a time")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 1:
				return showFile(args[0], asJSON)
			case 2:
				d, err := diffFiles(args[0], args[1])
				if err != nil {
					return err
				}
				return d.show(os.Stdout, asJSON)
			}
			d, err := explainBoot(home)
			if err != nil {
				return err
			}
			return d.show(os.Stdout, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	cmd.Flags().StringVar(&home, "home", aem.DefaultHome, "the folder of this machine's setup")
	return cmd
}

func exactly(n int, text string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return cli.Usage("%s", text)
		}
		return nil
	}
}

// explainBoot compares this boot with the one of the last sealing.
func explainBoot(home string) (*difference, error) {
	good, err := aem.OpenHome(home).GoodLog()
	if err != nil {
		return nil, err
	}
	now, err := aem.FindLog()
	if err != nil {
		return nil, err
	}
	if len(now.Log.Events) == 0 {
		return nil, errors.Join(fmt.Errorf("this boot left no launch log: %w", aem.ErrNotPossible), skippedError(now.Skipped))
	}
	return newLogDifference(good, now), nil
}

func skippedError(list []aem.Skipped) error {
	var errs []error
	for _, s := range list {
		errs = append(errs, fmt.Errorf("%s: %s", s.Name, s.Reason))
	}
	return errors.Join(errs...)
}

func diffLogs(before, after string) (*difference, error) {
	a, err := aem.ReadLog(before)
	if err != nil {
		return nil, err
	}
	b, err := aem.ReadLog(after)
	if err != nil {
		return nil, err
	}
	return newLogDifference(a, b), nil
}

// diffFiles compares two files by what they are.
func diffFiles(before, after string) (*difference, error) {
	a, err := aem.ReadArtifact(before)
	if err != nil {
		return nil, err
	}
	b, err := aem.ReadArtifact(after)
	if err != nil {
		return nil, err
	}
	if a.Kind != b.Kind {
		return nil, fmt.Errorf("%s is: %s; and %s is: %s; such files can't be compared", before, a.Kind, after, b.Kind)
	}
	d := &difference{Kind: string(a.Kind)}
	switch a.Kind {
	case artifact.EventLog, artifact.Heap, artifact.CELTLV, artifact.CELCBOR, artifact.CELJSON:
		return diffLogs(before, after)
	case artifact.Text:
		d.Words = words.Diff(string(a.Content), string(b.Content))
		d.Same = len(d.Words) == 0
	case artifact.Initrd:
		d.initrds(a.Content, b.Content)
	default:
		d.rows(artifact.Describe(a.Kind, a.Content), artifact.Describe(b.Kind, b.Content))
	}
	return d, nil
}

func (d *difference) initrds(before, after []byte) {
	a, errA := unpack.Read(before)
	b, errB := unpack.Read(after)
	for i, err := range []error{errA, errB} {
		if err != nil {
			d.Damages = append(d.Damages, []string{"before: ", "after: "}[i]+eventlog.Printable([]byte(err.Error())))
		}
	}
	if a == nil || b == nil {
		return
	}
	for _, tree := range []*unpack.Tree{a, b} {
		for _, doubt := range tree.Doubts {
			d.Damages = append(d.Damages, "not every kernel reads it alike: "+eventlog.Printable([]byte(doubt)))
		}
	}
	for _, c := range unpack.Diff(a, b) {
		d.Files = append(d.Files, fileChange{eventlog.Printable([]byte(c.Path)), c.Kind.String(), eventlog.Printable([]byte(c.Detail))})
	}
	d.Same = len(d.Files) == 0 && len(d.Damages) == 0
}

// rows compares two descriptions line by line.
func (d *difference) rows(a, b *artifact.Description) {
	collect := func(x *artifact.Description) (names []string, values map[string]string) {
		values = map[string]string{}
		for _, r := range x.Rows {
			if _, ok := values[r.Name]; !ok {
				names = append(names, r.Name)
			}
			values[r.Name] = strings.TrimPrefix(values[r.Name]+"; "+r.Value, "; ")
		}
		return names, values
	}
	names, before := collect(a)
	more, after := collect(b)
	for _, n := range more {
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	for _, n := range names {
		if before[n] != after[n] {
			d.Rows = append(d.Rows, rowChange{n, before[n], after[n]})
		}
	}
	d.Same = len(d.Rows) == 0
}

// newLogDifference compares all PCRs of two logs.
func newLogDifference(before, after *aem.LaunchLog) *difference {
	d := &difference{Kind: "event log"}
	for _, l := range []*aem.LaunchLog{before, after} {
		if l.Broken != nil {
			d.Damages = append(d.Damages, l.Source+": "+l.Broken.Error())
		}
	}
	rolesBefore, rolesAfter := drtm.Roles(before.Log), drtm.Roles(after.Log)
	for _, c := range eventlog.Diff(before.Log, after.Log, 1<<tpm.NumPCRs-1) {
		x := eventChange{Change: c.Kind.String(), PCR: uint32(c.PCR), Index: c.Index}
		x.Before, x.After = side(c.Before), side(c.After)
		x.What = named(before.Log, rolesBefore, c.Before)
		shown := c.Before
		if c.After != nil {
			shown = c.After
			if w := named(after.Log, rolesAfter, c.After); x.What == "" || w != "" && c.Before == nil {
				x.What = w
			}
		}
		x.Type = shown.Type.String()
		if x.What == "" {
			x.What = shown.Decode().String()
		}
		if c.Before != nil && c.After != nil {
			a, oneText := c.Before.Decode().(eventlog.Text)
			b, otherText := c.After.Decode().(eventlog.Text)
			if oneText && otherText {
				x.Words = words.Diff(a.String(), b.String())
			}
		}
		d.Events = append(d.Events, x)
	}
	d.Same = len(d.Events) == 0
	return d
}

func side(e *eventlog.Event) *eventSide {
	if e == nil {
		return nil
	}
	s := &eventSide{Digests: map[string]string{}, Text: e.Decode().String()}
	for _, d := range e.Digests {
		s.Digests[d.Alg.String()] = d.Digest.String()
	}
	return s
}

// named is the role of an event, or empty.
func named(l *eventlog.Log, roles []drtm.Role, e *eventlog.Event) string {
	for i := range l.Events {
		if &l.Events[i] == e && roles[i] != drtm.RoleUnknown {
			return roles[i].String()
		}
	}
	return ""
}

// show prints the difference, and ends with its exit code.
func (d *difference) show(out io.Writer, asJSON bool) error {
	var err error
	if asJSON {
		err = json.NewEncoder(out).Encode(d)
	} else {
		err = d.print(out)
	}
	if err == nil && !d.Same {
		return cli.Done{Exit: aem.ExitMeasurements}
	}
	return err
}

func (d *difference) print(out io.Writer) error {
	var b strings.Builder
	for _, x := range d.Damages {
		fmt.Fprintf(&b, "Damaged: %s\n", x)
	}
	if d.Same {
		fmt.Fprintf(&b, "No difference (%s).\n", d.Kind)
	}
	for i, e := range d.Events {
		if i == 0 {
			fmt.Fprintf(&b, "The first difference: PCR %d, %s %s.\n\n", e.PCR, e.What, e.Change)
		}
		e.print(&b)
	}
	for _, f := range d.Files {
		fmt.Fprintf(&b, "%-8s %s  (%s)\n", f.Change, f.Path, f.Detail)
	}
	printWords(&b, "", d.Words)
	for _, r := range d.Rows {
		fmt.Fprintf(&b, "%s\n  before  %s\n  after   %s\n", r.Name, r.Before, r.After)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (e *eventChange) print(b *strings.Builder) {
	fmt.Fprintf(b, "PCR %d, event %d, %s: %s\n", e.PCR, e.Index+1, e.Change, e.What)
	for _, s := range []struct {
		name string
		*eventSide
	}{{"before", e.Before}, {"after", e.After}} {
		if s.eventSide == nil {
			continue
		}
		digest := s.Digests[tpm.SHA256.String()]
		for _, d := range s.Digests {
			if digest == "" {
				digest = d
			}
		}
		fmt.Fprintf(b, "  %-7s %.32s  %.40s\n", s.name, digest, s.Text)
	}
	printWords(b, "  ", e.Words)
}

func printWords(b *strings.Builder, indent string, list []words.Change) {
	for _, c := range list {
		for _, w := range c.Before {
			fmt.Fprintf(b, "%s- %s\n", indent, eventlog.Printable([]byte(w)))
		}
		for _, w := range c.After {
			fmt.Fprintf(b, "%s+ %s\n", indent, eventlog.Printable([]byte(w)))
		}
	}
}
