package bench

import (
	"errors"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// Input is a log that all readers are given. It has no name, so that a [Rule] can
// only speak of what the log is like.
type Input struct {
	Log []byte
	// Launched says whether PCRs 17 to 22 started as zeros: whether a dynamic launch
	// took place. Only package eventlog can be told.
	Launched bool

	parsed *eventlog.Log
	broken *eventlog.SyntaxError // nil where package eventlog reads the log to its end
}

// NewInput takes a log for one of a dynamic launch where it has events that a
// launch alone can explain.
func NewInput(log []byte) *Input {
	in := &Input{Log: log}
	var err error
	in.parsed, err = eventlog.Parse(log)
	errors.As(err, &in.broken)
	for i := range in.parsed.Events {
		e := &in.parsed.Events[i]
		in.Launched = in.Launched || e.Extended() && e.PCR.Dynamic()
	}
	return in
}

// events counts what was extended into a PCR, and of that what has a digest for
// the bank.
func (in *Input) events(p tpm.PCR, alg tpm.Alg) (all, inBank int) {
	for i := range in.parsed.Events {
		if e := &in.parsed.Events[i]; e.PCR == p && e.Extended() {
			all++
			if tpm.Find(e.Digests, alg) != nil {
				inBank++
			}
		}
	}
	return all, inBank
}
