package emulator_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/vtpm/emulator"
)

// What an emulator said last says why it ended, however much it said before and in whatever pieces.
func TestTheLastLineIsKept(t *testing.T) {
	var got []string
	for _, said := range []string{
		"", "one line\n", "no end", "first\nsecond\n", strings.Repeat("noise\n", 1000) + "swtpm: why\n", strings.Repeat("x", 5000),
	} {
		got = append(got, emulator.LastLineOf(strings.NewReader(said)))
	}
	want := []string{"", "one line", "no end", "second", "swtpm: why", strings.Repeat("x", 200)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
