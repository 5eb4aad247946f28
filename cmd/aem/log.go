package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/eventlog/cel"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/xenlog"
	"github.com/antievilmaid/aem/internal/xenstore"
	"github.com/antievilmaid/aem/tpm/device"
)

// logFormats are what --format takes, and what it writes.
var logFormats = map[string]func(w io.Writer, l *eventlog.Log) error{
	"yaml": func(w io.Writer, l *eventlog.Log) error {
		_, err := w.Write(l.AppendYAML(nil, replay(l)))
		return err
	},
	"cel-json": func(w io.Writer, l *eventlog.Log) error { return cel.WriteJSON(w, cel.FromLog(l)) },
	"cel-tlv":  func(w io.Writer, l *eventlog.Log) error { return writeBytes(w, cel.AppendTLV, cel.FromLog(l)) },
	"cel-cbor": func(w io.Writer, l *eventlog.Log) error { return writeBytes(w, cel.AppendCBOR, cel.FromLog(l)) },
	"binary": func(w io.Writer, l *eventlog.Log) error {
		b, err := l.AppendTo(nil)
		if err == nil {
			_, err = w.Write(b)
		}
		return err
	},
}

func writeBytes(w io.Writer, encode func([]byte, []cel.Record) ([]byte, error), records []cel.Record) error {
	b, err := encode(nil, records)
	if err != nil {
		return fmt.Errorf("write the log in that format: %w", err)
	}
	_, err = w.Write(b)
	return err
}

func logCommand(where *aem.Where) *cobra.Command {
	var asJSON bool
	var format, xen string
	cmd := &cobra.Command{
		Use:   "log [FILE]",
		Short: "Read a measurement log, and compare it with the TPM",
		Long: `log prints what a launch measured, by this machine's log or a file's, and says for each
PCR in each bank whether the log leads to what the TPM holds.

Without a FILE the log is looked for where aem launch left it, and where Linux, OpenXT, the
TXT heap, the launch's resource table, Xen's messages and the simulator show it, and
compared with this machine's TPM; what could not be read is named. With a FILE it is compared only where
--tpm names a TPM. A FILE may be any log of a launch or of firmware, a TXT heap, a list
of IMA, or a canonical event log. What a log says is hearsay until it agrees with the
TPM. Exit code 4: it does not.

In a guest whose TPM is vtpmd's, the log is what the host measured of the guest's start.
A guest of Xen's finds it in xenstore, and --xen looks nowhere else. A guest of QEMU's has it
where its owner put it; then name the FILE and the TPM:

  aem log --tpm /dev/tpm0 /sys/firmware/qemu_fw_cfg/by_name/opt/org.antievilmaid/vtpm-log/raw`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return cli.Usage("one log can be read at a time")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 && xen != "" {
				return cli.Usage("a FILE and --xen are two logs; one can be read at a time")
			}
			if format != "" {
				return convertLog(*where, args, xen, format)
			}
			if len(args) == 1 && where.TPM == "" {
				return showFile(args[0], asJSON)
			}
			r, err := readLog(*where, args, xen)
			if err != nil {
				return err
			}
			if err := r.show(os.Stdout, asJSON); err != nil {
				return err
			}
			if r.Compared && r.Launch != drtm.Verified.String() {
				return cli.Done{Exit: aem.ExitMeasurements}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	cmd.Flags().StringVar(&format, "format", "", "write the log itself: yaml (as tpm2_eventlog), cel-json, cel-tlv, cel-cbor or binary")
	cmd.Flags().StringVar(&xen, "xen", "", "in a guest of Xen's: read the host's log of its start; =PATH is where xenstore is reached")
	cmd.Flags().Lookup("xen").NoOptDefVal = xenstore.Device
	cmd.AddCommand(logDiffCommand())
	return cmd
}

// convertLog writes the machine's log, or a file's, in another format.
func convertLog(where aem.Where, args []string, xen, format string) error {
	write, ok := logFormats[format]
	if !ok {
		return cli.Usage("%q is no format; there are yaml, cel-json, cel-tlv, cel-cbor and binary", format)
	}
	l, err := findLog(where, args, xen)
	if err != nil {
		return err
	}
	if l.Broken != nil {
		fmt.Fprintf(os.Stderr, "aem: only the part before the damage is written: %v\n", l.Broken)
	}
	return write(os.Stdout, l.Log)
}

// findLog reads the log in a file, or finds this machine's: that of a guest of Xen's is in xenstore.
func findLog(where aem.Where, args []string, xen string) (*aem.LaunchLog, error) {
	switch {
	case len(args) == 1:
		return aem.ReadLog(args[0])
	case xen != "":
		return aem.GuestLog(xen)
	case where.Log != "":
		return aem.ReadLog(where.Log)
	case !xenlog.Here():
		return aem.FindLog()
	}
	l, err := aem.GuestLog(xenstore.Device)
	if err == nil {
		return l, nil
	}
	reason := err.Error()
	if l, err = aem.FindLog(); err == nil {
		l.Skipped = append(l.Skipped, aem.Skipped{Name: "xenstore", Reason: reason})
	}
	return l, err
}

// readLog reads the machine's log, or a file's, and compares it with the TPM.
func readLog(where aem.Where, args []string, xen string) (*logReport, error) {
	l, err := findLog(where, args, xen)
	if err != nil {
		return nil, err
	}
	r := newLogReport(l)
	m, closer, err := aem.Open(where, nil)
	if errors.Is(err, device.ErrNoTPM) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	m.Log = func() (*aem.LaunchLog, error) { return l, nil }
	look := m.Boot
	if l.OfGuest {
		look = func() (*aem.Boot, error) { return m.GuestBoot(l) }
	}
	boot, err := look()
	if err != nil {
		return nil, err
	}
	r.compare(boot)
	return r, nil
}
