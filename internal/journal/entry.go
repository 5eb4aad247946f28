package journal

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/antievilmaid/aem/eventlog"
)

// An Entry is one thing that happened. It must hold no secret: everybody who can read
// the disk can read it, for ever.
type Entry struct {
	Number     uint64    // from 1, without gaps; Append gives it
	Time       time.Time // UTC, whole seconds; Append takes the zero time for now
	Kind       Kind
	Generation uint64            // of the sealed record it is about, 0 if none
	Text       string            // for people: one sentence
	Details    map[string]string // for programs
}

// ErrEntry is what Append refuses: a kind that is no word, a time outside of the
// years 0 to 9999, a detail without a name, or an entry of more than 1 MiB.
var ErrEntry = errors.New("the journal can't keep this entry")

// normal is the entry as a line can hold it. Bytes that are not UTF-8, which the
// names of files may have, become \xNN.
func (e Entry) normal() (Entry, error) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC().Truncate(time.Second)
	if y := e.Time.Year(); y < 0 || y > 9999 {
		return e, fmt.Errorf("%w: the year is %d", ErrEntry, y)
	}
	if !e.Kind.valid() {
		return e, fmt.Errorf("%w: its kind %q is not a word of small letters", ErrEntry, e.Kind)
	}
	e.Text = readable(e.Text)
	details := make(map[string]string, len(e.Details))
	for name, value := range e.Details {
		if name == "" || !utf8.ValidString(name) {
			return e, fmt.Errorf("%w: a detail has the name %q", ErrEntry, name)
		}
		details[name] = readable(value)
	}
	e.Details = details
	return e, nil
}

func readable(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// String is the entry in one line for a terminal. Whatever could move the cursor or
// hide text is escaped: parts of an entry come from logs and boot partitions.
func (e Entry) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d  %s  %s", e.Number, e.Time.UTC().Format(time.RFC3339), shown(string(e.Kind)))
	if e.Generation != 0 {
		fmt.Fprintf(&b, "  generation %d", e.Generation)
	}
	if e.Text != "" {
		b.WriteString("  " + shown(e.Text))
	}
	for _, name := range slices.Sorted(maps.Keys(e.Details)) {
		fmt.Fprintf(&b, "  %s=%q", shown(name), shown(e.Details[name]))
	}
	return b.String()
}

func shown(s string) string { return eventlog.Printable([]byte(s)) }
