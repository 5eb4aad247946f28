// Ratios times how package eventlog and two libraries read the same generated log,
// and prints the figures side by side as a table in Markdown. It judges nothing:
// times depend on the machine.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/antievilmaid/aem/bench"
	"github.com/antievilmaid/aem/tpm"
)

const (
	events = 100
	// rounds is how often each step is timed, in turn with all others, so that what
	// else the machine does meets all of them.
	rounds = 11
	each   = "100ms"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ratios:", err)
		os.Exit(1)
	}
}

func run() error {
	testing.Init()
	if err := flag.Set("test.benchtime", each); err != nil {
		return err
	}
	log, err := bench.Generate(events, tpm.SHA1, tpm.SHA256)
	if err != nil {
		return err
	}
	works, err := bench.Works(log)
	if err != nil {
		return err
	}
	figures := make([]figure, len(works))
	for range rounds {
		for i := range works {
			if err := figures[i].add(works[i]); err != nil {
				return fmt.Errorf("%s, %s: %w", works[i].Step, works[i].Reader, err)
			}
		}
	}
	fmt.Printf("A log of %d events in two banks, %d bytes; %d CPUs, %s; medians of %d runs of %s each, in turn.\n\n",
		events, len(log), runtime.NumCPU(), runtime.Version(), rounds, each)
	fmt.Println("| step | reader | time | lowest to highest | allocations | memory | time, ours = 1 | allocations, ours = 1 |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- |")
	var ours *figure
	for i, w := range works {
		f := &figures[i]
		if w.Reader == (bench.Ours{}).Name() {
			ours = f
		}
		fmt.Printf("| %s | %s | %s | %s to %s | %d | %.1f kB | %.1f | %.1f |\n", w.Step, w.Reader,
			micro(f.median()), micro(slices.Min(f.times)), micro(slices.Max(f.times)), f.allocs, float64(f.bytes)/1e3,
			float64(f.median())/float64(ours.median()), float64(f.allocs)/float64(ours.allocs))
	}
	return nil
}

// figure is what was measured of one reader's step.
type figure struct {
	times         []time.Duration
	allocs, bytes int64
}

func (f *figure) add(w bench.Work) error {
	var failed error
	r := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if failed = w.Do(); failed != nil {
				b.FailNow()
			}
		}
	})
	if failed != nil {
		return failed
	}
	f.times = append(f.times, time.Duration(r.NsPerOp()))
	f.allocs, f.bytes = r.AllocsPerOp(), r.AllocedBytesPerOp()
	return nil
}

func (f *figure) median() time.Duration {
	sorted := slices.Sorted(slices.Values(f.times))
	return sorted[len(sorted)/2]
}

func micro(d time.Duration) string { return fmt.Sprintf("%.1f µs", float64(d)/1e3) }
