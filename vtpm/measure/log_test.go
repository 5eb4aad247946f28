package measure_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

var (
	bankLine = regexp.MustCompile(`^  (sha[0-9]+):$`)
	pcrLine  = regexp.MustCompile(`^    ([0-9]+) *: 0x([0-9a-f]+)$`)
)

// The program that people read logs with reads ours, and computes the same PCRs. It begins
// with zeros in PCR 17, too, so it knows them where the host was launched.
func TestTpm2EventlogReadsTheLog(t *testing.T) {
	testbed.Need(t, "tpm2_eventlog")
	for v, algs := range families {
		for name, l := range kinds() {
			log, err := l.Log(v, algs)
			if err != nil {
				t.Fatal(err)
			}
			b, err := log.AppendTo(nil)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("tpm2_eventlog", path).CombinedOutput()
			if err != nil {
				t.Errorf("%s, %s: %v\n%.2000s", v, name, err, out)
				continue
			}
			predicted, err := l.Predict(algs)
			if err != nil {
				t.Fatal(err)
			}
			used := tpm.PCRs(0)
			for i := range log.Events {
				if e := &log.Events[i]; e.Extended() {
					used |= tpm.PCRSet(e.PCR)
				}
			}
			_, values, _ := strings.Cut(string(out), "\npcrs:\n")
			compared := 0
			for p, d := range printed(t, values, v) {
				a := p.alg
				compared++
				if !used.Has(p.pcr) || predicted.Value(a, p.pcr).String() != d {
					t.Errorf("%s, %s: tpm2_eventlog says that %s PCR %d is %s; predicted was %s", v, name, a, p.pcr, d, predicted.Value(a, p.pcr))
				}
			}
			if compared != used.Len()*len(algs) {
				t.Errorf("%s, %s: it knows %d values; want %d\n%s", v, name, compared, used.Len()*len(algs), out)
			}
		}
	}
}

type register struct {
	alg tpm.Alg
	pcr tpm.PCR
}

// printed reads the values that tpm2_eventlog ends with.
func printed(t *testing.T, text string, v tpm.Version) map[register]string {
	t.Helper()
	values := map[register]string{}
	alg := tpm.SHA1
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if m := bankLine.FindStringSubmatch(line); m != nil {
			a, err := tpm.ParseAlg(m[1])
			if err != nil {
				t.Fatal(err)
			}
			alg = a
		} else if m := pcrLine.FindStringSubmatch(line); m != nil {
			p, err := strconv.ParseUint(m[1], 10, 8)
			if err != nil {
				t.Fatal(err)
			}
			values[register{alg, tpm.PCR(p)}] = m[2]
		} else {
			t.Errorf("%s: tpm2_eventlog ends with %q", v, line)
		}
	}
	return values
}
