package eventlog

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
)

// ErrJoin says that logs are not those of one launch.
var ErrJoin = errors.New("these logs are not of the same launch")

// Join joins logs of the same events in one algorithm each, as older modules of
// Intel keep them, into one with a digest for each algorithm. The logs must agree in
// everything but the digests.
func Join(logs []*Log) (*Log, error) {
	if len(logs) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrJoin)
	}
	var h Header
	h.Format = CryptoAgile
	for _, l := range logs {
		for _, a := range l.Algs {
			h.Algs = append(h.Algs, a.Alg)
		}
		if len(l.Events) != len(logs[0].Events) {
			return nil, fmt.Errorf("%w: they have %d and %d events", ErrJoin, len(logs[0].Events), len(l.Events))
		}
	}
	joined, err := New(h)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrJoin, err)
	}
	for i := range logs[0].Events {
		first := &logs[0].Events[i]
		e := Event{PCR: first.PCR, Type: first.Type, Data: first.Data}
		var digests []tpm.TaggedDigest
		for _, l := range logs {
			x := &l.Events[i]
			// Digests of the body may differ in length, and so may bodies that hold one.
			if x.PCR != e.PCR || x.Type != e.Type || len(x.Data) == len(e.Data) && !bytes.Equal(x.Data, e.Data) {
				return nil, fmt.Errorf("%w: event %d is %s of PCR %d in one and %s of PCR %d in another", ErrJoin, i, e.Type, e.PCR, x.Type, x.PCR)
			}
			digests = append(digests, x.Digests...)
		}
		e.Digests = digests
		if err := joined.Append(e); err != nil {
			return nil, fmt.Errorf("%w: event %d: %w", ErrJoin, i, err)
		}
	}
	for _, l := range logs {
		joined.Truncated = joined.Truncated || l.Truncated
	}
	return joined, nil
}
