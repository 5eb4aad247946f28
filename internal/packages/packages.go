package packages

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// A Database answers from the records of one package manager. The records are read
// once: open it anew after packages changed. It is for one goroutine.
type Database interface {
	// Explain says what the records know about a file of the root that was opened, and
	// compares its content. Links are followed. Times are held against since, the time
	// of the last approval.
	//
	// That the records don't explain a file is no error: then the Explanation says why
	// not. Errors are records or files that can't be read.
	Explain(path string, since time.Time) (Explanation, error)

	// ExplainContent does the same for content that is read from elsewhere, so that the
	// bytes that will be measured are the ones that are compared, and files in an
	// initrd can be held against the packages that they were copied from.
	ExplainContent(path string, content io.Reader, since time.Time) (Explanation, error)

	// Changes lists what was installed, upgraded and removed since then, oldest first.
	Changes(since time.Time) ([]Change, error)
}

// An Explanation is what the records say about one file. Text in it comes from the
// records as it is, but Why is safe for a terminal.
type Explanation struct {
	// Package is the one that the file belongs to; of a generated file, the one that
	// makes it. Empty: none.
	Package string
	// Version is the installed one, PreviousVersion the one at the time since, or before
	// the last change if nothing changed since then. It is empty where there was none
	// or the records no longer know.
	Version, PreviousVersion string
	// When the package, or the generated file, was changed last. Zero: unknown.
	When time.Time

	// Verified: the content has the checksum that an installed package recorded.
	Verified bool

	// Generated: no package recorded the content, but the file was written, after since,
	// while the package manager had it made. This is weaker than Verified. It relies on
	// the file's time of change, which whoever can write the file can choose: an
	// attacker who knows when packages were changed, and had the disk after that, is not
	// found out. Approve such a file only in the session in which it was made.
	Generated bool
	// Changes are, for a generated file, those from since until it was written; first the
	// ones that have it made anew.
	Changes []Change

	// Why says all this in a sentence or two, also why the file is not explained.
	Why string
}

// A Change is a package that was installed, upgraded, downgraded, reinstalled or
// removed.
type Change struct {
	Package  string
	From, To string // versions; empty where it was, or is, not installed
	When     time.Time
	Command  string // that was given to apt; empty if unknown
	Reason   string // why it leads to a new initrd; only in an Explanation
}

func (c Change) String() string {
	switch {
	case c.From == "":
		return fmt.Sprintf("%s %s was installed", shown(c.Package), shown(c.To))
	case c.To == "":
		return fmt.Sprintf("%s %s was removed", shown(c.Package), shown(c.From))
	case c.From == c.To:
		return fmt.Sprintf("%s %s was installed again", shown(c.Package), shown(c.To))
	}
	return fmt.Sprintf("%s went from %s to %s", shown(c.Package), shown(c.From), shown(c.To))
}

// ErrNoDatabase is a machine without the records of a package manager that is known
// here.
var ErrNoDatabase = errors.New("there are no records of dpkg or rpm")

// Open reads the records of the system whose root folder is given, "/" for the one
// that runs.
func Open(root string) (Database, error) {
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	switch {
	case t.exists("/var/lib/dpkg/status"):
		return openDpkg(t)
	case t.exists("/usr/lib/sysimage/rpm"), t.exists("/var/lib/rpm"):
		return openRPM(t, runRPM(root))
	}
	return nil, fmt.Errorf("%w under %s", ErrNoDatabase, root)
}
