package packages

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// dpkg answers from the records of Debian's package manager.
type dpkg struct {
	tree   *tree
	zone   *time.Location
	status []debPackage
	merged map[string]string
	index  func() (*index, error)
	known  map[int]map[string]string // checksums of packages that were asked for

	divertedFrom, divertedTo map[string]diversion

	events  []logEvent
	changed []debChange // oldest first
}

func openDpkg(t *tree) (*dpkg, error) {
	d := &dpkg{tree: t, zone: t.location(), known: map[int]map[string]string{}, divertedFrom: map[string]diversion{}, divertedTo: map[string]diversion{}}
	d.index = sync.OnceValues(d.readIndex)
	var err error
	if d.status, err = readStatus(t); err != nil {
		return nil, err
	}
	if d.merged, err = readMerged(t); err != nil {
		return nil, err
	}
	b, err := t.read("/var/lib/dpkg/diversions")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, v := range parseDiversions(string(b)) {
		v.from, v.to = d.usrMerged(v.from), d.usrMerged(v.to)
		d.divertedFrom[v.from], d.divertedTo[v.to] = v, v
	}
	return d, d.readHistory()
}

func (d *dpkg) readHistory() error {
	err := d.tree.readLogs("/var/log", "dpkg.log", func(s string) {
		d.events = append(d.events, parseLog(s, d.zone)...)
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(d.events, func(a, b logEvent) int { return a.when.Compare(b.when) })
	var runs []aptRun
	err = d.tree.readLogs("/var/log/apt", "history.log", func(s string) {
		runs = append(runs, parseHistory(s, d.zone)...)
	})
	forAll := map[string]bool{}
	for _, p := range d.status {
		forAll[p.name] = forAll[p.name] || p.arch == "all"
	}
	d.changed = join(changes(d.events), runs, forAll)
	return err
}

// Changes implements Database.
func (d *dpkg) Changes(since time.Time) ([]Change, error) {
	var list []Change
	for _, c := range d.changed {
		if !c.When.Before(since) {
			c.Package = shortKey(c.key)
			list = append(list, c.Change)
		}
	}
	return list, nil
}

// shortKey is the name without the architecture, as people say it.
func shortKey(key string) string {
	name, _, _ := strings.Cut(key, ":")
	return name
}

// Explain implements Database.
func (d *dpkg) Explain(p string, since time.Time) (Explanation, error) {
	f, _, err := d.tree.openContent(p)
	if errors.Is(err, fs.ErrNotExist) {
		return d.explain(p, "", since)
	}
	if err != nil {
		return Explanation{}, err
	}
	defer f.Close()
	return d.ExplainContent(p, f, since)
}

// ExplainContent implements Database.
func (d *dpkg) ExplainContent(p string, content io.Reader, since time.Time) (Explanation, error) {
	h := md5.New()
	if err := readContent(h, content, p); err != nil {
		return Explanation{}, err
	}
	return d.explain(p, hex.EncodeToString(h.Sum(nil)), since)
}

// explain is for a file with the MD5 sum given, or none if it is not there.
func (d *dpkg) explain(p, sum string, since time.Time) (Explanation, error) {
	file, err := d.tree.resolve(p)
	if err != nil {
		return Explanation{}, err
	}
	// A package may also have recorded the path with a link in it.
	names := slices.Compact([]string{d.usrMerged(file), d.usrMerged(path.Clean("/" + p))})
	for _, name := range names {
		owners, err := d.owners(name)
		if err != nil {
			return Explanation{}, err
		}
		if len(owners) > 0 {
			return d.owned(file, sum, owners, since)
		}
	}
	if release, ok := initrdOf(file); ok && sum != "" {
		return d.generated(file, release, since)
	}
	return Explanation{Why: fmt.Sprintf("no package has %s", shown(file))}, nil
}

// owned compares the file with the record of the package that has it. Packages for
// several architectures may share a file: then one that fits is enough.
func (d *dpkg) owned(file, sum string, owners []owner, since time.Time) (Explanation, error) {
	best, recorded := owners[0], ""
	for i, o := range owners {
		sums, err := d.sums(o.pkg)
		if err != nil {
			return Explanation{}, err
		}
		if i == 0 || sum != "" && sums[o.path] == sum && d.status[o.pkg].whole() {
			best, recorded = o, sums[o.path]
		}
	}
	p := d.status[best.pkg]
	e := Explanation{Package: p.name, Version: p.version}
	last, logged := d.date(&e, best.pkg, since)
	says := "it belongs to " + d.origin(e, last, logged, since)
	switch {
	case sum == "":
		e.Why = fmt.Sprintf("%s is not there; %s", shown(file), says)
	case recorded == "":
		e.Why = fmt.Sprintf("nobody recorded what %s should hold; %s", shown(file), says)
	case recorded != sum:
		e.Why = fmt.Sprintf("%s was changed: its MD5 sum is %s, and %s was recorded; %s", shown(file), sum, recorded, says)
	case !p.whole():
		e.Why = fmt.Sprintf("%s is as its package has it, but that is not fully installed: dpkg calls it %s; %s", shown(file), shown(p.state), says)
	default:
		e.Verified = true
		e.Why = fmt.Sprintf("%s is as its package has it; %s", shown(file), says)
	}
	return e, nil
}

// date fills in when the package was changed last, and from which version. It returns
// that change, or none if the logs don't know how the installed version came.
func (d *dpkg) date(e *Explanation, pkg int, since time.Time) (Change, bool) {
	var last Change
	after := false
	for _, c := range d.changed {
		if c.key != d.status[pkg].key() {
			continue
		}
		if !after {
			e.PreviousVersion = c.From
		}
		after = after || !c.When.Before(since)
		last = c.Change
	}
	if last.To == e.Version {
		e.When = last.When
		return last, true
	}
	// dpkg writes the list of a package's files when it unpacks it.
	e.PreviousVersion = ""
	if f, info, err := d.tree.open(d.infoPath(pkg, "list")); err == nil {
		f.Close()
		e.When = info.ModTime()
	}
	return Change{}, false
}

// origin says where the installed version comes from.
func (d *dpkg) origin(e Explanation, c Change, logged bool, since time.Time) string {
	s := fmt.Sprintf("%s %s", shown(e.Package), shown(e.Version))
	switch {
	case !logged && e.When.IsZero():
		return s + ", of which the logs know nothing"
	case !logged:
		s += fmt.Sprintf(", of which the logs know nothing; its list of files is of %s", d.clock(e.When))
	case c.From == "":
		s += fmt.Sprintf(", which was installed on %s", d.clock(e.When))
	case c.From == c.To:
		s += fmt.Sprintf(", which was installed again on %s", d.clock(e.When))
	default:
		s += fmt.Sprintf(", which replaced %s on %s", shown(c.From), d.clock(e.When))
	}
	if c.Command != "" {
		s += fmt.Sprintf(" by %q", shown(c.Command))
	}
	if e.When.Before(since) {
		s += fmt.Sprintf(", and was not changed since %s", d.clock(since))
	}
	return s
}

// clock is a time as the machine's logs have it.
func (d *dpkg) clock(t time.Time) string { return t.In(d.zone).Format(clockFormat) }
