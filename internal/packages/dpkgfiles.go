package packages

import (
	"errors"
	"io/fs"
	"path"
	"strings"
)

// index says which packages list a path.
type index struct {
	first map[string]int32 // most paths have one
	more  map[string][]int32
}

func (x *index) add(p string, pkg int32) {
	if _, ok := x.first[p]; ok {
		x.more[p] = append(x.more[p], pkg)
		return
	}
	x.first[p] = pkg
}

func (x *index) of(p string) []int32 {
	pkg, ok := x.first[p]
	if !ok {
		return nil
	}
	return append([]int32{pkg}, x.more[p]...)
}

// readIndex reads the lists of all packages.
func (d *dpkg) readIndex() (*index, error) {
	x := &index{map[string]int32{}, map[string][]int32{}}
	for i := range d.status {
		b, err := d.info(i, "list")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			x.add(d.usrMerged(strings.TrimRight(line, "\n")), int32(i))
		}
	}
	return x, nil
}

// info reads a file about a package, such as its "list". One that is not there is
// empty.
func (d *dpkg) info(pkg int, kind string) ([]byte, error) {
	b, err := d.tree.read(d.infoPath(pkg, kind))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func (d *dpkg) infoPath(pkg int, kind string) string {
	p := d.status[pkg]
	if p.same {
		return "/var/lib/dpkg/info/" + p.name + ":" + p.arch + "." + kind
	}
	return "/var/lib/dpkg/info/" + p.name + "." + kind
}

// sums returns the recorded checksums of a package's files.
func (d *dpkg) sums(pkg int) (map[string]string, error) {
	if s, ok := d.known[pkg]; ok {
		return s, nil
	}
	b, err := d.info(pkg, "md5sums")
	if err != nil {
		return nil, err
	}
	sums := map[string]string{}
	for p, sum := range parseSums(string(b)) {
		sums[d.usrMerged(p)] = sum
	}
	for p, sum := range d.status[pkg].conffiles {
		sums[d.usrMerged(p)] = sum
	}
	d.known[pkg] = sums
	return sums, nil
}

// parseSums reads lines such as "7987cf330ff5bb94015dfbb9eae5a99f  bin/ls".
func parseSums(s string) map[string]string {
	sums := map[string]string{}
	for line := range strings.Lines(s) {
		sum, p, ok := strings.Cut(strings.TrimRight(line, "\n"), "  ")
		if ok && isSum(sum) && p != "" {
			sums[path.Clean("/"+p)] = sum
		}
	}
	return sums
}

// usrMerged is a path with the one name that files have on a system whose /lib is a
// link to /usr/lib. Packages name them either way, and so do boot loaders.
func (d *dpkg) usrMerged(p string) string {
	if !strings.HasPrefix(p, "/") {
		p = "/" + p
	}
	top, rest, ok := strings.Cut(p[1:], "/")
	if merged := d.merged["/"+top]; merged != "" {
		if ok {
			merged += "/" + rest
		}
		return merged
	}
	return p
}

// readMerged finds the folders that are links into /usr.
func readMerged(t *tree) (map[string]string, error) {
	merged := map[string]string{}
	for _, top := range []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/libo32"} {
		to, err := t.resolve(top)
		if err != nil {
			return nil, err
		}
		if to != top {
			merged[top] = to
		}
	}
	return merged, nil
}

// diversion: a package, or with the name ":" the owner of the machine, has the file
// of all other packages put elsewhere.
type diversion struct{ from, to, by string }

// parseDiversions reads three lines for each.
func parseDiversions(s string) []diversion {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	var list []diversion
	for ; len(lines) >= 3; lines = lines[3:] {
		list = append(list, diversion{lines[0], lines[1], lines[2]})
	}
	return list
}

// owner is a package that has a file, and the path under which it recorded it.
type owner struct {
	pkg  int
	path string
}

// owners finds the packages whose file stands at a path.
func (d *dpkg) owners(p string) ([]owner, error) {
	x, err := d.index()
	if err != nil {
		return nil, err
	}
	var list []owner
	from, diverted := d.divertedFrom[p]
	for _, i := range x.of(p) {
		if !diverted || d.status[i].name == from.by {
			list = append(list, owner{int(i), p})
		}
	}
	if to, ok := d.divertedTo[p]; ok {
		for _, i := range x.of(to.from) {
			if d.status[i].name != to.by {
				list = append(list, owner{int(i), to.from})
			}
		}
	}
	return list, nil
}
