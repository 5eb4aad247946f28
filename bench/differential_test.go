package bench_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/antievilmaid/aem/bench"
	"github.com/antievilmaid/aem/internal/corpus"
)

// inputs are the generated logs, and the corpus where it is.
func inputs(t *testing.T) map[string]*bench.Input {
	t.Helper()
	all, err := bench.Generated()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("corpus", func(t *testing.T) { // which not everybody has; the others are compared anyway
		for _, name := range corpus.Files(t, "srtm", "drtm", "drtm-reconstructed", "drtm-synthetic", "malformed", "malformed-synthetic") {
			all[name] = bench.NewInput(corpus.Read(t, name))
		}
	})
	return all
}

// need ends the test where a program is missing: by failing in CI, by skipping on
// a developer's machine.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed", program)
		}
		t.Skipf("%s is not installed", program)
	}
}

func TestEveryDisagreementIsExplainedAndEveryRuleNeeded(t *testing.T) {
	logs := inputs(t)
	for _, reader := range []bench.Reader{bench.GoEventlog{}, bench.GoAttestation{}, bench.TPM2Eventlog{}} {
		t.Run(reader.Name(), func(t *testing.T) {
			if reader == (bench.TPM2Eventlog{}) {
				need(t, reader.Name())
			}
			found := map[string]int{}
			for name, in := range logs {
				for _, d := range bench.Compare(in, reader) {
					rules := bench.Explain(in, &d)
					if len(rules) != 1 {
						t.Errorf("%s: %d rules explain this, want one: %s", name, len(rules), &d)
					}
					for _, r := range rules {
						found[r.Name]++
					}
				}
			}
			for i := range bench.Rules {
				rule := &bench.Rules[i]
				for _, r := range rule.Readers {
					if r == reader.Name() && found[rule.Name] == 0 {
						t.Errorf("the rule %q explains nothing", rule.Name)
					}
				}
			}
			t.Logf("%d logs; disagreements by rule: %v", len(logs), found)
		})
	}
}
