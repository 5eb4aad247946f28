package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// logReport is a log as --json prints it.
type logReport struct {
	Kind      string             `json:"kind"`
	Source    string             `json:"source"`
	Skipped   []aem.Skipped      `json:"not_read,omitempty"`
	Format    string             `json:"format"`
	Registers string             `json:"registers"` // pcr, or rtmr of a confidential guest
	Banks     []string           `json:"banks"`
	Damage    string             `json:"damage,omitempty"`
	Full      bool               `json:"full,omitempty"`
	Compared  bool               `json:"compared_with_tpm"`
	Launch    string             `json:"launch,omitempty"`
	Platform  string             `json:"platform,omitempty"`
	Reason    string             `json:"reason,omitempty"`
	Events    []logEvent         `json:"events"`
	Replay    map[string]pcrList `json:"replay"`
	Verdicts  []logResult        `json:"verdicts,omitempty"`

	told []string // lines that a guest's start is proven by
}

// pcrList are a bank's values by register.
type pcrList map[uint32]string

type logEvent struct {
	PCR      uint32            `json:"pcr"`
	Type     string            `json:"type"`
	Extended bool              `json:"extended"`
	What     string            `json:"what"`
	Digests  map[string]string `json:"digests"`
	Text     string            `json:"text"`           // the body in words
	Data     any               `json:"data,omitempty"` // the body decoded, or its bytes
}

type logResult struct {
	PCR     uint32 `json:"pcr"`
	Bank    string `json:"bank"`
	Verdict string `json:"verdict"`
	Fault   string `json:"known_fault,omitempty"`
	TPM     string `json:"tpm"`
	Log     string `json:"log,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// replay is what the registers hold if the log is true.
func replay(l *eventlog.Log) tpm.Banks {
	if l.Launched() {
		return drtm.Replay(l)
	}
	return l.Replay(false)
}

func newLogReport(l *aem.LaunchLog) *logReport {
	r := &logReport{
		Kind: "event log", Source: l.Source, Format: l.Log.Format.String(), Registers: "pcr", Full: l.Log.Full(),
		Skipped: l.Skipped, Replay: map[string]pcrList{}, Events: []logEvent{},
	}
	if l.Log.RuntimeRegisters() {
		r.Registers = "rtmr"
	}
	if l.Broken != nil {
		r.Damage = l.Broken.Error()
	}
	for _, a := range l.Log.Algs {
		r.Banks = append(r.Banks, a.Alg.String())
	}
	roles, names := drtm.Roles(l.Log), drtm.Names(l.Log)
	if l.OfGuest {
		r.Kind, names = "log of a guest's start", aem.GuestEvents(l.Log)
	}
	used := map[tpm.PCR]bool{}
	for i := range l.Log.Events {
		e := &l.Log.Events[i]
		digests := map[string]string{}
		for _, d := range e.Digests {
			digests[d.Alg.String()] = d.Digest.String()
		}
		data := e.Decode()
		what := ""
		if l.OfGuest || roles[i] != drtm.RoleUnknown {
			what = names[i]
		}
		used[e.PCR] = true // also where only its start value is told
		r.Events = append(r.Events, logEvent{uint32(e.PCR), e.Type.String(), e.Extended(), what, digests, data.String(), data})
	}
	banks := replay(l.Log)
	for i := range banks {
		list := pcrList{}
		for p := range tpm.PCR(tpm.NumPCRs) {
			if used[p] {
				list[uint32(p)] = banks[i].Values[p].String()
			}
		}
		r.Replay[banks[i].Alg.String()] = list
	}
	return r
}

// compare adds what the TPM says.
func (r *logReport) compare(boot *aem.Boot) {
	r.Compared, r.Launch, r.Reason = true, boot.Launch.State.String(), boot.Launch.Reason
	if boot.Log != nil && boot.Log.OfGuest && boot.Launch.State == drtm.Verified {
		r.told = toldLines(boot.Log.Log)
	}
	if boot.Launch.Platform != 0 {
		r.Platform = boot.Launch.Platform.String()
	}
	for _, v := range boot.Launch.Report {
		x := logResult{uint32(v.PCR), v.Alg.String(), v.Verdict.String(), "", v.Actual.String(), v.Replayed.String(), v.Reason}
		if v.Fault != nil {
			x.Fault = v.Fault.ID
		}
		r.Verdicts = append(r.Verdicts, x)
	}
}

// toldLines are the texts that are in PCRs 17 and 18 of a guest's TPM.
func toldLines(l *eventlog.Log) (lines []string) {
	for i := range l.Events {
		if e := &l.Events[i]; e.PCR.Dynamic() && e.Type == eventlog.Action {
			for line := range strings.Lines(string(e.Data)) {
				lines = append(lines, eventlog.Printable([]byte(strings.TrimSuffix(line, "\n"))))
			}
		}
	}
	return lines
}

func (r *logReport) show(out io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	return r.print(out)
}

// print writes the report for a person, in 80 columns.
func (r *logReport) print(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Log: %s", r.Source)
	if r.Format != "" {
		fmt.Fprintf(&b, " (%s; %s)", r.Format, strings.Join(r.Banks, ", "))
	}
	fmt.Fprintln(&b)
	for _, s := range r.Skipped {
		fmt.Fprintf(&b, "Not read: %s: %s\n", s.Name, s.Reason)
	}
	if r.Damage != "" {
		fmt.Fprintf(&b, "Damaged: %s\n", r.Damage)
	}
	if r.Full {
		fmt.Fprintln(&b, "The log's memory is full: what was measured afterwards is not in it.")
	}
	r.printEvents(&b)
	if r.Compared {
		for i, line := range r.told {
			if i == 0 {
				fmt.Fprintln(&b, "\nWhat the host says of itself and of this start, as it is measured:")
			}
			fmt.Fprintf(&b, "  %s\n", line)
		}
		r.printVerdicts(&b)
	} else {
		r.printReplay(&b)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (r *logReport) printEvents(b *strings.Builder) {
	if len(r.Events) == 0 {
		return
	}
	fmt.Fprintln(b)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\tWHAT\tDIGEST\tTEXT (hearsay)\n", strings.ToUpper(r.Registers))
	for _, e := range r.Events {
		what := e.What
		if what == "" {
			what = strings.TrimPrefix(strings.TrimPrefix(e.Type, "EV_"), "EVTYPE_")
		}
		fmt.Fprintf(w, "%s\t%.28s\t%.12s\t%.30s\n", register(e.PCR), what, r.digest(e), e.Text)
	}
	w.Flush()
}

// digest is the one to show of an event's.
func (r *logReport) digest(e logEvent) string {
	if !e.Extended {
		return "not extended"
	}
	if d := e.Digests[tpm.SHA256.String()]; d != "" {
		return d
	}
	for _, bank := range r.Banks {
		if d := e.Digests[bank]; d != "" {
			return d
		}
	}
	return ""
}

// register is an index, or a dash for what belongs to none.
func register(p uint32) string {
	if p >= tpm.NumPCRs {
		return "-"
	}
	return fmt.Sprint(p)
}

func (r *logReport) printVerdicts(b *strings.Builder) {
	fmt.Fprintf(b, "\nLaunch: %s", r.Launch)
	if r.Platform != "" {
		fmt.Fprintf(b, " (%s)", r.Platform)
	}
	fmt.Fprintln(b)
	if r.Reason != "" {
		fmt.Fprintf(b, "%s\n", r.Reason)
	}
	for _, v := range r.Verdicts {
		fmt.Fprintf(b, "  PCR %d  %-8s %s", v.PCR, v.Bank, v.Verdict)
		if v.Fault != "" {
			fmt.Fprintf(b, " (%s: %s)", v.Fault, v.Reason)
		} else if v.Reason != "" {
			fmt.Fprintf(b, " (%s)", v.Reason)
		}
		fmt.Fprintln(b)
	}
}

func (r *logReport) printReplay(b *strings.Builder) {
	if len(r.Events) == 0 {
		return
	}
	fmt.Fprintf(b, "\nNot compared with a TPM: nothing above is proven. If it is true, then:\n")
	for _, bank := range r.Banks {
		values := r.Replay[bank]
		for p := range uint32(tpm.NumPCRs) {
			if v, ok := values[p]; ok {
				fmt.Fprintf(b, "  %s %-2d %-6s %s\n", strings.ToUpper(r.Registers), p, bank, v)
			}
		}
	}
}
