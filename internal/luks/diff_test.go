package luks_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/luks"
)

func TestStoredSummaryIsTheHeader(t *testing.T) {
	h, err := open(golden2(t))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := luks.ParseSummary(h.Canonical())
	if err != nil {
		t.Fatal(err)
	}
	if d := luks.Diff(stored, h.Summary()); len(d) > 0 {
		t.Errorf("%q", d)
	}
}

func TestForgedSummaryIsRefused(t *testing.T) {
	good, err := os.ReadFile("testdata/luks2.canonical")
	if err != nil {
		t.Fatal(err)
	}
	text := string(good)
	for name, bad := range map[string]string{
		"empty":            "",
		"another format":   strings.Replace(text, "aem-luks 1", "aem-luks 2", 1),
		"no end":           strings.TrimSuffix(text, "\n"),
		"a line twice":     strings.Replace(text, "version 2\n", "version 2\nversion 2\n", 1),
		"lines moved":      strings.Replace(text, "version 2\n", "", 1) + "a/b 1\nversion 2\n",
		"a line of a word": strings.Replace(text, "version 2\n", "version\n", 1),
		"another alphabet": strings.Replace(text, "version 2\n", "version \x1b\n", 1),
		"an empty line":    strings.Replace(text, "version 2\n", "\nversion 2\n", 1),
	} {
		if _, err := luks.ParseSummary([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The sentences as an owner reads them.
func TestDiffInWords(t *testing.T) {
	before, err := os.ReadFile("testdata/luks2.canonical")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change []string // lines that go, and after an empty one those that come
		want   []string
	}{
		{[]string{"keyslots/0/kdf/cpus 1", "keyslots/0/kdf/memory 32", "keyslots/0/kdf/time 4", `keyslots/0/kdf/type "argon2id"`, "",
			`keyslots/0/kdf/type "pbkdf2"`, `keyslots/0/kdf/hash "sha256"`, "keyslots/0/kdf/iterations 1"},
			[]string{"key slot 0: PBKDF argon2id -> pbkdf2, passes 4 -> none, iterations none -> 1, memory in KiB 32 -> none, threads 1 -> none, PBKDF's hash none -> sha256"}},
		{[]string{`label "disk"`, "", `label "\x1b[2J"`}, []string{`the label changed: disk -> "\x1b[2J"`}},
		{[]string{`config/flags ["allow-discards"]`, ""}, []string{`the configuration: flags ["allow-discards"] -> none`}},
		{[]string{`tokens/3/tpm2-pin true`, "", `tokens/3/tpm2-pin false`}, []string{`token 3: tpm2-pin true -> false`}},
		{[]string{`uuid "` + uuidA + `"`, "material/1 68cd846c4798d94a6294e2bf4a565445a076e6d9ed557c7af3e5fc5096fa1178", "", `uuid "` + uuidB + `"`, "material/1 00"},
			[]string{"the volume's UUID changed: " + uuidA + " -> " + uuidB, "key slot 1: another key material"}},
	} {
		lines := strings.Split(strings.TrimSuffix(string(before), "\n"), "\n")[1:]
		cut := slices.Index(c.change, "")
		for _, gone := range c.change[:cut] {
			i := slices.Index(lines, gone)
			if i < 0 {
				t.Fatalf("%q is not in the summary", gone)
			}
			lines = slices.Delete(lines, i, i+1)
		}
		lines = append(lines, c.change[cut+1:]...)
		slices.Sort(lines)
		a, err := luks.ParseSummary(before)
		if err != nil {
			t.Fatal(err)
		}
		b, err := luks.ParseSummary([]byte("aem-luks 1\n" + strings.Join(lines, "\n") + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, luks.Diff(a, b)); d != "" {
			t.Error(d)
		}
	}
}

func TestSlotThatCameOrWentIsDescribed(t *testing.T) {
	v := format(t, "luks2", uuidA)
	one := v.header().Summary()
	v.addKey("spare")
	two := v.header().Summary()
	digest := `digest 0 of the volume key: key slots ["0"] -> ["0","1"]`
	if d := cmp.Diff([]string{"key slot 1 was added (PBKDF pbkdf2, iterations 1000)", digest}, luks.Diff(one, two)); d != "" {
		t.Error(d)
	}
	back := `digest 0 of the volume key: key slots ["0","1"] -> ["0"]`
	if d := cmp.Diff([]string{"key slot 1 was removed (PBKDF pbkdf2, iterations 1000)", back}, luks.Diff(two, one)); d != "" {
		t.Error(d)
	}
}

func TestDiffIsShortAndPrintable(t *testing.T) {
	var many strings.Builder
	many.WriteString("aem-luks 1\n")
	for i := range 5000 {
		fmt.Fprintf(&many, "keyslots/%04d/x \"[2J%s\"\n", i, strings.Repeat("y", 500))
	}
	a, err := luks.ParseSummary([]byte(many.String()))
	if err != nil {
		t.Fatal(err)
	}
	b, err := luks.ParseSummary([]byte(strings.ReplaceAll(many.String(), "[2J", "[3J")))
	if err != nil {
		t.Fatal(err)
	}
	sentences := luks.Diff(a, b)
	if len(sentences) != 41 || sentences[40] != "and 4960 more" {
		t.Errorf("%d sentences, the last is %q", len(sentences), sentences[len(sentences)-1])
	}
	for _, s := range sentences {
		printable(t, s)
		if len(s) > 400 {
			t.Errorf("a sentence of %d bytes: %q", len(s), s)
		}
	}
}
