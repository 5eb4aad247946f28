package bench_test

import (
	"testing"

	"github.com/antievilmaid/aem/bench"
	"github.com/antievilmaid/aem/tpm"
)

// hundred is the log that is timed.
func hundred(t testing.TB) []byte {
	t.Helper()
	log, err := bench.Generate(100, tpm.SHA1, tpm.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func BenchmarkReaders(b *testing.B) {
	log := hundred(b)
	works, err := bench.Works(log)
	if err != nil {
		b.Fatal(err)
	}
	for _, w := range works {
		b.Run(w.Step+"/"+w.Reader, func(b *testing.B) {
			b.SetBytes(int64(len(log)))
			b.ReportAllocs()
			for b.Loop() {
				if err := w.Do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Allocations are counted, not timed, so that a test may judge them.
func TestWeAllocateAtMostATwentiethOfWhatOthersDo(t *testing.T) {
	works, err := bench.Works(hundred(t))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]map[string]float64{}
	for _, w := range works {
		if err := w.Do(); err != nil {
			t.Fatalf("%s, %s: %v", w.Step, w.Reader, err)
		}
		if counts[w.Step] == nil {
			counts[w.Step] = map[string]float64{}
		}
		counts[w.Step][w.Reader] = testing.AllocsPerRun(10, func() { _ = w.Do() })
	}
	ours := bench.Ours{}.Name()
	for step, of := range counts {
		for reader, n := range of {
			if reader != ours && of[ours]*20 > n {
				t.Errorf("%s: %.0f allocations of ours, %.0f of %s's", step, of[ours], n, reader)
			}
		}
	}
}
