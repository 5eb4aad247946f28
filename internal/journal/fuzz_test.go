package journal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/journal"
)

func seed(f *testing.F) {
	f.Helper()
	dir := with(f, 2)
	add(f, open(f, dir), journal.Entry{Time: moment, Kind: "a", Generation: 3, Text: "\x1b\xff\"\\é😀", Details: map[string]string{"a": "b"}})
	whole := content(f, dir)
	for _, s := range []string{whole, whole[:len(whole)-20], strings.Replace(whole, "entry", "\x00\x00\x00\x00\x00", 2), "", "\n", "{}\n{}\n",
		strings.Repeat("[", 20000) + "\n", whole + `{"n":4,"prev":"` + strings.Repeat("[", 20000) + "\n"} {
		f.Add([]byte(s))
	}
}

// Whatever the bytes, reading ends, and what reads without an error reads the same
// from a file.
func FuzzRead(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var texts []string
		clean := true
		for e, err := range journal.Read(bytes.NewReader(b)) {
			if s := e.String(); strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%q reaches the terminal", s)
			}
			clean = clean && err == nil
			texts = append(texts, e.Text)
		}
		for i, c := range b {
			if clean && c != '\n' && (c < ' ' || c > '~') {
				t.Fatalf("byte %d of a journal without fault is %#02x", i, c)
			}
		}
		if len(texts) > len(b)+1 {
			t.Errorf("%d bytes have %d entries", len(b), len(texts))
		}
	})
}

// Whatever stands in the file, Append adds an entry behind it or leaves the file alone,
// and never loses a byte.
func FuzzAppend(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		rewrite(t, dir, string(b))
		j := open(t, dir)
		verified := j.Verify()
		before, headErr := j.Head()
		err := j.Append(journal.Entry{Kind: "new"})
		after := content(t, dir)
		if err != nil {
			if after != string(b) {
				t.Errorf("Append changed the file although it says: %v", err)
			}
			if verified == nil {
				t.Errorf("a journal without fault takes no entry: %v", err)
			}
			return
		}
		if headErr != nil {
			t.Errorf("Append continued what has no head: %v", headErr)
		}
		if h, err := j.Head(); err != nil || h.Number <= before.Number {
			t.Errorf("the head went from %d to %d (%v)", before.Number, h.Number, err)
		}
		var torn []byte
		names, _ := filepath.Glob(filepath.Join(dir, "*.torn"))
		for _, name := range names {
			torn, _ = os.ReadFile(name)
		}
		if kept := len(b) - len(torn); kept < 0 || !bytes.HasPrefix([]byte(after), b[:kept]) || !bytes.Equal(b[kept:], torn) {
			t.Errorf("bytes were lost: %d before, %d torn", len(b), len(torn))
		}
		if now := j.Verify(); (verified == nil || errors.As(verified, new(*journal.TornError))) && now != nil {
			t.Errorf("it verified (%v), and now: %v", verified, now)
		}
	})
}

func FuzzParseHead(f *testing.F) {
	f.Add(binary.BigEndian.AppendUint64(make([]byte, 0, journal.HeadSize), 7))
	f.Add(make([]byte, journal.HeadSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := journal.ParseHead(b)
		if err == nil && !bytes.Equal(h.Bytes(), b) || (err == nil) != (len(b) == journal.HeadSize) {
			t.Errorf("%x became %x (%v)", b, h.Bytes(), err)
		}
	})
}

// A line of gigabytes costs time, but no memory.
func TestALineOfGigabytes(t *testing.T) {
	const size = 1 << 30
	j := content(t, with(t, 2))
	r := io.MultiReader(strings.NewReader(j), io.LimitReader(xs{}, size), strings.NewReader("\n"), strings.NewReader(j))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var lines []uint64
	for _, err := range journal.Read(r) {
		var broken *journal.BrokenError
		if errors.As(err, &broken) {
			lines = append(lines, broken.Line)
		}
	}
	runtime.ReadMemStats(&after)
	if diff := cmp.Diff([]uint64{4, 5, 6, 7}, lines); diff != "" { // and the second journal does not belong here
		t.Errorf("broken lines: -want +got\n%s", diff)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
		t.Errorf("it took %d bytes of memory", used)
	}
}

// xs is a file of one letter.
type xs struct{}

func (xs) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}
