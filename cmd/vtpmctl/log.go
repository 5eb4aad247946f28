package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/tpm"
)

func logCommand(c *control) *cobra.Command {
	var format string
	var next bool
	cmd := &cobra.Command{
		Use:   "log VTPM",
		Short: "Print what a vTPM's guest started with, as it was measured",
		Long: `log prints the measurement log of the guest that has a vTPM now. Formats: text; raw, the bytes for
tpm2_eventlog and other programs; yaml, as tpm2_eventlog prints them; json.

A guest of Xen's reads its log itself, in xenstore (aem log). QEMU can hand it to a guest if it is there before
the start, and of a guest with a firmware it is known by then: --next prints that. It is the same at each start,
until the host starts anew:

  vtpmctl log --next --format raw desktop > /run/desktop.log
  qemu-system-x86_64 ... -fw_cfg name=opt/org.antievilmaid/vtpm-log,file=/run/desktop.log

What the firmware measures is not in it; that has a log of its own.`,
		Args:              arguments("VTPM"),
		ValidArgsFunction: c.complete,
		RunE: asking(func(ctx context.Context, args []string) error {
			if c.json {
				format = "json"
			}
			write := logFormats[format]
			if write == nil {
				return cli.Usage("there is no format %q; there are text, raw, yaml and json", format)
			}
			u, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			var b bytes.Buffer
			ask := c.client.Log
			if next {
				ask = c.client.NextLog
			}
			if err := ask(ctx, u, &b); err != nil {
				return err
			}
			out, err := write(b.Bytes())
			if err == nil {
				_, err = c.out.Write(out)
			}
			return err
		}),
	}
	cmd.Flags().StringVar(&format, "format", "text", "text, raw, yaml or json")
	cmd.Flags().BoolVar(&next, "next", false, "the log of QEMU's next guest, before it starts")
	return cmd
}

var logFormats = map[string]func([]byte) ([]byte, error){
	"raw": func(b []byte) ([]byte, error) { return b, nil },
	"yaml": func(b []byte) ([]byte, error) {
		log, err := eventlog.Parse(b)
		if err != nil {
			return nil, err
		}
		return log.AppendYAML(nil, nil), nil
	},
	"text": logText,
	"json": logJSON,
}

func logText(b []byte) ([]byte, error) {
	log, err := eventlog.Parse(b)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for i := range log.Events {
		e := &log.Events[i]
		fmt.Fprintf(&out, "PCR %2d  %s  %s\n", e.PCR, bestDigest(e.Digests), eventlog.Printable(e.Data))
	}
	return out.Bytes(), nil
}

// bestDigest is the one to show of several.
func bestDigest(list []tpm.TaggedDigest) string {
	if d := tpm.Find(list, tpm.SHA256); d != nil {
		return d.String()
	}
	return tpm.Find(list, tpm.SHA1).String()
}

// logEvent is an event as --json prints it.
type logEvent struct {
	PCR     uint32            `json:"pcr"`
	Type    string            `json:"type"`
	Digests map[string]string `json:"digests"`
	Text    string            `json:"text"`
}

func logJSON(b []byte) ([]byte, error) {
	log, err := eventlog.Parse(b)
	if err != nil {
		return nil, err
	}
	events := []logEvent{}
	for i := range log.Events {
		e := &log.Events[i]
		digests := map[string]string{}
		for _, d := range e.Digests {
			digests[d.Alg.String()] = d.Digest.String()
		}
		events = append(events, logEvent{uint32(e.PCR), e.Type.String(), digests, eventlog.Printable(e.Data)})
	}
	out, err := json.MarshalIndent(events, "", "  ")
	return append(out, '\n'), err
}
