package packages

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"
)

// rpm answers from what the rpm program says. Its database knows the checksums of all
// files, but not which version was there before: a Change from it has no From.
type rpm struct {
	tree      *tree
	run       rpmRunner
	installed []rpmPackage // oldest first, without files
}

func openRPM(t *tree, run rpmRunner) (*rpm, error) {
	out, err := run("-qa", "--qf", rpmPackageFormat)
	if err != nil {
		return nil, fmt.Errorf("ask rpm for the packages: %w", err)
	}
	r := &rpm{tree: t, run: run, installed: parseRPM(string(out))}
	if len(r.installed) == 0 {
		return nil, errors.New("rpm knows of no package")
	}
	slices.SortStableFunc(r.installed, func(a, b rpmPackage) int { return a.when.Compare(b.when) })
	return r, nil
}

// Changes implements Database.
func (r *rpm) Changes(since time.Time) ([]Change, error) {
	var list []Change
	for _, p := range r.installed {
		if !p.when.Before(since) {
			list = append(list, Change{Package: p.name, To: p.evr, When: p.when})
		}
	}
	return list, nil
}

// Explain implements Database.
func (r *rpm) Explain(p string, since time.Time) (Explanation, error) {
	f, _, err := r.tree.openContent(p)
	if errors.Is(err, fs.ErrNotExist) {
		return r.explain(p, nil, since)
	}
	if err != nil {
		return Explanation{}, err
	}
	defer f.Close()
	return r.ExplainContent(p, f, since)
}

// ExplainContent implements Database.
func (r *rpm) ExplainContent(p string, content io.Reader, since time.Time) (Explanation, error) {
	short, long := sha256.New(), sha512.New()
	if err := readContent(io.MultiWriter(short, long), content, p); err != nil {
		return Explanation{}, err
	}
	return r.explain(p, []string{hex.EncodeToString(short.Sum(nil)), hex.EncodeToString(long.Sum(nil))}, since)
}

// explain is for a file with the SHA-256 and SHA-512 sums given, or none if it is not
// there.
func (r *rpm) explain(p string, sums []string, since time.Time) (Explanation, error) {
	file, err := r.tree.resolve(p)
	if err != nil {
		return Explanation{}, err
	}
	owners, err := r.owners(file)
	if err != nil {
		return Explanation{}, err
	}
	if release, ok := initrdOf(file); ok && sums != nil && !slices.ContainsFunc(owners, func(o rpmOwner) bool { return o.file.digest != "" }) {
		return r.generated(file, release, owners, since)
	}
	if len(owners) == 0 {
		return Explanation{Why: fmt.Sprintf("no package has %s", shown(file))}, nil
	}
	var e Explanation
	for i, o := range owners {
		if next := r.owned(file, o, sums, since); i == 0 || next.Verified {
			e = next
		}
	}
	return e, nil
}

// owned compares a file with what its package recorded. A kernel in /boot is a copy,
// made when its package was installed, of one that stands beside the modules: the
// package has it, but recorded only the other one's checksum.
func (r *rpm) owned(file string, o rpmOwner, sums []string, since time.Time) Explanation {
	e := Explanation{Package: o.name, Version: o.evr, When: o.when}
	for _, p := range r.installed { // several versions of a kernel are installed at a time
		if p.name == o.name && p.arch == o.arch && p.when.Before(o.when) {
			e.PreviousVersion = p.evr
		}
	}
	says := fmt.Sprintf("it belongs to %s %s, which was installed on %s", shown(o.name), shown(o.evr), r.clock(o.when))
	if o.when.Before(since) {
		says += fmt.Sprintf(", and was not changed since %s", r.clock(since))
	}
	model := slices.IndexFunc(o.files, func(f rpmFile) bool { return path.Base(f.path) == "vmlinuz" && slices.Contains(sums, f.digest) })
	switch {
	case sums == nil:
		e.Why = fmt.Sprintf("%s is not there; %s", shown(file), says)
	case slices.Contains(sums, o.file.digest):
		e.Verified = true
		e.Why = fmt.Sprintf("%s is as its package has it; %s", shown(file), says)
	case o.file.digest == "" && model >= 0:
		e.Verified = true
		e.Why = fmt.Sprintf("%s is a copy of %s; %s", shown(file), shown(o.files[model].path), says)
	case o.file.digest == "":
		e.Why = fmt.Sprintf("nobody recorded what %s should hold; %s", shown(file), says)
	case len(o.file.digest) != 2*sha256.Size && len(o.file.digest) != 2*sha512.Size:
		e.Why = fmt.Sprintf("the checksum that was recorded of %s is none of SHA-256 or SHA-512; %s", shown(file), says)
	default:
		e.Why = fmt.Sprintf("%s was changed: it does not have the checksum %s, which was recorded; %s", shown(file), shown(o.file.digest), says)
	}
	return e
}

// generated explains an initrd, which the kernel's package has made at the end of the
// transaction that installs it.
func (r *rpm) generated(file, release string, owners []rpmOwner, since time.Time) (Explanation, error) {
	f, info, err := r.tree.openContent(file)
	if err != nil {
		return Explanation{}, err
	}
	f.Close()
	if len(owners) == 0 {
		if owners, err = r.owners("/lib/modules/" + release + "/vmlinuz"); err != nil {
			return Explanation{}, err
		}
	}
	e := Explanation{When: info.ModTime()}
	if len(owners) == 0 {
		e.Why = fmt.Sprintf("%s looks like an initrd, but no package has a kernel for it", shown(file))
		return e, nil
	}
	kernel := owners[0]
	e.Package, e.Version = kernel.name, kernel.evr
	end := kernel.when
	for _, p := range r.installed {
		if p.transaction == kernel.transaction && p.when.After(end) {
			end = p.when
		}
	}
	written := fmt.Sprintf("%s was written on %s", shown(file), r.clock(e.When))
	switch {
	case e.When.Before(kernel.when.Add(-slack)) || e.When.After(end.Add(maxMaking)):
		e.Why = written + ", when no kernel was installed for it: by hand, or by something else"
		return e, nil
	case e.When.Before(since):
		e.Why = fmt.Sprintf("%s, before %s; a change since then was not made by packages", written, r.clock(since))
		return e, nil
	}
	e.Generated = true
	for _, p := range r.installed {
		if p.when.Before(since) || p.when.After(e.When.Add(slack)) {
			continue
		}
		c := Change{Package: p.name, To: p.evr, When: p.when}
		if p.name == kernel.name && p.evr == kernel.evr {
			c.Reason = "it is the kernel of this initrd"
		}
		e.Changes = append(e.Changes, c)
	}
	slices.SortStableFunc(e.Changes, reasonsFirst)
	e.Why = fmt.Sprintf("%s, after %s %s was installed; its content was recorded nowhere. %s", written, shown(e.Package), shown(e.Version), summary(e.Changes))
	return e, nil
}

func (r *rpm) clock(t time.Time) string { return t.In(r.tree.location()).Format(clockFormat) }
