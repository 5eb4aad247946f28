package aem

import (
	"iter"
	"slices"

	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// capSearch looks for the steps that lead PCR 13 to what it holds. A PCR is a digest of
// digests, so it tells nothing by itself; but there are only so many things that this
// program extends, and they can all be tried.
type capSearch struct {
	held tpm.Banks // what PCR 13 holds
	// disks are the sets of headers that may have been measured. The first is empty.
	disks  [][]seal.Measurement
	opened []Outcome // possible where nothing was capped before
	closed []Outcome // always possible

	alg   tpm.Alg // the bank that is searched; a find is held against all of them
	value tpm.Digest
	sums  map[Outcome]tpm.Digest // what each outcome extends there
}

// capLink is one run of the program: the headers it measured, and how it ended.
type capLink struct {
	disks     int
	outcome   Outcome
	continued bool
}

// maxRepeats is how often the same run may follow the second: the boot's script runs the
// program until its owner lets the boot go on.
const maxRepeats = 8

// newCapSearch prepares the search among these media and headers.
func newCapSearch(held tpm.Banks, media []seal.MediumID, disks ...[]seal.Measurement) *capSearch {
	s := &capSearch{held: held, disks: [][]seal.Measurement{nil}, opened: openedOutcomes(media), closed: closedOutcomes()}
	for _, d := range disks {
		if len(d) > 0 && !slices.ContainsFunc(s.disks, func(x []seal.Measurement) bool { return sameMeasured(x, d) }) {
			// Measured twice it was where a run was killed before its end.
			s.disks = append(s.disks, d, slices.Concat(d, d))
		}
	}
	for _, b := range held {
		if s.alg == 0 || b.Alg == tpm.SHA256 {
			s.alg, s.value = b.Alg, b.Values[tpm.PCRHost]
		}
	}
	s.sums = map[Outcome]tpm.Digest{}
	for _, o := range slices.Concat(s.opened, s.closed, []Outcome{continued}) {
		s.sums[o] = s.alg.Sum([]byte(o.text()))
	}
	return s
}

// sameMeasured compares digests in the banks that both have: an approved state keeps
// none in SHA-1 where there is a better bank.
func sameMeasured(a, b []seal.Measurement) bool {
	return slices.EqualFunc(a, b, func(x, y seal.Measurement) bool {
		common := 0
		for _, d := range x.Digests {
			if o := tpm.Find(y.Digests, d.Alg); o != nil {
				common++
				if !o.Equal(d.Digest) {
					return false
				}
			}
		}
		return common > 0 && x.PCR == y.PCR
	})
}

// uncapped reports whether nothing, or nothing but headers, was extended, and which.
func (s *capSearch) uncapped() (disks int, ok bool) {
	for d := range s.disks {
		if v, possible := s.measure(s.alg, make(tpm.Digest, s.alg.Size()), d); possible && v.Equal(s.value) && s.holds(nil, d) {
			return d, true
		}
	}
	return 0, false
}

// find returns the runs that lead to what PCR 13 holds, and nil where none are known.
func (s *capSearch) find() []capLink {
	start := make(tpm.Digest, s.alg.Size())
	for first, one := range s.runs(start, slices.Concat(s.opened, s.closed)) {
		if links := s.ends([]capLink{first}, one); links != nil {
			return links
		}
		for next, two := range s.runs(one, s.closed) {
			links := []capLink{first}
			for range maxRepeats {
				links = append(links, next)
				if found := s.ends(links, two); found != nil {
					return found
				}
				two, _ = s.step(s.alg, two, next)
			}
		}
	}
	return nil
}

// ends reports whether the runs, or the runs and the word to boot on, are what happened.
func (s *capSearch) ends(links []capLink, v tpm.Digest) []capLink {
	if v.Equal(s.value) && s.holds(links, 0) {
		return links
	}
	last := links[len(links)-1].outcome.Result
	if last == ResultRefused && s.alg.Sum(v, s.sum(s.alg, continued)).Equal(s.value) {
		links = slices.Clone(links)
		links[len(links)-1].continued = true
		if s.holds(links, 0) {
			return links
		}
	}
	return nil
}

// runs goes through all runs from a value on, with the values that they lead to.
func (s *capSearch) runs(from tpm.Digest, outcomes []Outcome) iter.Seq2[capLink, tpm.Digest] {
	return func(yield func(capLink, tpm.Digest) bool) {
		for d := range s.disks {
			for _, o := range outcomes {
				l := capLink{disks: d, outcome: o}
				if v, possible := s.step(s.alg, from, l); possible && !yield(l, v) {
					return
				}
			}
		}
	}
}

// step computes what a run makes of a value.
func (s *capSearch) step(alg tpm.Alg, v tpm.Digest, l capLink) (tpm.Digest, bool) {
	v, possible := s.measure(alg, v, l.disks)
	if !possible {
		return nil, false
	}
	v = alg.Sum(v, s.sum(alg, l.outcome))
	if l.continued {
		v = alg.Sum(v, s.sum(alg, continued))
	}
	return v, true
}

func (s *capSearch) sum(alg tpm.Alg, o Outcome) tpm.Digest {
	if alg == s.alg {
		return s.sums[o]
	}
	return alg.Sum([]byte(o.text()))
}

// measure computes what a set of headers makes of a value. It is not possible in a bank
// that the set has no digests of.
func (s *capSearch) measure(alg tpm.Alg, v tpm.Digest, disks int) (tpm.Digest, bool) {
	for _, m := range s.disks[disks] {
		d := tpm.Find(m.Digests, alg)
		if d == nil {
			return nil, false
		}
		v = alg.Sum(v, d)
	}
	return v, true
}

// holds demands of a find that it leads to the value of every bank. A set of headers that
// was kept without SHA-1 says nothing of that bank, which is the only one let off, and only
// beside a better one.
func (s *capSearch) holds(links []capLink, disks int) bool {
	for _, b := range s.held {
		v := make(tpm.Digest, b.Alg.Size())
		possible := true
		for _, l := range links {
			if possible {
				v, possible = s.step(b.Alg, v, l)
			}
		}
		if possible {
			v, possible = s.measure(b.Alg, v, disks)
		}
		if !possible && b.Alg == tpm.SHA1 && len(s.held) > 1 {
			continue
		}
		if !possible || !v.Equal(b.Values[tpm.PCRHost]) {
			return false
		}
	}
	return len(s.held) > 0
}
