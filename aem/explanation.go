package aem

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/bootentry"
	"github.com/antievilmaid/aem/internal/packages"
	"github.com/antievilmaid/aem/internal/words"
	"github.com/antievilmaid/aem/tpm"
)

// Explanation is what the package manager's records say about a change of the next
// boot against an approved one.
type Explanation struct {
	// Explained says that packages account for the change, so that an owner who trusts
	// them need not look at it.
	Explained bool `json:"explained"`
	// By says in which way. It is empty where the change is not explained.
	By ExplainedBy `json:"by,omitempty"`
	// File is the one on the disk that the change comes from.
	File    string `json:"file,omitempty"`
	Package string `json:"package,omitempty"` // that has the file, or made it
	Version string `json:"version,omitempty"`
	// PreviousVersion is the one when something was approved last.
	PreviousVersion string `json:"previous_version,omitempty"`
	// Because says, of a file that was made here, which other packages' changes led to it.
	Because []string `json:"because,omitempty"`
	// Why says it in a sentence, also why it is not explained.
	Why string `json:"why"`
}

// ExplainedBy is a way in which a change can be explained.
type ExplainedBy string

// The ways. Their texts are stable: they stand in the output of --json.
const (
	// ByPackage: the file has the checksum that its package recorded.
	ByPackage ExplainedBy = "package"
	// ByGeneration: the package manager had the file made, in this session. What it
	// should hold was recorded nowhere.
	ByGeneration ExplainedBy = "generated"
	// ByKernel: it is a part of a file whose package recorded its checksum.
	ByKernel ExplainedBy = "kernel"
	// ByFileName: the command line differs in the name of the kernel's file alone.
	ByFileName ExplainedBy = "file-name"
)

// explainer asks where the changes of one boot entry come from.
type explainer struct {
	root   string
	since  time.Time // of the last approval
	now    time.Time
	booted func() (time.Time, error)
	db     packages.Database
	noDB   error // why there is none

	part                    // what is launched
	then  part              // what its stage 1 starts
	from  int               // the first event of that
	steps map[int]drtm.Step // of the next launch, by event
	// events are the places in the next launch's log of what it measures; the disks follow.
	events []int
	known  map[string]asked // by path
}

// part is a boot entry that is launched, or that a stage 1 follows.
type part struct {
	kind  drtm.Kind
	entry *bootentry.Entry
	files []bootentry.LoadedFile // as they were read to be measured
	lines []string               // command lines that may have been approved
}

// asked is an answer of the records, so that a file is compared once.
type asked struct {
	Explanation
	records packages.Explanation
}

// explain judges a difference. What nobody can explain is not an error: the
// explanation then says why not.
func (x *explainer) explain(d *difference) Explanation {
	event := -1
	if d.place >= 0 && d.place < len(x.events) {
		event = x.events[d.place]
	}
	step, computed := x.steps[event]
	switch {
	case d.kind != eventlog.Changed:
		return unexplained("", "the launch measures something more, something less, or in another order than was approved")
	case event < 0:
		return unexplained("", "no package changes a disk's header")
	case !computed || step.How == drtm.Kept:
		return unexplained("", "it belongs to the machine or its firmware, and to no file of a package")
	}
	if event >= x.from {
		stage := *x
		stage.part = x.then
		x = &stage
	}
	if x.entry == nil {
		return unexplained("", "it is described by hand, and left to the owner")
	}
	image, modules, initrds := x.loaded()
	switch {
	case x.kind == drtm.Tboot: // which measures files together with their lines
		return unexplained("", "a launch by tboot is left to the owner")
	case step.Of == drtm.RoleEntryOffset, step.Of == drtm.RoleBootParams:
		return follows(x.packaged(image))
	case step.Of == drtm.RoleHypervisor && x.kind == drtm.Xen, step.Of == drtm.RoleKernel && x.kind == drtm.Linux:
		return x.packaged(image)
	case step.Of == drtm.RoleKernel && len(modules) > 0:
		return x.packaged(modules[0])
	case step.Of == drtm.RoleInitrd && x.kind == drtm.Linux:
		return x.initrds(initrds)
	case step.Of == drtm.RoleInitrd && len(modules) > 1:
		return x.initrds(modules[1:2])
	case step.Of == drtm.RoleCommandLine && x.kind == drtm.Linux:
		return x.line(d.before, image)
	}
	return unexplained("", fmt.Sprintf("no package has a say in the %s", step.Of))
}

func unexplained(file, why string) Explanation { return Explanation{File: file, Why: why} }

// loaded are the files of the entry, as menu.Load read them.
func (p *part) loaded() (image bootentry.LoadedFile, modules, initrds []bootentry.LoadedFile) {
	n := len(p.entry.Modules)
	return p.files[0], p.files[1 : 1+n], p.files[len(p.files)-len(p.entry.Initrds):]
}

// follows is for what the kernel's file determines.
func follows(e Explanation) Explanation {
	if e.Explained {
		e.By = ByKernel
	}
	e.Why = "it is a part of the kernel's file; " + e.Why
	return e
}

// packaged explains a file that must be as its package has it.
func (x *explainer) packaged(f bootentry.LoadedFile) Explanation {
	return x.file(f).Explanation
}

// initrds explains what is put together of several files: all must be explained. The
// one that decides is named.
func (x *explainer) initrds(files []bootentry.LoadedFile) Explanation {
	worst := unexplained("", "the boot entry names no file for it")
	for i, f := range files {
		a := x.file(f)
		e := a.Explanation
		if !e.Explained && a.records.Generated {
			e = x.generated(f, a)
		}
		if i == 0 || worst.Explained && (!e.Explained || e.By == ByGeneration) {
			worst = e
		}
	}
	return worst
}

// generated explains a file that the package manager had made. Its content was
// recorded nowhere, and the records go by the time of change, which whoever had the
// disk can choose. So it is accepted only in the session in which it was made: then
// its inode was written while the system ran that is asked now.
func (x *explainer) generated(f bootentry.LoadedFile, a asked) Explanation {
	e := a.Explanation
	not := func(format string, args ...any) Explanation {
		e.Why += " But " + fmt.Sprintf(format, args...) + "."
		return e
	}
	led := false
	for _, c := range a.records.Changes {
		led = led || c.Reason != ""
		if c.Reason != "" && c.Package != e.Package {
			e.Because = append(e.Because, c.String())
		}
	}
	if !led {
		return not("no package that leads to a new one changed since the last approval")
	}
	if x.booted == nil {
		return not("it is not known when this machine was started")
	}
	booted, err := x.booted()
	if err != nil {
		return not("%v", err)
	}
	info, err := os.Stat(f.File)
	if err != nil {
		return not("%v", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return not("it is not known when it was written")
	}
	changed := time.Unix(st.Ctim.Unix())
	switch {
	case changed.Before(booted) || info.ModTime().Before(booted):
		return not("that was not in this session: the machine was started afterwards")
	case changed.After(x.now) || info.ModTime().After(x.now):
		return not("that is in the future")
	}
	e.Explained, e.By = true, ByGeneration
	return e
}

// file asks the records about a file, once. The bytes compared are those that were
// read to compute the measurement, so that a disk can't show others.
func (x *explainer) file(f bootentry.LoadedFile) asked {
	a, ok := x.known[f.File]
	if !ok {
		a = x.ask(f)
		x.known[f.File] = a
	}
	return a
}

func (x *explainer) ask(f bootentry.LoadedFile) asked {
	if x.db == nil {
		return asked{Explanation: unexplained(f.File, x.noDB.Error())}
	}
	rel, err := filepath.Rel(x.root, f.File)
	if err != nil || !filepath.IsAbs(f.File) || rel == ".." || strings.HasPrefix(rel, "../") {
		return asked{Explanation: unexplained(f.File, fmt.Sprintf("%s does not belong to the system in %s", shown(f.File), x.root))}
	}
	p, err := x.db.ExplainContent("/"+rel, bytes.NewReader(f.Content), x.since)
	if err != nil {
		return asked{Explanation: unexplained(f.File, fmt.Sprintf("the records of packages can't be asked: %v", err))}
	}
	e := Explanation{File: f.File, Package: p.Package, Version: p.Version, PreviousVersion: p.PreviousVersion, Why: p.Why}
	if p.Verified {
		e.Explained, e.By = true, ByPackage
	}
	return asked{e, p}
}

// bootImage is the word that GRUB puts before a kernel's command line.
const bootImage = "BOOT_IMAGE="

// line explains a command line that differs from the approved one in the name of the
// kernel's file alone, where that file is explained. Approved is a digest, so the
// approved line is looked for among those that this machine knows: the one that it was
// booted with, and those of the boot entries.
func (x *explainer) line(approved []tpm.TaggedDigest, kernel bootentry.LoadedFile) Explanation {
	after := x.entry.Kernel.Line
	i := slices.IndexFunc(x.lines, func(l string) bool { return isLine(approved, l) })
	if i < 0 {
		return unexplained("", "no package has a say in the command line, and the approved one is not known any more")
	}
	before := x.lines[i]
	var said []string
	changes := words.Diff(before, after)
	for _, c := range changes {
		said = append(said, sentenceOf(c))
	}
	why := "in the command line " + strings.Join(said, ", ")
	if !onlyFileName(before, after, changes, x.entry.Kernel.Path) {
		return unexplained("", why+"; no package has a say in that")
	}
	e := x.packaged(kernel)
	e.Why = why + ", the name of the kernel's file; " + e.Why
	if e.Explained {
		e.By = ByFileName
	}
	return e
}

func sentenceOf(c words.Change) string {
	before, after := shown(strings.Join(c.Before, " ")), shown(strings.Join(c.After, " "))
	switch {
	case before == "":
		return after + " was added"
	case after == "":
		return before + " was taken away"
	}
	return before + " became " + after
}

// onlyFileName is strict about the rest, spaces included: it must be the very same.
func onlyFileName(before, after string, changes []words.Change, kernel string) bool {
	if len(changes) != 1 || len(changes[0].Before) != 1 || len(changes[0].After) != 1 {
		return false
	}
	from, to := changes[0].Before[0], changes[0].After[0]
	rest, ok := strings.CutPrefix(before, from)
	return ok && strings.HasPrefix(from, bootImage) && strings.HasPrefix(to, bootImage) &&
		strings.HasSuffix(to, kernel) && after == to+rest
}

// isLine reports whether digests are those of a command line, in every bank.
func isLine(digests []tpm.TaggedDigest, line string) bool {
	for _, form := range []string{line, line + "\x00"} {
		same := 0
		for _, d := range digests {
			if d.Alg.Available() && d.Digest.Equal(d.Alg.Sum([]byte(form))) {
				same++
			}
		}
		if same == len(digests) && same > 0 {
			return true
		}
	}
	return false
}

// knownLines are the command lines that this boot, or another of the menu, has.
func knownLines(menu *bootentry.Menu) []string {
	var list []string
	if line, err := os.ReadFile("/proc/cmdline"); err == nil {
		list = append(list, strings.TrimSuffix(string(line), "\n"))
	}
	for _, e := range menu.Entries {
		list = append(list, e.Kernel.Line)
	}
	return list
}

// errNobodyAsked is why nothing is explained where no package manager was to be asked.
var errNobodyAsked = errors.New("the records of packages were not asked")

func shown(s string) string { return eventlog.Printable([]byte(s)) }

// askPackages opens the records for an explainer. That there are none is no error:
// then nothing is explained.
func (m *Machine) askPackages(h Home, x *explainer) error {
	var err error
	if x.since, err = h.LastApproval(); err != nil {
		return err
	}
	if m.Root != "" && x.entry != nil {
		x.db, x.noDB = packages.Open(m.Root)
	}
	return nil
}

// changes are differences with their explanations.
func (x *explainer) changes(list []difference) []Change {
	var changes []Change
	for i := range list {
		e := x.explain(&list[i])
		c := list[i].Change
		c.Explanation = &e
		changes = append(changes, c)
	}
	return changes
}

// nearer reports whether of two lists of changes a leaves less to the owner.
func nearer(a, b []Change) bool {
	if x, y := len(Unexplained(a)), len(Unexplained(b)); x != y {
		return x < y
	}
	return len(a) < len(b)
}

// Unexplained are those of the changes that packages don't explain.
func Unexplained(list []Change) []Change {
	var left []Change
	for _, c := range list {
		if c.Explanation == nil || !c.Explanation.Explained {
			left = append(left, c)
		}
	}
	return left
}
