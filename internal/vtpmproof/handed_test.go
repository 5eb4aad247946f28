package vtpmproof

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

// The name under which QEMU hands a guest the log of its start, and where the guest finds it.
const (
	logName   = "opt/org.antievilmaid/vtpm-log"
	handedLog = "/sys/firmware/qemu_fw_cfg/by_name/" + logName + "/raw"
)

// nextLog writes the log of a vTPM's next guest to a file, before that starts.
func (h *host) nextLog(u vtpm.UUID) string {
	h.t.Helper()
	b, err := h.NextLog(u)
	must(h.t, err)
	path := filepath.Join(h.t.TempDir(), "log")
	must(h.t, os.WriteFile(path, b, 0o600))
	return path
}

// readingLog are the steps in which a guest reads the log that it was handed.
func readingLog(t *testing.T) (log, yaml testbed.Step) {
	return run(t, "base64", handedLog), run(t, "tpm2_eventlog", handedLog)
}

// handed holds the log that a guest was handed before it started against the PCRs that it reads.
func handed(t *testing.T, said answers) {
	pcrs, _, _ := telling(t)
	log, yaml := readingLog(t)
	held := parsePCRs(t, said.succeeded(t, pcrs))
	t.Run("the log of the start that QEMU hands over leads to PCRs 17 and 18", func(t *testing.T) {
		b, err := base64.StdEncoding.DecodeString(said.succeeded(t, log))
		must(t, err)
		parsed, err := eventlog.Parse(b)
		must(t, err)
		var measured []tpm.PCR
		for _, e := range parsed.Events {
			measured = append(measured, e.PCR)
		}
		if d := cmp.Diff([]tpm.PCR{17, 18}, measured); d != "" {
			t.Errorf("it has other events: %s", d)
		}
		for _, r := range parsed.Verify(held, launchPCRs, true) {
			if r.Verdict != eventlog.Match {
				t.Errorf("PCR %d of %s: %s", r.PCR, r.Alg, r.Reason)
			}
		}
		text := said.succeeded(t, yaml)
		for p := range launchPCRs.All() {
			if line := fmt.Sprintf("%-2d : 0x%s\n", p, held.Value(tpm.SHA256, p)); !strings.Contains(text+"\n", line) {
				t.Errorf("tpm2_eventlog does not compute %q: %s", line, text)
			}
		}
	})
}
