package bench_test

import (
	"os"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/bench"
)

func TestTheReadmeHoldsTheTableOfRules(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := bench.Table(); !strings.Contains(string(readme), want) {
		t.Errorf("README.md lacks this table, or has another:\n%s", want)
	}
}
