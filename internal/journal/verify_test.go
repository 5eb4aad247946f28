package journal_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/journal"
)

func head(t testing.TB, dir string) journal.Head {
	t.Helper()
	h, err := open(t, dir).Head()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// lines of a journal, each with its line feed.
func lines(t testing.TB, dir string) []string {
	t.Helper()
	l := strings.SplitAfter(content(t, dir), "\n")
	return l[:len(l)-1]
}

// Each change of a journal is found at the first line that does not fit.
func TestChangedJournals(t *testing.T) {
	dir := with(t, 5)
	l := lines(t, dir)
	other := lines(t, with(t, 5))
	cat := func(parts ...[]string) string { return strings.Join(slices.Concat(parts...), "") }
	one := func(s string) []string { return []string{s} }
	for _, c := range []struct {
		name, content string
		line          uint64
	}{
		{"text", strings.Replace(cat(l), "entry 2", "entry X", 1), 4},
		{"sum", cat(l[:3], one(strings.Replace(l[3], `"prev":"`, `"prev":"00`, 1)), l[4:]), 4},
		{"line taken out", cat(l[:2], l[3:]), 3},
		{"line doubled", cat(l[:3], l[2:]), 4},
		{"lines exchanged", cat(l[:2], one(l[3]), one(l[2]), l[4:]), 3},
		{"empty line", cat(l[:2], one("\n"), l[2:]), 3},
		{"line of another journal", cat(l[:2], other[2:]), 3},
		{"first line of another journal", cat(other[:1], l[1:]), 2},
		{"no first line", cat(l[1:]), 1},
		{"number", strings.Replace(cat(l), `{"n":5`, `{"n":6`, 1), 6},
		{"doubled member", strings.Replace(cat(l), `"text":"entry 5"`, `"text":"entry 5","text":"entry 5"`, 1), 6},
		{"other spelling of a member", strings.Replace(cat(l), `"text":"entry 5"`, `"Text":"entry 5"`, 1), 6},
		{"space", strings.Replace(cat(l), `"text":"entry 5"`, `"text": "entry 5"`, 1), 6},
		{"needless escape", strings.Replace(cat(l), `"text":"entry 5"`, `"text":"\u0065ntry 5"`, 1), 6},
		{"unescaped", strings.Replace(cat(l), `"text":"entry 5"`, `"text":"éntry 5"`, 1), 6},
		{"unknown member", strings.Replace(cat(l), `"text":"entry 5"`, `"more":"entry 5"`, 1), 6},
		{"local time", strings.Replace(cat(l), `Z","kind":"sealed","text":"entry 5"`, `+00:00","kind":"sealed","text":"entry 5"`, 1), 6},
		{"kind", strings.Replace(cat(l), `"sealed","text":"entry 5"`, `"Sealed","text":"entry 5"`, 1), 6},
		{"half a character", strings.Replace(cat(l), `"entry 5"`, `"\ud83d"`, 1), 6},
		{"text after the end", cat(l, one("goodbye\n")), 7},
		{"carriage return", strings.Replace(cat(l), "\n", "\r\n", 1), 1},
		{"first line's member", strings.Replace(cat(l), `,"id"`, `,"more":1,"id"`, 1), 1},
		{"first line's id", strings.Replace(cat(l), `"id":"`, `"id":"0`, 1), 1},
		{"another file", "root:x:0:0\n", 1},
		{"zeros in the middle", strings.Replace(cat(l), "entry 2", "\x00\x00\x00\x00\x00\x00\x00", 1), 3},
	} {
		if c.content == cat(l) {
			t.Errorf("%s: the test changes nothing", c.name)
		}
		rewrite(t, dir, c.content)
		err := open(t, dir).Verify()
		var broken *journal.BrokenError
		if !errors.As(err, &broken) {
			t.Errorf("%s: %v", c.name, err)
		} else if broken.Line != c.line {
			t.Errorf("%s: %v, not at line %d", c.name, err, c.line)
		}
	}
}

// The number is checked although the chain already pins the order: an honest chain
// with a gap can be made by whoever makes a new one.
func TestNumbersHaveNoGaps(t *testing.T) {
	dir := with(t, 1)
	l := lines(t, dir)
	rewrite(t, dir, l[0]+strings.Replace(l[1], `"n":1`, `"n":2`, 1))
	var broken *journal.BrokenError
	if err := open(t, dir).Verify(); !errors.As(err, &broken) || broken.Line != 2 {
		t.Errorf("%v", err)
	}
}

// After a break the rest is still shown to whoever looks.
func TestReadingGoesOnAfterABreak(t *testing.T) {
	dir := with(t, 4)
	rewrite(t, dir, strings.Replace(content(t, dir), `"text":"entry 2"`, `"text":"ENTRY 2"`, 1))
	var got []string
	for e, err := range open(t, dir).Entries() {
		got = append(got, fmt.Sprint(e.Text, " ", err != nil))
	}
	if diff := cmp.Diff([]string{"entry 1 false", "ENTRY 2 false", "entry 3 true", "entry 4 false"}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestANewerFormatIsNamed(t *testing.T) {
	dir := with(t, 2)
	before := strings.Replace(content(t, dir), `"version":1`, `"version":2,"more":true`, 1)
	rewrite(t, dir, before)
	j := open(t, dir)
	if err := j.Verify(); !errors.Is(err, journal.ErrVersion) {
		t.Errorf("Verify: %v", err)
	}
	if _, err := j.VerifyAgainst(journal.Head{Number: 9}); !errors.Is(err, journal.ErrVersion) || errors.As(err, new(*journal.TruncatedError)) {
		t.Errorf("VerifyAgainst: %v", err)
	}
	if err := j.Append(journal.Entry{Kind: "a"}); !errors.Is(err, journal.ErrVersion) {
		t.Errorf("Append: %v", err)
	}
	if content(t, dir) != before {
		t.Error("it was written to")
	}
}

func TestWhatWasAddedSinceAHead(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	heads := []journal.Head{{}}
	for range 3 {
		add(t, j, journal.Entry{Kind: "a"})
		heads = append(heads, head(t, dir))
	}
	for i, known := range heads {
		if known.Number != uint64(i) {
			t.Errorf("after %d entries the head is at %d", i, known.Number)
		}
		if added, err := j.VerifyAgainst(known); err != nil || added != uint64(3-i) {
			t.Errorf("since entry %d there are %d new ones (%v)", i, added, err)
		}
	}
}

func TestHeadAsBytes(t *testing.T) {
	h := head(t, with(t, 3))
	back, err := journal.ParseHead(h.Bytes())
	if err != nil || back != h {
		t.Errorf("%v became %v (%v)", h, back, err)
	}
	if _, err := journal.ParseHead(h.Bytes()[1:]); err == nil {
		t.Error("a short head is read")
	}
}

func TestTruncated(t *testing.T) {
	dir := with(t, 4)
	known := head(t, dir)
	l := lines(t, dir)
	check := func(name string, have uint64) {
		t.Helper()
		_, err := open(t, dir).VerifyAgainst(known)
		var truncated *journal.TruncatedError
		if !errors.As(err, &truncated) || *truncated != (journal.TruncatedError{Known: 4, Have: have}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	rewrite(t, dir, strings.Join(l[:3], ""))
	if err := open(t, dir).Verify(); err != nil {
		t.Errorf("the file alone can't show it, and yet: %v", err)
	}
	check("two entries gone", 2)
	rewrite(t, dir, strings.Join(l[:4], "")+l[4][:10])
	check("cut in a line", 3)
	if _, err := open(t, dir).VerifyAgainst(known); !errors.As(err, new(*journal.TornError)) {
		t.Errorf("the torn line is not named: %v", err)
	}
	rewrite(t, dir, l[0])
	check("all entries gone", 0)
	rewrite(t, dir, "")
	check("empty", 0)
	if err := os.Remove(file(dir)); err != nil {
		t.Fatal(err)
	}
	check("no file", 0)
}

func TestRewritten(t *testing.T) {
	dir := with(t, 3)
	known := head(t, dir)
	l := lines(t, dir)
	for name, content := range map[string]string{
		"another journal":        content(t, with(t, 3)),
		"another, longer one":    content(t, with(t, 5)),
		"the last line, changed": strings.Join(l[:3], "") + strings.Replace(l[3], "entry 3", "entry X", 1),
	} {
		rewrite(t, dir, content)
		if err := open(t, dir).Verify(); err != nil {
			t.Errorf("%s: the file alone can't show it, and yet: %v", name, err)
		}
		_, err := open(t, dir).VerifyAgainst(known)
		var rewritten *journal.RewrittenError
		if !errors.As(err, &rewritten) || rewritten.Number != 3 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A break after the known head must not hide behind a head that fits, nor a
// rewriting behind a break.
func TestBrokenAndKnown(t *testing.T) {
	dir := with(t, 2)
	known := head(t, dir)
	add(t, open(t, dir), journal.Entry{Kind: "a"}, journal.Entry{Kind: "b"})
	l := lines(t, dir)
	rewrite(t, dir, strings.Join(l[:3], "")+l[4])
	_, err := open(t, dir).VerifyAgainst(known)
	if !errors.As(err, new(*journal.BrokenError)) || errors.As(err, new(*journal.RewrittenError)) {
		t.Errorf("broken after the head: %v", err)
	}
	rewrite(t, dir, l[0]+l[2])
	_, err = open(t, dir).VerifyAgainst(known)
	if !errors.As(err, new(*journal.BrokenError)) || !errors.As(err, new(*journal.TruncatedError)) {
		t.Errorf("broken and short: %v", err)
	}
}

func TestReadOfACopy(t *testing.T) {
	dir := with(t, 3)
	n := 0
	for e, err := range journal.Read(strings.NewReader(content(t, dir))) {
		if n++; err != nil || e.Number != uint64(n) {
			t.Errorf("%v %v", e, err)
		}
	}
	if n != 3 {
		t.Errorf("%d entries are read", n)
	}
	gone := errors.New("the cable was pulled")
	var last error
	for _, last = range journal.Read(io.MultiReader(strings.NewReader(content(t, dir)), failing{gone})) {
	}
	if !errors.Is(last, gone) {
		t.Errorf("a reader that fails: %v", last)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
