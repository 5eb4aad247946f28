package bench_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/bench"
)

const corpus = "../../shared/corpus"

func TestX(t *testing.T) {
	for _, f := range []string{"srtm", "drtm", "drtm-reconstructed", "drtm-synthetic", "malformed", "malformed-synthetic"} {
		es, err := os.ReadDir(filepath.Join(corpus, f))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			b, _ := os.ReadFile(filepath.Join(corpus, f, e.Name()))
			in := bench.NewInput(b)
			for _, r := range []bench.Reader{bench.GoEventlog{}, bench.GoAttestation{}, bench.TPM2Eventlog{}} {
				for _, d := range bench.Compare(in, r) {
					t.Logf("%s/%s: %s", f, e.Name(), &d)
				}
			}
		}
	}
}
