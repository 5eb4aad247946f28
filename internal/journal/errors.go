package journal

import (
	"errors"
	"fmt"
)

// ErrVersion is the first line of a journal that a newer program began.
var ErrVersion = errors.New("the journal has a format that this program does not know: use the newer one")

// BrokenError says at which line a journal is not what it was. Line 1 is the first
// line; entry n stands in line n+1. Line 0 is the last line, of a journal whose lines
// were not counted.
type BrokenError struct {
	Line   uint64
	Reason string
}

func broken(line uint64, format string, args ...any) error {
	return &BrokenError{line, fmt.Sprintf(format, args...)}
}

func (e *BrokenError) Error() string {
	where := fmt.Sprintf("line %d", e.Line)
	if e.Line == 0 {
		where = "its last line"
	}
	return fmt.Sprintf("the journal is broken at %s: %s; look at it, then move it away to begin a new one", where, e.Reason)
}

// TornError says that the last line is not whole. All before it can be in order: the
// power may have failed while it was written. Somebody may also have cut the file.
type TornError struct {
	Line  uint64
	Bytes int64 // of it that are there
}

func (e *TornError) Error() string {
	return fmt.Sprintf("line %d, the last of the journal, is torn: %d bytes of it are there; power failed while it was written, or the file was cut", e.Line, e.Bytes)
}

// TruncatedError says that entries are gone which were known to exist.
type TruncatedError struct {
	Known, Have uint64 // the number of the last entry, then and now
}

func (e *TruncatedError) Error() string {
	if e.Have == 0 {
		return fmt.Sprintf("the journal was cut short: of %d entries none is there", e.Known)
	}
	return fmt.Sprintf("the journal was cut short: it had %d entries and has %d", e.Known, e.Have)
}

// RewrittenError says that the journal up to an entry is another one than it was. The
// chain of the other one may be without fault.
type RewrittenError struct {
	Number uint64 // the known entry; 0 is the first line
}

func (e *RewrittenError) Error() string {
	return fmt.Sprintf("the journal was rewritten: up to entry %d it is not the one that was known", e.Number)
}
