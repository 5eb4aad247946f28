package bootentry

import (
	"strconv"
	"strings"
)

// A value of a GRUB variable is text. Some values can't be known from here: what
// the firmware answered, what the hardware is, which disk has which number. Such a
// value holds a mark in place of the text, and the mark travels with it through
// assignments and concatenations. Whatever would need the text itself, a path or a
// command line for instance, refuses a marked value and says where the mark came
// from. A mark begins and ends with a zero byte, which no text of GRUB's can hold.
const (
	markUnknown = "u" // the number after it is an index into evaluator.reasons
	markDevice  = "d" // the number after it is an index into evaluator.devices
	markFailure = "f" // the status of a command that fails; GRUB's number for it is not modelled
)

func mark(kind string, n int) string { return "\x00" + kind + strconv.Itoa(n) + "\x00" }

// The status of commands. That of one that fails is a number that is not modelled,
// but for a test, whose number scripts may look at (GRUB_ERR_TEST_FAILURE).
const (
	success = "0"
	untrue  = "1"
)

var failure = mark(markFailure, 0)

func marked(s string) bool { return strings.IndexByte(s, 0) >= 0 }

// firstMark takes apart the first mark in s.
func firstMark(s string) (before, kind string, n int, after string, ok bool) {
	before, rest, ok := strings.Cut(s, "\x00")
	if !ok || rest == "" {
		return s, "", 0, "", false
	}
	body, after, ok := strings.Cut(rest, "\x00")
	if !ok || len(body) < 2 {
		return s, "", 0, "", false
	}
	n, err := strconv.Atoi(body[1:])
	return before, body[:1], n, after, err == nil
}

// isUnknown tells whether s holds a mark that may stand for any text, blanks included.
func isUnknown(s string) bool {
	for {
		_, kind, _, after, ok := firstMark(s)
		if !ok {
			return false
		}
		if kind == markUnknown {
			return true
		}
		s = after
	}
}

// unknown gives a value for which reason says why it is not known.
func (e *evaluator) unknown(reason string) string {
	if n, ok := e.reasonOf[reason]; ok {
		return mark(markUnknown, n)
	}
	e.reasonOf[reason] = len(e.reasons)
	e.reasons = append(e.reasons, reason)
	return mark(markUnknown, len(e.reasons)-1)
}

// why says why s is not known.
func (e *evaluator) why(s string) string {
	_, kind, n, _, ok := firstMark(s)
	switch {
	case ok && kind == markUnknown && n < len(e.reasons):
		return e.reasons[n]
	case ok && kind == markDevice:
		return "it holds the name that GRUB gives to a disk"
	}
	return "it holds the number of an error"
}

// printable is s for people.
func printable(s string) string {
	var b strings.Builder
	for {
		before, kind, _, after, ok := firstMark(s)
		b.WriteString(before)
		if !ok {
			return strings.ReplaceAll(b.String(), "\x00", "?")
		}
		b.WriteString(map[string]string{markDevice: "disk"}[kind])
		if kind != markDevice {
			b.WriteByte('?')
		}
		s = after
	}
}
