package journal_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/journal"
)

var moment = time.Date(2026, 3, 1, 9, 14, 7, 0, time.UTC)

func TestWhatIsAppendedIsRead(t *testing.T) {
	j := open(t, t.TempDir())
	want := []journal.Entry{
		{Number: 1, Time: moment, Kind: journal.SetUp},
		{Number: 2, Time: moment, Kind: journal.Approved, Generation: 1<<64 - 1, Text: "Kernel 6.1 \"é\" \\ \x00\x1b[2J\u202e😀\n",
			Details: map[string]string{"medium": "stick\x7f", "": "?"}},
		{Number: 3, Time: moment, Kind: "a-kind-of-2031", Text: "later"},
	}
	delete(want[1].Details, "")
	for _, e := range want {
		e.Number = 99 // the journal gives numbers
		add(t, j, e)
	}
	if diff := cmp.Diff(want, all(t, j)); diff != "" {
		t.Errorf("-appended +read\n%s", diff)
	}
}

// The format is documented, and old journals must be read for ever.
func TestFormat(t *testing.T) {
	dir := t.TempDir()
	add(t, open(t, dir),
		journal.Entry{Time: moment, Kind: journal.SetUp, Text: "Set up."},
		journal.Entry{Time: moment, Kind: journal.Sealed, Generation: 7, Text: "\"\\é\x1b\u009b😀<>", Details: map[string]string{"b": "2", "a": "\t"}})
	lines := strings.SplitAfter(content(t, dir), "\n")
	if len(lines) != 4 || lines[3] != "" {
		t.Fatalf("there are %d lines", len(lines))
	}
	if !regexp.MustCompile(`^\{"n":0,"format":"anti-evil-maid journal","version":1,"id":"[0-9a-f]{32}"\}\n$`).MatchString(lines[0]) {
		t.Errorf("first line: %q", lines[0])
	}
	for i, want := range []string{
		`{"n":1,"prev":"%x","time":"2026-03-01T09:14:07Z","kind":"set-up","text":"Set up."}`,
		`{"n":2,"prev":"%x","time":"2026-03-01T09:14:07Z","kind":"sealed","generation":7,"text":"\"\\\u00e9\u001b\u009b\ud83d\ude00<>","details":{"a":"\u0009","b":"2"}}`,
	} {
		want = fmt.Sprintf(want, sha256.Sum256([]byte(lines[i]))) + "\n"
		if diff := cmp.Diff(want, lines[i+1]); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
}

func TestEachJournalHasItsOwnID(t *testing.T) {
	first, _, _ := strings.Cut(content(t, with(t, 1)), "\n")
	second, _, _ := strings.Cut(content(t, with(t, 1)), "\n")
	if first == second {
		t.Errorf("two journals begin with %s", first)
	}
}

func TestTimeIsNowInUTC(t *testing.T) {
	j := open(t, t.TempDir())
	before := time.Now().Truncate(time.Second)
	add(t, j, journal.Entry{Kind: journal.Opened}, journal.Entry{Kind: journal.Opened, Time: moment.In(time.FixedZone("", 3600)).Add(time.Millisecond)})
	list := all(t, j)
	if got := list[0].Time; got.Before(before) || got.After(time.Now()) || got.Location() != time.UTC {
		t.Errorf("the time of an entry without one is %v", got)
	}
	if got := list[1].Time; got != moment {
		t.Errorf("%v became %v", moment, got)
	}
}

func TestLookingWritesNothing(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	_, headErr := j.Head()
	var readErr error
	for _, readErr = range j.Entries() {
	}
	for _, err := range []error{headErr, readErr, j.Verify()} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of a journal that was not begun: %v", err)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("the folder has %v (%v)", list, err)
	}
	if _, err := journal.Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that does not exist: %v", err)
	}
}

func TestOnlyItsOwnerReadsIt(t *testing.T) {
	info, err := os.Stat(file(with(t, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("the mode is %v", info.Mode())
	}
}

func TestEntriesThatCanNotBeKept(t *testing.T) {
	dir := with(t, 1)
	before := content(t, dir)
	for name, e := range map[string]journal.Entry{
		"no kind":       {},
		"kind":          {Kind: "Sealed"},
		"kind's escape": {Kind: "sealed\x1b"},
		"kind's digit":  {Kind: "1sealed"},
		"long kind":     {Kind: journal.Kind(strings.Repeat("a", 33))},
		"year":          {Kind: "a", Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"nameless":      {Kind: "a", Details: map[string]string{"": "x"}},
		"bytes as name": {Kind: "a", Details: map[string]string{"\xff": "x"}},
		"long":          {Kind: "a", Text: strings.Repeat("x", 1<<20)},
		"long escapes":  {Kind: "a", Text: strings.Repeat("\x01", 1<<18)},
	} {
		if err := open(t, dir).Append(e); !errors.Is(err, journal.ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if content(t, dir) != before {
		t.Error("the journal was changed")
	}
}

func TestLongestEntry(t *testing.T) {
	j := open(t, t.TempDir())
	n := 1 << 20
	e := journal.Entry{Kind: "a", Time: moment}
	for ; ; n-- {
		e.Text = strings.Repeat("x", n)
		if err := j.Append(e); err == nil {
			break
		} else if !errors.Is(err, journal.ErrEntry) {
			t.Fatal(err)
		}
	}
	if n < 1<<20-256 {
		t.Errorf("only %d bytes of text are kept", n)
	}
	add(t, j, e)
	if got := all(t, j); len(got) != 2 || got[1].Text != e.Text {
		t.Errorf("%d entries are read", len(got))
	}
	if err := j.Verify(); err != nil {
		t.Error(err)
	}
}

func TestBytesThatAreNotText(t *testing.T) {
	j := open(t, t.TempDir())
	add(t, j, journal.Entry{Kind: "a", Text: "a\xffb\xc3", Details: map[string]string{"file": "\x80"}})
	got := all(t, j)[0]
	if got.Text != `a\xffb\xc3` || got.Details["file"] != `\x80` {
		t.Errorf("%q", got)
	}
}

func TestNothingReachesTheTerminal(t *testing.T) {
	e := journal.Entry{Number: 3, Time: moment, Kind: "a\x1b", Generation: 2, Text: "\x1b[2J\u009b\u202ex", Details: map[string]string{"k\n": "v\r", "a": "b c"}}
	const want = `3  2026-03-01T09:14:07Z  a\x1b  generation 2  \x1b[2J\u009b\u202ex  a="b c"  k\n="v\\r"`
	if diff := cmp.Diff(want, e.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range b {
		if c < ' ' || c > '~' {
			t.Errorf("JSON has the byte %#02x: %s", c, b)
		}
	}
	var back struct{ Text string }
	if err := json.Unmarshal(b, &back); err != nil || back.Text != e.Text {
		t.Errorf("%q (%v)", back.Text, err)
	}
}

// A link in the journal's place must not make root write elsewhere, and a pipe not
// make it wait.
func TestOnlyARegularFileIsOpened(t *testing.T) {
	for name, place := range map[string]func(string) error{
		"link":   func(p string) error { return os.Symlink("elsewhere", p) },
		"pipe":   func(p string) error { return unix.Mkfifo(p, 0o600) },
		"folder": func(p string) error { return os.Mkdir(p, 0o700) },
	} {
		dir := t.TempDir()
		if err := place(file(dir)); err != nil {
			t.Fatal(err)
		}
		j := open(t, dir)
		if err := j.Append(journal.Entry{Kind: "a"}); err == nil {
			t.Errorf("%s: an entry is written", name)
		}
		if err := j.Verify(); err == nil {
			t.Errorf("%s: it verifies", name)
		}
		if _, err := os.Stat(filepath.Join(dir, "elsewhere")); err == nil {
			t.Errorf("%s: a file elsewhere was made", name)
		}
	}
}
