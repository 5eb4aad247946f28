package journal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/internal/journal"
)

func open(t testing.TB, dir string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func add(t testing.TB, j *journal.Journal, entries ...journal.Entry) {
	t.Helper()
	for _, e := range entries {
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
	}
}

// with makes a journal of n entries and returns its folder.
func with(t testing.TB, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		add(t, open(t, dir), journal.Entry{Kind: journal.Sealed, Text: fmt.Sprintf("entry %d", i+1)})
	}
	return dir
}

func all(t testing.TB, j *journal.Journal) []journal.Entry {
	t.Helper()
	var list []journal.Entry
	for e, err := range j.Entries() {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

func file(dir string) string { return filepath.Join(dir, "journal") }

func content(t testing.TB, dir string) string {
	t.Helper()
	b, err := os.ReadFile(file(dir))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func rewrite(t testing.TB, dir, content string) {
	t.Helper()
	if err := os.WriteFile(file(dir), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
