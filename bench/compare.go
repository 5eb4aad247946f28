package bench

import (
	"fmt"
	"slices"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// Question is what a reader is asked about a log.
type Question string

// The questions.
const (
	Readable    Question = "is it a log"
	Count       Question = "how many events"
	Replay      Question = "the replayed value"
	RightValue  Question = "is the replayed value right"
	WrongValue  Question = "is another value right"
	OneBank     Question = "is one right bank enough"
	CutAlg      Question = "is a value right for the bank that the low 8 bits of an algorithm's id name"
	LaterEvents Question = "is a value right that includes events which are not in the log"
)

// Disagreement is a question to which package eventlog and another reader have
// different answers.
type Disagreement struct {
	Question Question
	Reader   string
	Register // for questions about a value; OneBank leaves Alg zero
	Ours     string
	Theirs   string
	More     int  // for Count: how many more they found
	Crashed  bool // theirs is a panic or a signal
}

func (d *Disagreement) theyAccept() bool { return d.Theirs == "true" }
func (d *Disagreement) refusedByThem() bool {
	return d.Question == Readable && d.Ours == accepted && !d.Crashed
}
func (d *Disagreement) refusedByUs() bool { return d.Question == Readable && d.Theirs == accepted }

// aboutReplay reports whether it is about the value to which the log leads.
func (d *Disagreement) aboutReplay() bool {
	return d.Question == Replay || d.Question == RightValue && !d.theyAccept()
}

func (d *Disagreement) String() string {
	s := fmt.Sprintf("%s, %s", d.Reader, d.Question)
	if d.Question != Readable && d.Question != Count {
		s += fmt.Sprintf(" (PCR %d, %s)", d.PCR, d.Alg)
	}
	return fmt.Sprintf("%s: ours %s; theirs %s", s, d.Ours, d.Theirs)
}

// Compare asks package eventlog and another reader all questions about a log,
// and returns those to which the answers differ.
func Compare(in *Input, reader Reader) []Disagreement {
	c := comparison{in: in, name: reader.Name(), ours: Ours{}.Read(in), theirs: reader.Read(in)}
	if (c.ours.Err == nil) != (c.theirs.Err == nil) || c.theirs.Crashed {
		c.add(Disagreement{Question: Readable, Ours: outcome(c.ours.Err), Theirs: outcome(c.theirs.Err), Crashed: c.theirs.Crashed})
	}
	if c.ours.Err != nil || c.theirs.Err != nil {
		return c.found
	}
	if c.ours.Events != c.theirs.Events {
		ours, theirs := c.ours.Events, c.theirs.Events
		c.add(Disagreement{Question: Count, Ours: fmt.Sprint(ours), Theirs: fmt.Sprint(theirs), More: theirs - ours})
	}
	banks := in.parsed.Replay(in.Launched)
	if c.theirs.Replayed != nil {
		c.compareReplay(banks)
	}
	if c.theirs.Accepts != nil {
		c.askAboutValues(banks)
		c.askAboutCutAlgs()
	}
	return c.found
}

const accepted = "yes"

func outcome(err error) string {
	if err != nil {
		return "no: " + err.Error()
	}
	return accepted
}

// comparison is one log, one reader, and what was found so far.
type comparison struct {
	in           *Input
	name         string
	ours, theirs Reading
	found        []Disagreement
}

func (c *comparison) add(d Disagreement) {
	d.Reader = c.name
	c.found = append(c.found, d)
}

// compareReplay compares all values that either computes. Theirs has none for a
// PCR without events, and says nothing by that.
func (c *comparison) compareReplay(banks tpm.Banks) {
	algs := banks.Algs()
	for r := range c.theirs.Replayed {
		if !slices.Contains(algs, r.Alg) {
			algs = append(algs, r.Alg)
		}
	}
	slices.Sort(algs)
	for _, alg := range algs {
		for p := range tpm.PCR(32) {
			r := Register{p, alg}
			ours, theirs := banks.Value(alg, p), c.theirs.Replayed[r]
			if _, n := c.in.events(p, alg); n == 0 && theirs == nil || ours.Equal(theirs) {
				continue
			}
			c.add(Disagreement{Question: Replay, Register: r, Ours: ours.String(), Theirs: theirs.String()})
		}
	}
}

// askAboutValues asks about each PCR in each bank.
func (c *comparison) askAboutValues(banks tpm.Banks) {
	for p := range tpm.PCR(tpm.NumPCRs) {
		var mixed []Value
		for i := range banks {
			r := Register{p, banks[i].Alg}
			right := Value{r, banks[i].Values[p]}
			wrong := Value{r, slices.Clone(right.Digest)}
			wrong.Digest[0] ^= 1
			c.ask(RightValue, r, right)
			c.ask(WrongValue, r, wrong)
			if p == 5 {
				c.ask(LaterEvents, r, Value{r, exitBootServices(banks[i])})
			}
			if mixed = append(mixed, right); i > 0 {
				mixed[i] = wrong
			}
		}
		if len(mixed) > 1 {
			c.ask(OneBank, Register{PCR: p}, mixed...)
		}
	}
}

// askAboutCutAlgs asks about the bank whose id the low 8 bits of a declared one are,
// with the values that the declared one's digests lead to.
func (c *comparison) askAboutCutAlgs() {
	for _, a := range c.in.parsed.Algs {
		low := tpm.Alg(uint8(a.Alg))
		if low == a.Alg || !low.Available() || low.Size() != int(a.Size) {
			continue
		}
		cut := eventlog.Log{Algs: []eventlog.AlgSize{{Alg: low, Size: a.Size}}}
		for i := range c.in.parsed.Events {
			e := c.in.parsed.Events[i]
			e.Digests = []tpm.TaggedDigest{{Alg: low, Digest: tpm.Find(e.Digests, a.Alg)}}
			cut.Events = append(cut.Events, e)
		}
		bank := cut.Replay(c.in.Launched)[0]
		for i := range cut.Events {
			if p := cut.Events[i].PCR; cut.Events[i].Extended() {
				c.ask(CutAlg, Register{p, low}, Value{Register{p, low}, bank.Values[p]})
			}
		}
	}
}

func (c *comparison) ask(q Question, r Register, values ...Value) {
	ours, _ := c.ours.Accepts(values...)
	theirs, err := c.theirs.Accepts(values...)
	d := Disagreement{Question: q, Register: r, Ours: fmt.Sprint(ours), Theirs: fmt.Sprint(theirs)}
	if err != nil {
		d.Theirs, d.Crashed = err.Error(), true
	}
	if d.Ours != d.Theirs {
		c.add(d)
	}
}

// exitBootServices is PCR 5 after the events with which firmware ends (TCG PFP,
// clause 8.2.4).
func exitBootServices(b tpm.Bank) tpm.Digest {
	for _, text := range []string{"Exit Boot Services Invocation", "Exit Boot Services Returned with Success"} {
		if err := b.Extend(5, b.Alg.Sum([]byte(text))); err != nil {
			return nil
		}
	}
	return b.Values[5]
}
