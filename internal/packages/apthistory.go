package packages

import (
	"slices"
	"strings"
	"time"
)

// aptRun is a paragraph of apt's history: what one command did.
type aptRun struct {
	start, end time.Time // end is zero where it was interrupted
	command    string
	changes    []debChange
}

// parseHistory reads paragraphs such as
//
//	Start-Date: 2025-06-24  14:36:25
//	Commandline: apt-get upgrade
//	Upgrade: libudev1:amd64 (252.36-1~deb12u1, 252.38-1~deb12u1), ...
//	End-Date: 2025-06-24  14:36:25
func parseHistory(s string, zone *time.Location) []aptRun {
	var list []aptRun
	var run aptRun
	total := 0
	end := func() {
		if !run.start.IsZero() {
			for i := range run.changes {
				run.changes[i].When, run.changes[i].Command = run.start, run.command
			}
			list = append(list, run)
		}
		run = aptRun{}
	}
	for line := range strings.Lines(s) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			end()
			continue
		}
		field, value, _ := strings.Cut(line, ": ")
		switch field {
		case "Start-Date":
			run.start = aptTime(value, zone)
		case "End-Date":
			run.end = aptTime(value, zone)
		case "Commandline":
			run.command = value
		case "Install", "Upgrade", "Downgrade", "Reinstall", "Remove", "Purge":
			for item := range strings.SplitSeq(value, "), ") {
				if c, ok := parseItem(field, item); ok && total < maxEvents {
					run.changes = append(run.changes, c)
					total++
				}
			}
		}
	}
	end()
	return list
}

func aptTime(s string, zone *time.Location) time.Time {
	when, err := time.ParseInLocation("2006-01-02  15:04:05", s, zone)
	if err != nil {
		return time.Time{}
	}
	return when
}

// parseItem reads "name:arch (version, automatic)" or "name:arch (old, new)".
func parseItem(field, item string) (debChange, bool) {
	key, versions, ok := strings.Cut(strings.TrimSuffix(item, ")"), " (")
	if !ok {
		return debChange{}, false
	}
	first, second, _ := strings.Cut(versions, ", ")
	c := debChange{key: key}
	switch field {
	case "Install":
		c.To = first
	case "Reinstall":
		c.From, c.To = first, first
	case "Remove", "Purge":
		c.From = first
	default:
		c.From, c.To = first, second
	}
	return c, first != ""
}

// slack is for logs that round to seconds.
const slack = 2 * time.Second

// join adds to dpkg's changes the commands that apt was given, and those that only apt
// has kept. Both logs rotate, and one of them may have been deleted. Packages for all
// architectures have the machine's own in apt's history; forAll has their names.
func join(list []debChange, runs []aptRun, forAll map[string]bool) []debChange {
	byKey := map[string][]int{}
	for i, c := range list {
		byKey[c.key] = append(byKey[c.key], i)
	}
	for _, run := range runs {
		for _, c := range run.changes {
			name := shortKey(c.key)
			if all := name + ":all"; byKey[c.key] == nil && (byKey[all] != nil || forAll[name]) {
				c.key = all
			}
			known := false
			for _, i := range byKey[c.key] {
				d := &list[i]
				if d.To == c.To && !d.When.Before(run.start.Add(-slack)) && (run.end.IsZero() || !d.When.After(run.end.Add(slack))) {
					d.Command, known = c.Command, true
				}
			}
			if !known {
				list = append(list, c)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b debChange) int { return a.When.Compare(b.When) })
	return list
}
