package admin

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/measure"
)

func TestMetrics(t *testing.T) {
	a, b := vtpm.UUID{1}, vtpm.UUID{2}
	var out bytes.Buffer
	writeMetrics(&out, Status{Version: "1.0", Grade: "launched", VTPMs: 3, Epoch: 7, Journal: "it was cut", Late: "the TPM is busy", Store: "the disk fails"},
		map[vtpm.UUID]manager.Running{a: {Start: measure.Measured, Paused: errors.New("the disk is full")}, b: {}},
		map[vtpm.UUID]manager.Figures{b: {}, a: {Commands: 5, KeptBack: 2, Commits: 3, Paused: 1, Died: 4, Refusals: 6, Answering: 1500 * time.Millisecond}})
	var got []string
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "#") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	first, second := `{vtpm="`+a.String()+`"} `, `{vtpm="`+b.String()+`"} `
	want := []string{
		`vtpmd_info{grade="launched",version="1.0"} 1`, "vtpmd_vtpms 3", "vtpmd_epoch 7", "vtpmd_journal_broken 1", "vtpmd_epoch_late 1", "vtpmd_store_broken 1",
		`vtpmd_running{start="measured"} 1`, `vtpmd_running{start="starting"} 1`,
		"vtpmd_vtpm_paused" + first + "1", "vtpmd_vtpm_paused" + second + "0",
		"vtpmd_kept_back_total" + first + "2", "vtpmd_kept_back_total" + second + "0",
		"vtpmd_commits_total" + first + "3", "vtpmd_commits_total" + second + "0",
		"vtpmd_pauses_total" + first + "1", "vtpmd_pauses_total" + second + "0",
		"vtpmd_died_total" + first + "4", "vtpmd_died_total" + second + "0",
		"vtpmd_refused_total" + first + "6", "vtpmd_refused_total" + second + "0",
		"vtpmd_command_seconds_sum" + first + "1.5", "vtpmd_command_seconds_count" + first + "5",
		"vtpmd_command_seconds_sum" + second + "0", "vtpmd_command_seconds_count" + second + "0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// Each name is introduced once, before its values (Prometheus' text format).
	if n := strings.Count(out.String(), "# TYPE "); n != strings.Count(out.String(), "# HELP ") || n != 14 {
		t.Errorf("%d names are introduced:\n%s", n, out.String())
	}
}
