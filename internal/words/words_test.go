package words_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/words"
)

func TestWordsThatChanged(t *testing.T) {
	for _, c := range []struct {
		before, after string
		want          []words.Change
	}{
		{"root=/dev/sda quiet", "root=/dev/sda quiet", nil},
		{"root=/dev/sda  quiet", "root=/dev/sda quiet\n", nil},
		{"root=/dev/sda quiet", "root=/dev/sda quiet init=/bin/sh", []words.Change{{After: []string{"init=/bin/sh"}}}},
		{"root=/dev/sda quiet", "root=/dev/sda", []words.Change{{Before: []string{"quiet"}}}},
		{"a iommu=on b", "a iommu=off b", []words.Change{{Before: []string{"iommu=on"}, After: []string{"iommu=off"}}}},
		{`a="x y" b`, `a="x z" b`, []words.Change{{Before: []string{`a="x y"`}, After: []string{`a="x z"`}}}},
		{"a b", "b a", []words.Change{{Before: []string{"a"}}, {After: []string{"a"}}}},
		{"", "a", []words.Change{{After: []string{"a"}}}},
	} {
		if diff := cmp.Diff(c.want, words.Diff(c.before, c.after)); diff != "" {
			t.Errorf("%q to %q (-want +got)\n%s", c.before, c.after, diff)
		}
	}
}

// Whatever changed, all words of both lines are accounted for.
func FuzzDiff(f *testing.F) {
	f.Add("root=/dev/sda quiet", "quiet init=/bin/sh")
	f.Add(`a="b c`, `"`)
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a)+len(b) > 4096 {
			return
		}
		removed, added := 0, 0
		for _, c := range words.Diff(a, b) {
			removed, added = removed+len(c.Before), added+len(c.After)
		}
		if len(words.Split(a))-removed != len(words.Split(b))-added {
			t.Errorf("%d words minus %d are not %d minus %d", len(words.Split(a)), removed, len(words.Split(b)), added)
		}
		if (removed+added == 0) != (strings.Join(words.Split(a), " ") == strings.Join(words.Split(b), " ")) {
			t.Error("equal lines differ, or different ones do not")
		}
	})
}
