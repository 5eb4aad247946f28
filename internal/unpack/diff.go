package unpack

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Kind is what happened to a file between two images.
type Kind int

// The kinds of changes.
const (
	Added Kind = iota + 1
	Removed
	Changed
	Covered // the image holds it newly, but its file system does not show it: see [Hidden]
)

func (k Kind) String() string {
	switch k {
	case Added:
		return "added"
	case Removed:
		return "removed"
	case Changed:
		return "changed"
	case Covered:
		return "covered"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// Change is a difference between two images. Path is as the image has it: escape
// it before it reaches a terminal. Paths and targets in Detail are quoted.
type Change struct {
	Path   string
	Kind   Kind
	Detail string // such as "contents, mode 0644 -> 0755", `link target "a" -> "b"` or, for what was added, "directory"
}

// Diff lists what makes after different from before, sorted by path. What was
// hidden in before is left out: it did not run and is no longer there.
func Diff(before, after *Tree) []Change {
	var list []Change
	old, new := before.Files, after.Files
	for len(old) > 0 || len(new) > 0 {
		order := 0
		switch {
		case len(old) == 0:
			order = 1
		case len(new) == 0:
			order = -1
		default:
			order = cmp.Compare(old[0].Path, new[0].Path)
		}
		switch {
		case order < 0:
			list = append(list, Change{old[0].Path, Removed, describe(old[0])})
			old = old[1:]
		case order > 0:
			list = append(list, Change{new[0].Path, Added, describe(new[0])})
			new = new[1:]
		default:
			if d := difference(old[0], new[0]); d != "" {
				list = append(list, Change{new[0].Path, Changed, d})
			}
			old, new = old[1:], new[1:]
		}
	}
	known := map[Hidden]int{}
	for _, h := range before.Hidden {
		known[anySegment(h)]++
	}
	for _, h := range after.Hidden {
		if known[anySegment(h)]--; known[anySegment(h)] < 0 {
			list = append(list, Change{h.Path, Covered, describe(h.File) + ": " + h.Why})
		}
	}
	slices.SortStableFunc(list, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	return list
}

func anySegment(h Hidden) Hidden {
	h.Segment = 0
	return h
}

// describe says what a file is.
func describe(f File) string {
	perm := fmt.Sprintf("mode %04o", f.Mode&permMask)
	switch f.Mode & typeMask {
	case typeFile:
		return fmt.Sprintf("%d bytes, %s", f.Size, perm)
	case typeLink:
		return fmt.Sprintf("link to %q", f.Target)
	case typeBlock, typeChar:
		return fmt.Sprintf("%s %d:%d, %s", typeName(f.Mode), f.Major, f.Minor, perm)
	}
	return typeName(f.Mode) + ", " + perm
}

func typeName(mode uint32) string {
	switch mode & typeMask {
	case typeFile:
		return "file"
	case typeLink:
		return "link"
	case typeDir:
		return "directory"
	case typeBlock:
		return "block device"
	case typeChar:
		return "character device"
	case typeFIFO:
		return "named pipe"
	case typeSocket:
		return "socket"
	}
	return fmt.Sprintf("type %06o", mode&typeMask)
}

// difference says what changed of a file, or "" if nothing did.
func difference(a, b File) string {
	var what []string
	say := func(format string, args ...any) { what = append(what, fmt.Sprintf(format, args...)) }
	if a.Mode&typeMask != b.Mode&typeMask {
		say("%s -> %s", typeName(a.Mode), typeName(b.Mode))
	} else if a.Sum != b.Sum {
		say("contents")
	}
	if a.Target != b.Target {
		say("link target %q -> %q", a.Target, b.Target)
	}
	if a.Mode&permMask != b.Mode&permMask {
		say("mode %04o -> %04o", a.Mode&permMask, b.Mode&permMask)
	}
	if a.UID != b.UID || a.GID != b.GID {
		say("owner %d:%d -> %d:%d", a.UID, a.GID, b.UID, b.GID)
	}
	if a.Major != b.Major || a.Minor != b.Minor {
		say("device %d:%d -> %d:%d", a.Major, a.Minor, b.Major, b.Minor)
	}
	return strings.Join(what, ", ")
}
