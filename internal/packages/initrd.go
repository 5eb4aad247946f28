package packages

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// initrdName are the names that initramfs-tools, dracut and others give: "initrd.img-6.1.0-56-amd64",
// "initramfs-6.12.8-200.fc41.x86_64.img", "initrd-6.4.0-150600.23-default".
var initrdName = regexp.MustCompile(`^init(?:rd|ramfs)(?:\.img)?-(.+?)(?:\.img)?$`)

// initrdOf reports a file that by its name is an initrd, and the kernel it is for.
func initrdOf(p string) (release string, ok bool) {
	dir, name := path.Split(p)
	if m := initrdName.FindStringSubmatch(name); m != nil {
		return m[1], true
	}
	// kernel-install: /boot/MACHINE-ID/RELEASE/initrd
	return path.Base(dir), name == "initrd" || name == "initrd.img"
}

// trigger is what packages that have something in the initrd ask for, and what
// initramfs-tools and dracut wait for.
const trigger = "update-initramfs"

// making is the time in which a package's script may have made an initrd.
type making struct {
	pkg        int
	start, end time.Time
}

// maxMaking bounds a making whose end dpkg did not log: it goes on, and we are
// called from it, or it was interrupted.
const maxMaking = time.Hour

// makers finds the packages whose scripts make the initrd of a release: the generators,
// and the kernel, whose script calls one.
func (d *dpkg) makers(release string) (generators, kernels []int, err error) {
	b, err := d.tree.read("/var/lib/dpkg/triggers/" + trigger)
	if err == nil {
		waiting := map[string]bool{} // "initramfs-tools", or "dracut:amd64/noawait"
		for line := range strings.Lines(string(b)) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), "/")
			waiting[shortKey(name)] = true
		}
		for i, p := range d.status {
			if waiting[p.name] && p.state != "config-files" && p.state != "not-installed" {
				generators = append(generators, i)
			}
		}
	}
	owners, err := d.owners(d.usrMerged("/boot/vmlinuz-" + release))
	for _, o := range owners {
		kernels = append(kernels, o.pkg)
	}
	return generators, kernels, err
}

// makings lists when the packages made an initrd, oldest first.
func (d *dpkg) makings(makers []int) []making {
	byKey := map[string]int{}
	for _, i := range makers {
		byKey[d.status[i].key()] = i
	}
	var list []making
	open := map[string]int{} // place in list by key
	for _, e := range d.events {
		if e.action == "startup" { // dpkg runs once at a time
			for key, i := range open {
				list[i].end = e.when
				delete(open, key)
			}
			continue
		}
		pkg, ok := byKey[e.key]
		if !ok {
			continue
		}
		i, running := open[e.key]
		if running && (e.action == "installed" || e.action == "configure" || e.action == "trigproc") {
			list[i].end = e.when
			delete(open, e.key)
		}
		if e.action == "configure" || e.action == "trigproc" {
			open[e.key] = len(list)
			list = append(list, making{pkg, e.when, e.when.Add(maxMaking)})
		}
	}
	return list
}

// generated explains an initrd.
func (d *dpkg) generated(file, release string, since time.Time) (Explanation, error) {
	f, info, err := d.tree.openContent(file)
	if err != nil {
		return Explanation{}, err
	}
	f.Close()
	generators, kernels, err := d.makers(release)
	if err != nil {
		return Explanation{}, err
	}
	makers := append(slices.Clone(generators), kernels...)
	e := Explanation{When: info.ModTime()}
	if len(makers) == 0 {
		e.Why = fmt.Sprintf("%s looks like an initrd, but no package is installed that would make it", shown(file))
		return e, nil
	}
	maker := makers[0]
	var found bool
	for _, m := range d.makings(makers) {
		if !e.When.Before(m.start.Add(-slack)) && !e.When.After(m.end.Add(slack)) {
			maker, found = m.pkg, true
		}
	}
	e.Package, e.Version = d.status[maker].name, d.status[maker].version
	written := fmt.Sprintf("%s was written on %s", shown(file), d.clock(e.When))
	switch {
	case !found:
		e.Why = written + ", when no package made an initrd: by hand, or by something else"
		return e, nil
	case e.When.Before(since):
		e.Why = fmt.Sprintf("%s, before %s; a change since then was not made by packages", written, d.clock(since))
		return e, nil
	}
	e.Generated = true
	if e.Changes, err = d.reasons(generators, kernels, since, e.When.Add(slack)); err != nil {
		return Explanation{}, err
	}
	e.Why = fmt.Sprintf("%s, while %s %s made it; its content was recorded nowhere. %s", written, shown(e.Package), shown(e.Version), summary(e.Changes))
	return e, nil
}

// reasons lists the changes between two times, those that have an initrd made first.
func (d *dpkg) reasons(generators, kernels []int, since, until time.Time) ([]Change, error) {
	place := map[string]int{}
	for i, p := range d.status {
		place[p.key()] = i
	}
	var list []Change
	for _, c := range d.changed {
		if c.When.Before(since) || c.When.After(until) {
			continue
		}
		c.Package = shortKey(c.key)
		if i, ok := place[c.key]; ok {
			var err error
			if c.Reason, err = d.reason(i, generators, kernels); err != nil {
				return nil, err
			}
		}
		list = append(list, c.Change)
	}
	slices.SortStableFunc(list, reasonsFirst)
	return list, nil
}

func reasonsFirst(a, b Change) int {
	switch {
	case a.Reason != "" && b.Reason == "":
		return -1
	case a.Reason == "" && b.Reason != "":
		return 1
	}
	return 0
}

// reason says why a change of a package leads to a new initrd. Without one, the
// package may still have a file in the next that is made.
func (d *dpkg) reason(pkg int, generators, kernels []int) (string, error) {
	switch {
	case slices.Contains(kernels, pkg):
		return "it is the kernel of this initrd", nil
	case slices.Contains(generators, pkg):
		return "it makes the initrd", nil
	}
	b, err := d.info(pkg, "triggers") // "activate-noawait update-initramfs"
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if w := strings.Fields(line); len(w) == 2 && w[1] == trigger {
			return "it asks for a new initrd", nil
		}
	}
	if b, err = d.info(pkg, "postinst"); err != nil {
		return "", err
	}
	if strings.Contains(string(b), trigger) {
		return "its script asks for a new initrd", nil
	}
	return "", nil
}

// maxNamed is how many packages a sentence names.
const maxNamed = 5

// summary says in a sentence what may have led to a new initrd.
func summary(list []Change) string {
	var named []string
	rest := 0
	for _, c := range list {
		switch {
		case c.Reason == "" || len(named) == maxNamed:
			rest++
		default:
			named = append(named, fmt.Sprintf("%s: %s", c, c.Reason))
		}
	}
	switch {
	case len(list) == 0:
		return "No package was changed."
	case len(named) == 0:
		return fmt.Sprintf("Of the packages that changed (%d), none is known to ask for a new one.", rest)
	case rest == 0:
		return "Changed were: " + strings.Join(named, "; ") + "."
	}
	return fmt.Sprintf("Changed were: %s; and %d more.", strings.Join(named, "; "), rest)
}
