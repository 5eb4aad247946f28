package aem

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/bootentry"
	"github.com/antievilmaid/aem/seal"
)

// Approval is what the next boot will be, and how it differs from what is approved.
type Approval struct {
	// Next is the state that the next boot leads to.
	Next seal.State
	// Known says that it is approved already: there is nothing to do.
	Known bool
	// Entry is the entry of GRUB's menu that it boots; nil where files were given.
	Entry *bootentry.Entry
	// Changes are the differences from the approved state of which the fewest are not
	// explained, and which it differs least from. There are none where Known is set.
	Changes []Change
	// Files are the paths of what will boot, as far as the boot entry names them.
	Files []string
	// Unapproved is why the policy that stage 1 asks does not approve of what it starts
	// all the same; nil where it does, or none is asked.
	Unapproved error
	// Assumed says that nothing confirms in which form this machine hashes the files.
	Assumed bool

	from     []seal.State // what was approved when this was computed
	kept     []seal.State
	unproved string // why this boot is not one that proved itself; empty where it did
}

// ErrNextStatic says that nobody can tell what the next boot will measure.
var ErrNextStatic = errors.New("approved is the static root, whose next values can't be computed; after the restart type UNPROVEN, and run aem-setup seal --static-root")

// PlanApproval computes what the next boot will measure. entry is GRUB's menu entry,
// and folder the one that GRUB reads, empty for this machine's. files, where it is not
// nil, are given in place of an entry.
func (m *Machine) PlanApproval(h Home, folder, entry string, files *drtm.Boot) (*Approval, error) {
	approved, err := m.Approved(h)
	if err != nil {
		return nil, err
	}
	if allStatic(approved) {
		return nil, fmt.Errorf("%w: %w", ErrNotPossible, ErrNextStatic)
	}
	boot, err := m.Boot()
	if err != nil {
		return nil, err
	}
	good, err := m.goodLaunch(h, boot, approved)
	if err != nil {
		return nil, err
	}
	a := &Approval{from: approved, kept: keep(approved, boot)}
	if a.unproved, err = m.unproved(h, boot, approved); err != nil {
		return nil, err
	}
	x := &explainer{root: m.Root, now: m.Now(), booted: m.Booted, known: map[string]asked{}, steps: map[int]drtm.Step{}, noDB: errNobodyAsked}
	after := files
	if files == nil {
		menu, err := BootMenu(folder)
		if err != nil {
			return nil, err
		}
		if x.entry, err = menu.Find(entry); err != nil {
			return nil, fmt.Errorf("look for the boot entry: %w", err)
		}
		if after, x.files, err = loadBoot(menu, x.entry, good.Log); err != nil {
			return nil, err
		}
		a.Entry, a.Files = x.entry, entryFiles(x.entry)
		a.Next.Label = x.entry.Title
		x.kind, x.lines = after.Kind, knownLines(menu)
	}
	chain, err := m.chain(after, good.Log)
	if err != nil {
		return nil, err
	}
	forms, err := h.forms()
	if err != nil {
		return nil, err
	}
	f, err := forecast(good, after, chain, forms)
	if err != nil {
		return nil, err
	}
	x.from = f.Launch
	if chain != nil {
		a.Unapproved, x.then = chain.Refusal, chain.part
		if chain.Title != "" {
			a.Next.Label += ", then " + chain.Title
			a.Files = append(a.Files, entryFiles(chain.part.entry)...)
		}
	}
	label := a.Next.Label
	if label == "" {
		label = "the next boot"
	}
	next, err := boot.state(f.Log, label)
	if err != nil {
		return nil, err
	}
	a.Next = *next
	for _, s := range f.Steps {
		a.Assumed = a.Assumed || s.How == drtm.Assumed
		x.steps[s.Event] = s
	}
	for i := range approved {
		if sameState(&approved[i], next) {
			a.Known = true
			return a, nil
		}
	}
	x.events = measuredEvents(f.Log)
	if err := m.askPackages(h, x); err != nil {
		return nil, err
	}
	first := true
	for i := range approved {
		if isStatic(&approved[i]) {
			continue
		}
		changes := x.changes(differences(&approved[i], append(Measured(f.Log), boot.Disks...)))
		if first || nearer(changes, a.Changes) {
			a.Changes, first = changes, false
		}
	}
	return a, nil
}

// goodLaunch is the launch that the next one is computed from: this boot's, if it is
// an approved one, and else the one that was last sealed to. What runs now unapproved
// may lie about what it measures next.
func (m *Machine) goodLaunch(h Home, boot *Boot, approved []seal.State) (*LaunchLog, error) {
	if boot.Launch.State == drtm.Verified {
		for i := range approved {
			if approved[i].Differing(boot.PCRs)&launchPCRs == 0 {
				return boot.Log, nil
			}
		}
	}
	return h.GoodLog()
}

// keep chooses the approved states that stay beside a new one: the one that this boot
// is in, so that the machine still proves itself if the new one does not boot; else
// the newest.
func keep(approved []seal.State, boot *Boot) []seal.State {
	for i := range approved {
		if approved[i].Differing(boot.PCRs)&launchPCRs == 0 {
			return approved[i : i+1]
		}
	}
	return approved[:1]
}

// Approve seals to the next boot and to the state that stays beside it.
func (m *Machine) Approve(h Home, a *Approval) ([]Sealed, error) {
	if a.Known {
		return nil, nil
	}
	return h.locked(func(s *Setup) ([]Sealed, error) {
		approved, err := m.Approved(h)
		if err != nil {
			return nil, err
		}
		if !sameStates(approved, a.from) {
			return nil, ErrMeanwhile
		}
		return m.reseal(h, s, append([]seal.State{a.Next}, a.kept...))
	})
}

// Drop approves a state no more, by its label.
func (m *Machine) Drop(h Home, label string) ([]Sealed, error) {
	return h.locked(func(setup *Setup) ([]Sealed, error) {
		approved, err := m.Approved(h)
		if err != nil {
			return nil, err
		}
		var left []seal.State
		for _, s := range approved {
			if s.Label != label {
				left = append(left, s)
			}
		}
		switch len(left) {
		case len(approved):
			return nil, fmt.Errorf("no approved state is called %q", label)
		case 0:
			return nil, fmt.Errorf("%q is the only approved state; approve another one first", label)
		}
		return m.reseal(h, setup, left)
	})
}

// shapeForm is where, among the forms, it stands which lines and sizes the launch had.
const shapeForm = "lines and sizes"

// forecast computes a launch, and what its stage 1 starts, where chain is not nil, with
// what is known of the forms in which this machine hashes its files.
func forecast(good *LaunchLog, after *drtm.Boot, chain *Chain, forms map[string]string) (*drtm.Forecast, error) {
	if after.Loader != nil && drtm.MadeBy(good.Log, after.Loader) {
		same := *after
		same.Loader, after = nil, &same // whichever form of it the good launch hashed
	}
	// What lies on the disk now may be what booted, or its successor; the digests tell.
	before := after
	if len(forms) == 0 {
		before = nil
	}
	things, err := drtm.Things(before, after, decompressed)
	if err != nil {
		return nil, err
	}
	drtm.Learn(things, forms)
	for i := range things {
		// That the disk is as it is now does not say that it was so at the good launch.
		if things[i].Role == drtm.RoleBootInfo {
			things[i].Unchanged = forms[shapeForm] == after.Shape()
		}
	}
	return next(good, things, chain)
}

// next computes a launch of things, and then what its stage 1 starts.
func next(good *LaunchLog, things []drtm.Thing, chain *Chain) (*drtm.Forecast, error) {
	f, err := drtm.Next(drtm.WithoutStage(good.Log), things)
	if errors.Is(err, drtm.ErrUnexplained) {
		return nil, fmt.Errorf("%w: %w", err, ErrNotPossible)
	}
	if err == nil && chain != nil {
		err = f.Then(good.Log, chain.Approval, chain.Stage)
	}
	return f, err
}

// LearnForms remembers in which form the present launch hashed each file, if the files
// that booted are still on the disk. It is not an error if they are not: a later
// approval then says that it assumes.
func (h Home) LearnForms(boot *Boot, folder string) error {
	forms := formsOf(boot, folder)
	if forms == nil {
		return nil
	}
	b, err := json.Marshal(forms)
	if err != nil {
		return err
	}
	return h.write(formsFile, b)
}

// formsOf are the forms in which a launch hashed each file; nil where no entry of the menu
// has the files that booted.
func formsOf(boot *Boot, folder string) map[string]string {
	menu, err := BootMenu(folder)
	if err != nil {
		return nil
	}
	for i := range menu.Entries {
		files, err := BootOf(menu, &menu.Entries[i], boot.Log.Log)
		if err != nil {
			continue
		}
		f, err := Predict(boot.Log, files, files, nil)
		if err != nil {
			continue
		}
		forms := f.Forms()
		forms[shapeForm] = files.Shape()
		return forms
	}
	return nil
}

func (h Home) forms() (map[string]string, error) {
	if !h.has(formsFile) {
		return nil, nil
	}
	b, err := os.ReadFile(filepath.Join(h.dir, formsFile))
	if err != nil {
		return nil, fmt.Errorf("read what was learned of this machine's launches: %w", err)
	}
	var forms map[string]string
	if err := json.Unmarshal(b, &forms); err != nil {
		return nil, fmt.Errorf("read what was learned of this machine's launches: %w", err)
	}
	return forms, nil
}

// entryFiles are the files of a boot entry on this machine.
func entryFiles(e *bootentry.Entry) []string {
	var list []string
	for _, m := range append(append([]bootentry.Module{e.Kernel}, e.Modules...), e.Initrds...) {
		if m.File != "" && strings.HasPrefix(m.File, "/") {
			list = append(list, m.File)
		}
	}
	return list
}

// Uninstall leaves the machine as it was: every counter is given back to the TPM, the
// records are removed where they are at hand, and the home folder is. The storage
// key stays where it was there before.
func (m *Machine) Uninstall(h Home) error {
	s, err := h.Setup()
	if err != nil {
		return err
	}
	for i := len(s.Media) - 1; i >= 0; i-- {
		if err := m.giveBack(h, s, s.Media[i]); err != nil {
			return err
		}
		s.Media = s.Media[:i]
		if i > 0 {
			if err := h.saveSetup(s); err != nil {
				return err
			}
		}
	}
	if err := os.RemoveAll(h.dir); err != nil {
		return fmt.Errorf("remove the set-up: %w", err)
	}
	return nil
}
