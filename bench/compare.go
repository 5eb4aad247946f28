package bench

import (
	"fmt"
	"slices"

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
	Crashed  bool // theirs is a panic or a signal
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
	if said(c.ours.Err) != said(c.theirs.Err) || c.theirs.Crashed {
		c.add(Readable, Register{}, yes(c.ours.Err), yes(c.theirs.Err), c.theirs.Crashed)
	}
	if c.ours.Err != nil || c.theirs.Err != nil {
		return c.found
	}
	if c.ours.Events != c.theirs.Events {
		c.add(Count, Register{}, fmt.Sprint(c.ours.Events), fmt.Sprint(c.theirs.Events), false)
	}
	banks := in.parsed.Replay(in.Launched)
	if c.theirs.Replayed != nil {
		c.compareReplay(banks)
	}
	if c.theirs.Accepts != nil {
		c.askAboutValues(banks)
	}
	return c.found
}

func said(err error) bool { return err == nil }

func yes(err error) string {
	if err != nil {
		return "no: " + err.Error()
	}
	return "yes"
}

// comparison is one log, one reader, and what was found so far.
type comparison struct {
	in           *Input
	name         string
	ours, theirs Reading
	found        []Disagreement
}

func (c *comparison) add(q Question, r Register, ours, theirs string, crashed bool) {
	c.found = append(c.found, Disagreement{Question: q, Reader: c.name, Register: r, Ours: ours, Theirs: theirs, Crashed: crashed})
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
			if n, _ := c.in.events(p, alg); n == 0 && theirs == nil || ours.Equal(theirs) {
				continue
			}
			c.add(Replay, r, fmt.Sprintf("%q", ours.String()), fmt.Sprintf("%q", theirs.String()), false)
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

func (c *comparison) ask(q Question, r Register, values ...Value) {
	ours, _ := c.ours.Accepts(values...)
	theirs, err := c.theirs.Accepts(values...)
	if err != nil {
		c.add(q, r, fmt.Sprint(ours), err.Error(), true)
	} else if ours != theirs {
		c.add(q, r, fmt.Sprint(ours), fmt.Sprint(theirs), false)
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
