package bench

import (
	"fmt"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// Generate makes a crypto agile log of n events with 100 bytes of data each, in the
// PCRs that firmware and loaders use, without asking a machine for one.
func Generate(n int, algs ...tpm.Alg) ([]byte, error) {
	log, err := eventlog.New(eventlog.Header{Format: eventlog.CryptoAgile, Algs: algs, Uintn: 2})
	if err != nil {
		return nil, err
	}
	for i := range n {
		data := fmt.Appendf(nil, "%0100d", i)
		e := eventlog.Event{PCR: tpm.PCR(i % 10), Type: eventlog.IPL, Digests: tpm.SumAll(algs, data), Data: data}
		if err := log.Append(e); err != nil {
			return nil, err
		}
	}
	return log.AppendTo(nil)
}
