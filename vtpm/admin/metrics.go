package admin

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
)

// metrics answers in Prometheus' text format, version 0.0.4.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	status, err := s.Host.Status()
	if err != nil {
		answerError(w, statusOf(err), err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	out := bufio.NewWriter(w)
	defer out.Flush()
	writeMetrics(out, status, s.Manager.Running(), s.Manager.Figures())
}

func writeMetrics(w io.Writer, status Status, running map[vtpm.UUID]manager.Running, figures map[vtpm.UUID]manager.Figures) {
	head := func(name, kind, help string) { fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind) }
	head("vtpmd_info", "gauge", "What the host can prove of itself, in the label.")
	fmt.Fprintf(w, "vtpmd_info{grade=%q,version=%q} 1\n", status.Grade, status.Version)
	head("vtpmd_vtpms", "gauge", "vTPMs in the store.")
	fmt.Fprintf(w, "vtpmd_vtpms %d\n", status.VTPMs)
	head("vtpmd_epoch", "counter", "The store's epoch: writes to the counter of the hardware TPM.")
	fmt.Fprintf(w, "vtpmd_epoch %d\n", status.Epoch)
	head("vtpmd_journal_broken", "gauge", "1 where the audit log is not what was written.")
	fmt.Fprintf(w, "vtpmd_journal_broken %d\n", bit(status.Journal != ""))
	head("vtpmd_epoch_late", "gauge", "1 where the hardware TPM does not answer, or its counter did not move when it should have.")
	fmt.Fprintf(w, "vtpmd_epoch_late %d\n", bit(status.Late != ""))
	head("vtpmd_store_broken", "gauge", "1 where the disk did not confirm what was stored, and the store answers nothing.")
	fmt.Fprintf(w, "vtpmd_store_broken %d\n", bit(status.Store != ""))
	head("vtpmd_running", "gauge", "vTPMs that have a guest, by how the guest's start counts.")
	starts := map[string]int{}
	for _, r := range running {
		start := "starting"
		if r.Start != 0 {
			start = r.Start.String()
		}
		starts[start]++
	}
	for _, start := range slices.Sorted(maps.Keys(starts)) {
		fmt.Fprintf(w, "vtpmd_running{start=%q} %d\n", start, starts[start])
	}
	head("vtpmd_vtpm_paused", "gauge", "1 where a guest waits because its state can't be stored.")
	for _, u := range sorted(running) {
		fmt.Fprintf(w, "vtpmd_vtpm_paused{vtpm=%q} %d\n", u, bit(running[u].Paused != nil))
	}
	uuids := sorted(figures)
	for _, m := range []struct {
		name, help string
		value      func(manager.Figures) uint64
	}{
		{"vtpmd_kept_back_total", "Commands of guests answered without the vTPM: not for a guest, or settled before.", func(f manager.Figures) uint64 { return f.KeptBack }},
		{"vtpmd_commits_total", "States stored.", func(f manager.Figures) uint64 { return f.Commits }},
		{"vtpmd_pauses_total", "Times that a state could not be stored.", func(f manager.Figures) uint64 { return f.Paused }},
		{"vtpmd_died_total", "Emulators that ended without being told to.", func(f manager.Figures) uint64 { return f.Died }},
		{"vtpmd_refused_total", "Guests that did not get the vTPM.", func(f manager.Figures) uint64 { return f.Refusals }},
	} {
		head(m.name, "counter", m.help)
		for _, u := range uuids {
			fmt.Fprintf(w, "%s{vtpm=%q} %d\n", m.name, u, m.value(figures[u]))
		}
	}
	head("vtpmd_command_seconds", "summary", "Guests' commands, from their arrival to the answer.")
	for _, u := range uuids {
		fmt.Fprintf(w, "vtpmd_command_seconds_sum{vtpm=%q} %g\nvtpmd_command_seconds_count{vtpm=%q} %d\n", u, figures[u].Answering.Seconds(), u, figures[u].Commands)
	}
}

func sorted[V any](m map[vtpm.UUID]V) []vtpm.UUID {
	return slices.SortedFunc(maps.Keys(m), func(a, b vtpm.UUID) int { return cmp.Or(bytes.Compare(a[:], b[:])) })
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
