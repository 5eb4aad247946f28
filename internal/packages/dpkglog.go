package packages

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

const (
	maxLogs   = 200     // rotated files of one log
	maxEvents = 4 << 20 // of all of them
)

// logEvent is a line of dpkg's log that says what happened to a package.
type logEvent struct {
	when     time.Time
	action   string // "install", "upgrade", "remove", "configure", "trigproc"; "installed", the state; "startup"
	key      string // name and architecture, with a colon between
	from, to string
}

var logActions = []string{"install", "upgrade", "remove", "configure", "trigproc"}

// parseLog reads lines such as
//
//	2025-06-24 14:36:25 upgrade libudev1:amd64 252.36-1~deb12u1 252.38-1~deb12u1
//	2025-06-24 14:36:25 status installed libudev1:amd64 252.38-1~deb12u1
//
// and leaves out what it does not know.
func parseLog(s string, zone *time.Location) []logEvent {
	var list []logEvent
	for line := range strings.Lines(s) {
		w := strings.Fields(line)
		if len(w) < 5 || len(w) > 6 || len(line) > 4096 {
			continue
		}
		e := logEvent{action: w[2]}
		switch {
		case w[2] == "startup": // "startup archives unpack"
		case len(w) == 5:
			continue
		case slices.Contains(logActions, w[2]):
			e.key, e.from, e.to = w[3], version(w[4]), version(w[5])
		case w[2] == "status" && w[3] == "installed":
			e.action, e.key, e.to = "installed", w[4], version(w[5])
		default:
			continue
		}
		var err error
		if e.when, err = time.ParseInLocation(time.DateTime, w[0]+" "+w[1], zone); err != nil {
			continue
		}
		if len(list) == maxEvents {
			break
		}
		list = append(list, e)
	}
	return list
}

// version is what a log says in the place of a version, "<none>" for none.
func version(s string) string {
	if s == "<none>" {
		return ""
	}
	return s
}

// readLogs calls read with a log and those that were rotated, in any order. Those that
// are packed otherwise than by gzip are left out.
func (t *tree) readLogs(dir, name string, read func(string)) error {
	names, err := t.names(dir)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !isLog(n, name) })
	if len(names) > maxLogs {
		return fmt.Errorf("%s has more than %d logs of the name %s", dir, maxLogs, name)
	}
	for _, n := range names {
		b, err := t.readPacked(dir + "/" + n)
		if errors.Is(err, fs.ErrNotExist) { // rotated in this moment
			continue
		}
		if err != nil {
			return err
		}
		read(string(b))
	}
	return nil
}

// isLog reports "dpkg.log", "dpkg.log.1", "dpkg.log.2.gz".
func isLog(n, name string) bool {
	rest, ok := strings.CutPrefix(n, name)
	if !ok || rest == "" {
		return ok
	}
	digits, ok := strings.CutPrefix(strings.TrimSuffix(rest, ".gz"), ".")
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// changes picks the changes of packages from the log.
func changes(events []logEvent) []debChange {
	var list []debChange
	for _, e := range events {
		switch e.action {
		case "install", "upgrade":
			list = append(list, debChange{e.key, Change{From: e.from, To: e.to, When: e.when}})
		case "remove": // "remove bash:amd64 5.2 <none>"
			list = append(list, debChange{e.key, Change{From: e.from, When: e.when}})
		}
	}
	return list
}

// debChange is a change and the package's key, with its architecture.
type debChange struct {
	key string
	Change
}
