package drtm

import (
	"errors"
	"fmt"
	"slices"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// ErrUnexplained says that a log has an event that can't be recomputed for other
// files. Nothing is predicted then: a guess would be sealed to.
var ErrUnexplained = errors.New("the next launch can't be computed from the log of the good one")

// Thing is something that a launch measures and that the disk holds: a file, or a
// line of the boot loader's configuration, as it was when the good launch took
// place and as it is now.
type Thing struct {
	Role Role
	Name string // for a person, such as a path
	// Forms are the ways in which a launch may hash it: as a file, decompressed, with
	// a header left out. The good launch's digests tell which one it is.
	Forms []Form
	// Known says that the contents of the good launch are at hand. Otherwise the
	// first form is taken, and the step is marked as assumed.
	Known bool
	// Learned is the form that an earlier launch was seen to hash the thing in. It is
	// taken where the file that booted is gone, or was replaced since.
	Learned *string
	// Optional things are not measured by every launch of their kind.
	Optional bool
	// Unchanged says that what is measured stays as it was, also where nobody can
	// compute it, such as addresses that follow from sizes.
	Unchanged bool
}

// Form is a thing in one of its forms, before and after. The digest is a function
// of the algorithm where Hash is set (tboot hashes hashes), and that of the bytes
// elsewhere.
type Form struct {
	Name          string // empty for the file as it is
	Before, After []byte
	HashBefore    func(tpm.Alg) []byte
	HashAfter     func(tpm.Alg) []byte
}

func (f *Form) before(a tpm.Alg) tpm.Digest {
	if f.HashBefore != nil {
		return a.Sum(f.HashBefore(a))
	}
	return a.Sum(f.Before)
}

func (f *Form) after(a tpm.Alg) tpm.Digest {
	if f.HashAfter != nil {
		return a.Sum(f.HashAfter(a))
	}
	return a.Sum(f.After)
}

// How is how an event of the next launch was found.
type How uint8

// The ways.
const (
	Kept       How = iota + 1 // it does not depend on what changed
	Recomputed                // its digest is that of a thing, and was computed for the new one
	Assumed                   // likewise, but nothing confirms in which form the thing is hashed
)

// String is "kept", "recomputed" or "assumed".
func (h How) String() string {
	switch h {
	case Kept:
		return "kept"
	case Recomputed:
		return "recomputed"
	case Assumed:
		return "assumed"
	}
	return fmt.Sprintf("how %d", uint8(h))
}

// Step is one event of the next launch.
type Step struct {
	Event   int // index in the log
	Role    Role
	How     How
	Thing   string // what it was computed from
	Of      Role   // the role of that thing; it can be another than the event's place suggests
	Form    string
	Changed bool // against the good launch
}

// Forecast is the next launch.
type Forecast struct {
	Log   *eventlog.Log
	Steps []Step // of the events that are extended
	// Launch is how many events of the log are the launch's own, as Next computed them.
	Launch int
}

// Forms are the forms in which the good launch hashed each thing, as far as its
// digests show it: by role and place, for [Learn].
func (f *Forecast) Forms() map[string]string {
	forms := map[string]string{}
	count := map[Role]int{}
	for _, s := range f.Steps {
		if s.Thing == "" {
			continue
		}
		if s.How == Recomputed {
			forms[formKey(s.Role, count[s.Role])] = s.Form
		}
		count[s.Role]++
	}
	return forms
}

func formKey(r Role, n int) string { return fmt.Sprintf("%s %d", r, n) }

// Learn tells things in which form an earlier launch hashed them.
func Learn(things []Thing, forms map[string]string) {
	count := map[Role]int{}
	for i := range things {
		t := &things[i]
		if form, ok := forms[formKey(t.Role, count[t.Role])]; ok {
			t.Learned = &form
		}
		count[t.Role]++
	}
}

// PCRs are the values after the launch.
func (f *Forecast) PCRs() tpm.Banks { return Replay(f.Log) }

// fileRoles are the roles whose events depend on files or on the boot loader's
// configuration. Events of the others belong to the machine and its firmware.
var fileRoles = map[Role]bool{
	RoleUnknown: true, RoleLoader: true, RoleEntryOffset: true, RoleKernel: true, RoleHypervisor: true, RoleTboot: true, RoleInitrd: true,
	RoleCommandLine: true, RoleBootParams: true, RoleBootInfo: true, RoleModule: true, RoleModuleLine: true, RoleSINITKey: true,
	RoleStage: true, RoleFact: true, RolePolicyKey: true, RoleApproval: true,
}

// Next computes the log of the next launch from that of a good one.
//
// Each event of the good launch is explained by recomputing its digests from the
// things that booted then. What is explained is computed anew from the things that
// will boot; what belongs to the machine is kept; and what depends on files and can't
// be explained stands in the way of any prediction, with an error that wraps
// [ErrUnexplained] and names the event.
func Next(good *eventlog.Log, things []Thing) (*Forecast, error) {
	if good == nil || len(good.Events) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrUnexplained)
	}
	next := *good.WithoutLoggedResult()
	next.Events = slices.Clone(next.Events)
	f := &Forecast{Log: &next, Launch: len(next.Events)}
	used := make([]bool, len(things))
	loaderChanged := false
	for i, role := range Roles(good) {
		e := &next.Events[i]
		if !e.Extended() || !e.PCR.Dynamic() {
			continue
		}
		s := Step{Event: i, Role: role, How: Kept}
		if fileRoles[role] {
			n, form := explainEvent(e, role, things, used)
			switch {
			case n >= 0:
				used[n] = true
				t := &things[n]
				s.Thing, s.Of, s.Form, s.How = t.Name, t.Role, form.Name, Recomputed
				if !t.Known && t.Learned == nil {
					s.How = Assumed
				}
				changed, err := rehash(e, form)
				if err != nil {
					return nil, err
				}
				s.Changed = changed
				loaderChanged = loaderChanged || role == RoleLoader && changed
			case role == RoleSINITKey && !loaderChanged, unchanged(role, things):
			default:
				return nil, fmt.Errorf("%w: event %d, PCR %d (%s), is the digest of none of the files given for the good launch, in no form that is known", ErrUnexplained, i, e.PCR, role)
			}
		}
		f.Steps = append(f.Steps, s)
	}
	for n := range things {
		if t := &things[n]; !used[n] && !t.Optional && !t.Unchanged {
			return nil, fmt.Errorf("%w: it has no event for %s (%s)", ErrUnexplained, t.Name, t.Role)
		}
	}
	return f, nil
}

// unchanged reports whether what an event of the role was made of is known to be
// the same.
func unchanged(role Role, things []Thing) bool {
	return slices.ContainsFunc(things, func(t Thing) bool { return t.Role == role && t.Unchanged })
}

// explainEvent finds the thing, and its form, that an event measured: first by its
// digest, and where a thing's former content is not at hand by its role and order.
func explainEvent(e *eventlog.Event, role Role, things []Thing, used []bool) (int, *Form) {
	for _, sameRole := range []bool{true, false} {
		for n := range things {
			t := &things[n]
			if used[n] || !t.Known || (t.Role == role) != sameRole {
				continue
			}
			for k := range t.Forms {
				if digestOf(e, &t.Forms[k]) {
					return n, &t.Forms[k]
				}
			}
		}
	}
	for n := range things {
		t := &things[n]
		if used[n] || t.Role != role {
			continue
		}
		if t.Learned != nil {
			for k := range t.Forms {
				if t.Forms[k].Name == *t.Learned {
					return n, &t.Forms[k]
				}
			}
		}
		if !t.Known && len(t.Forms) > 0 {
			return n, &t.Forms[0]
		}
	}
	return -1, nil
}

// digestOf reports whether the event's digests are those of the form, in every bank
// that can be computed; at least one must be.
func digestOf(e *eventlog.Event, f *Form) bool {
	one := false
	for _, d := range e.Digests {
		if !d.Alg.Available() || eventlog.IsPlaceholder(d.Digest) {
			continue
		}
		if !d.Digest.Equal(f.before(d.Alg)) {
			return false
		}
		one = true
	}
	return one
}

// rehash replaces an event's digests by those of what will boot. An event that
// shows what it measured shows the new content.
func rehash(e *eventlog.Event, f *Form) (changed bool, err error) {
	digests := slices.Clone(e.Digests)
	for i, d := range digests {
		switch {
		case eventlog.IsPlaceholder(d.Digest):
		case d.Alg.Available():
			digests[i].Digest = f.after(d.Alg)
			changed = changed || !digests[i].Digest.Equal(d.Digest)
		default:
			return false, fmt.Errorf("%w: digests for its %s bank can't be computed here", ErrUnexplained, d.Alg)
		}
	}
	e.Digests = digests
	if e.Type == eventlog.TXTHashStart && f.After != nil {
		e.Data = f.After
	}
	return changed, nil
}

// Score compares a kept prediction with the launch that then took place.
type Score struct {
	Events, Right int
	// Wrong are the differences, from what was predicted to what was measured.
	Wrong []eventlog.Change
}

// ScoreOf compares PCRs 17 to 22 of two logs, event by event.
func ScoreOf(predicted, actual *eventlog.Log) Score {
	dynamic := tpm.PCRSet(17, 18, 19, 20, 21, 22)
	s := Score{Wrong: eventlog.Diff(predicted.WithoutLoggedResult(), actual.WithoutLoggedResult(), dynamic)}
	wrong := 0
	for _, c := range s.Wrong {
		if c.Before != nil {
			wrong++
		}
	}
	for i := range predicted.Events {
		if e := &predicted.Events[i]; e.Extended() && dynamic.Has(e.PCR) {
			s.Events++
		}
	}
	s.Right = s.Events - wrong
	return s
}

// MadeBy reports whether the good launch was made by a loader: its launch event is
// the digest of what the CPU hashes of it.
func MadeBy(good *eventlog.Log, loader []byte) bool {
	i := firstCode(good)
	if i < 0 {
		return false
	}
	t := builder{before: &Boot{Loader: loader}, after: &Boot{Loader: loader}, known: true}
	t.loader()
	e := &good.WithoutLoggedResult().Events[i]
	for k := range t.list[0].Forms {
		if digestOf(e, &t.list[0].Forms[k]) {
			return true
		}
	}
	return false
}
