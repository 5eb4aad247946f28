package aem

import (
	"fmt"
	"slices"
	"strings"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// explain says why a boot is in none of a record's states.
func explain(record *seal.Record, boot *Boot) *Refusal {
	if boot.Launch.State != drtm.Verified && !slices.ContainsFunc(record.States, func(s seal.State) bool { return isStatic(&s) }) {
		return explainLaunch(boot)
	}
	_, changes, same := nearest(record.States, boot)
	if same {
		// What was launched is approved, and what the initramfs added since is not.
		cause, before := cappedBefore(record, boot)
		return &Refusal{Cause: cause, Detail: fmt.Sprintf("PCR %d holds: %s", tpm.PCRHost, before), err: seal.ErrMeasurements}
	}
	return &Refusal{Cause: CauseChanged, Changes: changes, err: seal.ErrMeasurements}
}

// nearest finds the approved state that a boot differs least from, and in what. same says
// that what was launched, and the disks, are those of the state; it is nil where none can
// be compared with.
func nearest(states []seal.State, boot *Boot) (near *seal.State, changes []Change, same bool) {
	for i := range states {
		s := &states[i]
		if !isStatic(s) && boot.Launch.State != drtm.Verified {
			continue
		}
		c := compare(s, boot.measured(s))
		if len(c) == 0 && s.Differing(boot.PCRs)&rootPCRs(s) == 0 {
			return s, nil, true
		}
		if near == nil || len(c) < len(changes) {
			near, changes = s, c
		}
	}
	return near, changes, false
}

// rootPCRs are those that a state rests on, without what the initramfs adds.
func rootPCRs(s *seal.State) tpm.PCRs {
	if isStatic(s) {
		return staticPCRs
	}
	return launchPCRs
}

// cappedBefore says what earlier runs in this boot came to. Only where they certainly
// opened nothing the owner is not told that somebody may have seen the secret.
func cappedBefore(record *seal.Record, boot *Boot) (Cause, string) {
	search := newCapSearch(boot.found, []seal.MediumID{record.Medium}, boot.Disks)
	if _, ok := search.uncapped(); ok {
		return CauseAlready, "the disks' headers, by a run that did not come to its end"
	}
	links := search.find()
	switch {
	case links == nil:
		return CauseAlready, "something that this program did not extend"
	case links[0].outcome.Medium == (seal.MediumID{}):
		return CauseTried, strings.Join(capSteps(links), ", ")
	}
	return CauseAlready, strings.Join(capSteps(links), ", ")
}

// explainLaunch says what is wrong with a launch that is not a verified one.
func explainLaunch(boot *Boot) *Refusal {
	r := &Refusal{Cause: CauseLogUnproven, Detail: boot.Launch.Reason, err: seal.ErrMeasurements}
	switch {
	case boot.Launch.State == drtm.NotLaunched:
		r.Cause = CauseNotLaunched
	case boot.Log == nil || len(boot.Log.Log.Events) == 0:
		r.Cause = CauseLogEmpty
	}
	return r
}

// Measured lists what a log's launch measured, named by position and type.
func Measured(log *eventlog.Log) []seal.Measurement {
	var list []seal.Measurement
	names := drtm.Names(log)
	for _, i := range measuredEvents(log) {
		e := &log.Events[i]
		list = append(list, seal.Measurement{Name: names[i], PCR: e.PCR, Digests: e.Digests})
	}
	return list
}

// measured is what the boot measured, as far as it bears on a state, and the disks.
func (b *Boot) measured(s *seal.State) []seal.Measurement {
	if isStatic(s) {
		return append(b.staticMeasured(), b.Disks...)
	}
	return append(Measured(b.Log.Log), b.Disks...)
}

// compare lists how what was measured differs from an approved state.
func compare(s *seal.State, measured []seal.Measurement) []Change {
	var list []Change
	for _, d := range differences(s, measured) {
		list = append(list, d.Change)
	}
	return list
}

// difference is a change, with what it takes to say where it comes from.
type difference struct {
	Change
	kind   eventlog.ChangeKind
	before []tpm.TaggedDigest // what was approved, in all banks
	place  int                // among what was measured; -1 for what is gone
}

func differences(s *seal.State, measured []seal.Measurement) []difference {
	algs := s.Values.Algs()
	before, after := asLog(algs, s.Measured), asLog(algs, measured)
	var list []difference
	for _, c := range eventlog.Diff(before, after, s.PCRs) {
		d := difference{kind: c.Kind, place: -1}
		if c.Before != nil {
			d.What, d.Before, d.before = string(c.Before.Data), strongest(c.Before.Digests), c.Before.Digests
		}
		if c.After != nil {
			d.After = strongest(c.After.Digests)
			if d.What == "" {
				d.What = string(c.After.Data)
			}
			for i := range after.Events {
				if c.After == &after.Events[i] {
					d.place = i
				}
			}
		}
		list = append(list, d)
	}
	return list
}

// measuredEvents are the places in a log of what Measured lists.
func measuredEvents(log *eventlog.Log) []int {
	var list []int
	for i, e := range log.Events {
		if e.Type.Extended() && (e.PCR == tpm.PCRCode || e.PCR == tpm.PCRData) {
			list = append(list, i)
		}
	}
	return list
}

// asLog makes a log of measurements, with their names as data.
func asLog(algs []tpm.Alg, list []seal.Measurement) *eventlog.Log {
	log := &eventlog.Log{Format: eventlog.CryptoAgile}
	for _, a := range algs {
		log.Algs = append(log.Algs, eventlog.AlgSize{Alg: a, Size: uint16(a.Size())})
	}
	for _, m := range list {
		e := eventlog.Event{PCR: m.PCR, Type: eventlog.Slaunch, Data: []byte(m.Name)}
		for _, a := range algs {
			if d := tpm.Find(m.Digests, a); d != nil {
				e.Digests = append(e.Digests, tpm.TaggedDigest{Alg: a, Digest: d})
			}
		}
		log.Events = append(log.Events, e)
	}
	return log
}
