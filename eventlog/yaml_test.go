package eventlog_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/corpus"
)

// The program itself is the reference, on every log of the corpus that it can read.
func TestYAMLIsThatOfTpm2Eventlog(t *testing.T) {
	compared := 0
	for _, name := range corpus.Files(t, "srtm") {
		log, err := eventlog.Parse(corpus.Read(t, name))
		if err != nil || log.Format != eventlog.CryptoAgile {
			continue
		}
		out, err := exec.Command("tpm2_eventlog", filepath.Join(corpus.Dir(t), name)).Output()
		if err != nil {
			continue // its limits are listed in the facts: tails of zeros, PCR 255, and others
		}
		compared++
		if diff := cmp.Diff(common(string(out)), common(string(log.AppendYAML(nil, nil)))); diff != "" {
			t.Errorf("%s: (-tpm2_eventlog +ours)\n%.3000s", name, diff)
		}
	}
	if compared < 5 {
		t.Errorf("only %d logs could be compared", compared)
	}
}

// common is what both print alike: the events without long bodies' ends, without
// texts that the program takes for a region of firmware, and without the last
// letter of a description.
func common(text string) []string {
	text, _, _ = strings.Cut(text, "\npcrs:\n")
	var lines []string
	contents := false
	for line := range strings.Lines(strings.TrimSpace(text)) {
		line = strings.TrimRight(line, "\n")
		word := strings.TrimSpace(line)
		if strings.HasPrefix(word, "EventType:") {
			if typ := strings.TrimPrefix(word, "EventType: "); strings.HasPrefix(typ, "Unknown") || !strings.HasPrefix(typ, "EV_") {
				continue // it knows fewer types
			}
			contents = word == "EventType: EV_S_CRTM_CONTENTS"
		}
		body := strings.HasPrefix(word, "Event:") || strings.HasPrefix(word, "Blob")
		if contents && body || strings.HasPrefix(word, "BlobDescription:") {
			continue
		}
		if strings.HasPrefix(word, "Event: \"") || strings.HasPrefix(word, "VariableData: \"") {
			line = strings.TrimRight(line[:min(len(line), 2000)], "\"")
		}
		lines = append(lines, line)
	}
	return lines
}
