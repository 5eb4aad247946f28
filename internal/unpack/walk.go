package unpack

import "strings"

// place is where a path leads.
type place struct {
	dir      *node  // the directory that the last part is in
	name     string // the last part
	at       *node  // what stands there; nil if nothing does
	slash    bool   // a slash ends the path, so only a directory can be meant
	followed bool   // the last part of the path that was asked for is a symbolic link
	dot      bool   // the last part is "." or "..": nothing can be made or removed by that name
}

// maxLinks is how many symbolic links Linux follows in one path.
const maxLinks = 40

// walk finds a path as Linux' path walk does, from the root. It follows symbolic
// links in the middle of the path, and at its end if it is told to or a slash
// follows. A reason is returned where a part other than the last is missing.
func (fs *rootfs) walk(path string, follow bool) (w place, lost string) {
	if path == "" {
		return place{}, "its name is empty"
	}
	dir, followed := fs.root, false
	for links := 0; ; {
		part, rest, slash := strings.Cut(strings.TrimLeft(path, "/"), "/")
		rest = strings.TrimLeft(rest, "/")
		last := rest == ""
		var at *node
		switch {
		case !dir.isType(typeDir):
			return place{}, "something in the middle of its path is no directory"
		case part == "" || part == ".":
			at = dir
		case part == "..":
			if at = dir; dir != fs.root {
				at = dir.parent
			}
		case len(part) > 255:
			return place{}, "a part of its path is longer than 255 bytes"
		default:
			at = dir.children[part]
		}
		dot := part == "" || part == "." || part == ".."
		switch {
		case at == nil && last:
			return place{dir: dir, name: part, slash: slash, followed: followed}, ""
		case at == nil:
			return place{}, "its directory is not there"
		case at.isType(typeLink) && (!last || slash || follow):
			if links++; links > maxLinks {
				return place{}, "its path runs in a circle of symbolic links"
			}
			if strings.HasPrefix(at.target, "/") {
				dir = fs.root
			}
			followed = followed || last
			path = at.target
			if slash {
				path += "/" + rest
			}
		case last && slash && !at.isType(typeDir):
			return place{}, "it has a slash at its end and a file stands at its path"
		case last:
			return place{dir: dir, name: part, at: at, slash: slash, dot: dot, followed: followed}, ""
		default:
			dir, path = at, rest
		}
	}
}
