package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/eventlog/ima"
	"github.com/antievilmaid/aem/internal/artifact"
	"github.com/antievilmaid/aem/tpm"
)

// showFile prints a file of any kind that a launch leaves behind.
func showFile(path string, asJSON bool) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer f.Close()
	prefix := make([]byte, artifact.Prefix)
	n, err := io.ReadFull(f, prefix)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	prefix = prefix[:n]
	kind := artifact.Identify(prefix, n < artifact.Prefix)
	if kind == artifact.IMA || kind == artifact.IMAText {
		return showIMA(io.MultiReader(bytes.NewReader(prefix), f), path, kind, asJSON)
	}
	l, err := aem.ReadLog(path)
	switch {
	case errors.Is(err, aem.ErrNoLog):
		x, err := aem.ReadArtifact(path)
		if err != nil {
			return err
		}
		return showDescription(os.Stdout, artifact.Describe(x.Kind, x.Content), asJSON)
	case err != nil:
		return err
	}
	r := newLogReport(l)
	r.Kind = string(kind)
	return r.show(os.Stdout, asJSON)
}

func showDescription(out io.Writer, d *artifact.Description, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(d)
	}
	fmt.Fprintf(out, "This is: %s\n", d.Kind)
	if d.Damage != "" {
		fmt.Fprintf(out, "Damaged: %s\n", d.Damage)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, r := range d.Rows {
		fmt.Fprintf(w, "  %s\t%s\n", r.Name, r.Value)
	}
	return w.Flush()
}

// imaAlgs are the banks that an IMA list is replayed in.
var imaAlgs = []tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384}

// imaEntry is an entry as --json prints it.
type imaEntry struct {
	PCR      uint32 `json:"pcr"`
	Template string `json:"template"`
	Digest   string `json:"digest"`
	File     string `json:"file"`
	Content  string `json:"content,omitempty"` // the file's digest
	Untrue   bool   `json:"untrue,omitempty"`  // the digest is not that of the data
}

// imaSummary closes a list.
type imaSummary struct {
	Kind       artifact.Kind      `json:"kind"`
	Source     string             `json:"source"`
	Entries    int                `json:"entries"`
	Violations int                `json:"violations"`
	Untrue     int                `json:"untrue"`
	Damage     string             `json:"damage,omitempty"`
	Aggregate  string             `json:"boot_aggregate,omitempty"`
	Replay     map[string]pcrList `json:"replay"`
	Padded     map[string]pcrList `json:"replay_padded_sha1"`
}

// showIMA prints a list as it reads it: such lists may be larger than memory. As
// JSON, each entry is a line, and the last line is the summary.
func showIMA(in io.Reader, source string, kind artifact.Kind, asJSON bool) error {
	var reader interface{ Next() (*ima.Entry, error) } = ima.NewReader(in)
	if kind == artifact.IMAText {
		reader = ima.NewTextReader(in)
	}
	p := ima.NewReplay(imaAlgs...)
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	if !asJSON {
		fmt.Fprintf(out, "Log: %s (%s)\n\nPCR  FILE'S DIGEST     NAME (hearsay)\n", source, kind)
	}
	var damage error
	for {
		e, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			damage = err
			break
		}
		if err := p.Add(e); err != nil {
			return err
		}
		if err := showEntry(out, encoder, e, asJSON); err != nil {
			return err
		}
	}
	s := imaSummary{Kind: kind, Source: source, Entries: p.Entries, Violations: p.Violations, Untrue: p.Untrue, Replay: values(p, p.Own), Padded: values(p, p.Padded)}
	if damage != nil {
		s.Damage = damage.Error()
	}
	if p.Last != nil {
		s.Aggregate = fmt.Sprintf("%s:%s", p.Last.Alg, p.Last.Digest)
	}
	if asJSON {
		return encoder.Encode(s)
	}
	return printIMA(out, &s)
}

func showEntry(out io.Writer, encoder *json.Encoder, e *ima.Entry, asJSON bool) error {
	_, _, content := e.FileDigest()
	name := eventlog.Printable([]byte(e.File()))
	if asJSON {
		return encoder.Encode(imaEntry{uint32(e.PCR), eventlog.Printable([]byte(e.Template)), e.Digest.String(), name, content.String(), !e.True()})
	}
	note := ""
	switch {
	case e.Violation():
		note = " (not measured: it was being written)"
	case !e.True():
		note = " (UNTRUE: its digest is not that of its data)"
	}
	_, err := fmt.Fprintf(out, "%-3d  %-16.16s  %s%s\n", e.PCR, content, name, note)
	return err
}

func values(p *ima.Replay, banks tpm.Banks) map[string]pcrList {
	m := map[string]pcrList{}
	for i := range banks {
		list := pcrList{}
		for r := range p.Used.All() {
			list[uint32(r)] = banks[i].Values[r].String()
		}
		m[banks[i].Alg.String()] = list
	}
	return m
}

func printIMA(out io.Writer, s *imaSummary) error {
	fmt.Fprintf(out, "\n%d entries, %d files could not be measured, %d entries are untrue.\n", s.Entries, s.Violations, s.Untrue)
	if s.Damage != "" {
		fmt.Fprintf(out, "Damaged: %s\n", s.Damage)
	}
	if s.Aggregate != "" {
		fmt.Fprintf(out, "It belongs to the boot with the aggregate %s\n", s.Aggregate)
	}
	fmt.Fprintln(out, "Not compared with a TPM: nothing above is proven. If it is true, then:")
	for _, a := range imaAlgs {
		for p := range uint32(tpm.NumPCRs) {
			if v, ok := s.Replay[a.String()][p]; ok {
				fmt.Fprintf(out, "  PCR %-2d %-6s %s\n", p, a, v)
			}
		}
	}
	return nil
}
