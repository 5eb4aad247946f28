package xl_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/vtpm/measure"
)

// The sample configurations are ones that can be measured.
func TestSamples(t *testing.T) {
	samples, err := filepath.Glob("../../dist/vtpm/*.cfg")
	if err != nil || len(samples) < 3 {
		t.Fatalf("%d samples, %v", len(samples), err)
	}
	for _, path := range samples {
		b, err := os.ReadFile(path)
		must(t, err)
		c, err := measure.ParseConfiguration(b)
		if err != nil || len(c.VTPMs) != 1 || c.Ramdisk == "" || c.CommandLine == "" {
			t.Errorf("%s: %+v, %v", path, c, err)
		}
	}
}
