package journal_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/journal"
)

// tornFiles returns what was set aside, by name.
func tornFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "journal.*.torn"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(name)] = string(b)
	}
	return files
}

// Wherever the power fails while the last line is written, nothing before it is lost
// and the torn line is kept.
func TestPowerFailsInALine(t *testing.T) {
	whole := content(t, with(t, 2))
	last := strings.LastIndexByte(strings.TrimSuffix(whole, "\n"), '\n') + 1
	states := map[string]string{"a hole": whole[:last+50] + strings.Repeat("\x00", 40) + whole[last+90:]}
	for cut := last + 1; cut < len(whole); cut += 7 {
		states[fmt.Sprintf("cut at %d", cut-last)] = whole[:cut]
	}
	states["only the line feed is missing"] = whole[:len(whole)-1]
	states["only zeros"] = whole[:last] + strings.Repeat("\x00", 512)
	for name, state := range states {
		dir := t.TempDir()
		rewrite(t, dir, state)
		j := open(t, dir)
		var torn *journal.TornError
		if err := j.Verify(); !errors.As(err, &torn) || *torn != (journal.TornError{Line: 3, Bytes: int64(len(state) - last)}) {
			t.Errorf("%s: Verify: %v", name, err)
		}
		if h, err := j.Head(); err != nil || h.Number != 1 {
			t.Errorf("%s: the head is at %d (%v)", name, h.Number, err)
		}
		if content(t, dir) != state {
			t.Errorf("%s: reading wrote", name)
		}
		if err := j.Append(journal.Entry{Kind: journal.Opened, Text: "after"}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		list := all(t, j)
		if len(list) != 3 || list[0].Text != "entry 1" || list[1].Kind != journal.Torn || list[2].Text != "after" {
			t.Errorf("%s: the entries are %v", name, list)
			continue
		}
		kept := tornFiles(t, dir)
		if d := list[1].Details; len(kept) != 1 || kept[d["file"]] != state[last:] || d["bytes"] != fmt.Sprint(len(state)-last) ||
			d["sha256"] != fmt.Sprintf("%x", sha256.Sum256([]byte(state[last:]))) {
			t.Errorf("%s: %v was kept of %q, and the entry says %v", name, kept, state[last:], d)
		}
	}
}

// The first line can be torn too, also when it is all there is.
func TestPowerFailsInTheFirstLine(t *testing.T) {
	first, _, _ := strings.Cut(content(t, with(t, 1)), "\n")
	for _, state := range []string{first, first[:1], strings.Repeat("\x00", 100), strings.Repeat("\x00", 100) + "\n"} {
		dir := t.TempDir()
		rewrite(t, dir, state)
		j := open(t, dir)
		if err := j.Verify(); !errors.As(err, new(*journal.TornError)) {
			t.Errorf("%q: %v", state, err)
		}
		add(t, j, journal.Entry{Kind: "a"})
		if list := all(t, j); len(list) != 2 || list[0].Kind != journal.Torn {
			t.Errorf("%q: the entries are %v", state, list)
		}
		if kept := tornFiles(t, dir); len(kept) != 1 {
			t.Errorf("%q: kept is %v", state, kept)
		}
	}
}

// An empty file is what a power cut leaves between making it and its first line.
func TestEmptyFile(t *testing.T) {
	dir := t.TempDir()
	rewrite(t, dir, "")
	j := open(t, dir)
	if h, err := j.Head(); err != nil || h != (journal.Head{}) {
		t.Errorf("%v %v", h, err)
	}
	add(t, j, journal.Entry{Kind: "a"})
	if list := all(t, j); len(list) != 1 {
		t.Errorf("%v", list)
	}
}

// The power may also fail while a torn line is set aside: after its file was written,
// and after it was cut off.
func TestPowerFailsWhileATornLineIsSetAside(t *testing.T) {
	dir := with(t, 2)
	before := content(t, dir)
	rewrite(t, dir, before+"half a li")
	add(t, open(t, dir), journal.Entry{Kind: "a"})
	kept := tornFiles(t, dir)

	rewrite(t, dir, before+"half a li")
	add(t, open(t, dir), journal.Entry{Kind: "a"})
	if again := tornFiles(t, dir); len(again) != 1 || len(kept) != 1 {
		t.Errorf("%v became %v", kept, again)
	}
	rewrite(t, dir, before)
	add(t, open(t, dir), journal.Entry{Kind: "a"})
	if err := open(t, dir).Verify(); err != nil {
		t.Error(err)
	}
	rewrite(t, dir, before+"half another")
	add(t, open(t, dir), journal.Entry{Kind: "a"})
	if two := tornFiles(t, dir); len(two) != 2 {
		t.Errorf("of two torn lines with one number %v is kept", two)
	}
}

// What no power cut leaves is not repaired: somebody must look.
func TestABrokenEndIsNotContinued(t *testing.T) {
	dir := with(t, 2)
	before := content(t, dir)
	for name, state := range map[string]string{
		"another line":         before + "goodbye\n",
		"a gigantic torn line": before + strings.Repeat("x", 1<<20),
		"a gigantic line":      before + strings.Repeat("x", 1<<21) + "\n",
		"two torn lines":       before + "\x00\n" + "half",
		"no first line":        before[strings.IndexByte(before, '\n')+1:][:4] + "\n",
	} {
		rewrite(t, dir, state)
		var broken *journal.BrokenError
		if err := open(t, dir).Append(journal.Entry{Kind: "a"}); !errors.As(err, &broken) {
			t.Errorf("%s: Append: %v", name, err)
		} else if !strings.Contains(err.Error(), "move it away") {
			t.Errorf("%s: no way out is named: %v", name, err)
		}
		if err := open(t, dir).Verify(); !errors.As(err, &broken) {
			t.Errorf("%s: Verify: %v", name, err)
		}
		if content(t, dir) != state {
			t.Errorf("%s: it was written to", name)
		}
	}
}
