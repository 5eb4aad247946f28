package bench

import (
	"encoding/binary"
	"fmt"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

var le = binary.LittleEndian

// twoBanks are the banks that most of today's logs have.
var twoBanks = []tpm.Alg{tpm.SHA1, tpm.SHA256}

// Generate makes a crypto agile log of n events with 100 bytes of data each, in the
// PCRs that firmware and loaders use.
func Generate(n int, algs ...tpm.Alg) ([]byte, error) {
	g := newGenerator(eventlog.Header{Format: eventlog.CryptoAgile, Algs: algs, Uintn: 2})
	for i := range n {
		g.add(tpm.PCR(i%10), eventlog.IPL, fmt.Sprintf("%0100d", i))
	}
	return g.bytes()
}

// generator writes a log with package eventlog; the first error stays.
type generator struct {
	log  *eventlog.Log
	algs []tpm.Alg
	err  error
}

func newGenerator(h eventlog.Header) *generator {
	log, err := eventlog.New(h)
	return &generator{log, h.Algs, err}
}

// agile begins a crypto agile log in two banks that has one event in PCR 4, so that
// none is empty.
func agile() *generator {
	return newGenerator(eventlog.Header{Format: eventlog.CryptoAgile, Algs: twoBanks, Uintn: 2}).add(4, eventlog.IPL, "first")
}

// add appends an event whose digests are those of its data, in all banks.
func (g *generator) add(p tpm.PCR, t eventlog.Type, data string) *generator {
	return g.addDigests(p, t, data, tpm.SumAll(g.algs, []byte(data)))
}

func (g *generator) addDigests(p tpm.PCR, t eventlog.Type, data string, digests []tpm.TaggedDigest) *generator {
	if g.err == nil {
		g.err = g.log.Append(eventlog.Event{PCR: p, Type: t, Digests: digests, Data: []byte(data)})
	}
	return g
}

func (g *generator) bytes() ([]byte, error) {
	if g.err != nil {
		return nil, g.err
	}
	return g.log.AppendTo(nil)
}

// Places in the header of a crypto agile log.
const (
	headerDigest    = 8       // of the header's own record, which is zeros
	headerSignature = 32      // "Spec ID Event03"
	headerAlgs      = 32 + 28 // u16 algorithm and u16 size for each bank
)

// rawEvent is a crypto agile record as an attacker may write it: with any number
// of digests in any banks.
func rawEvent(p tpm.PCR, digests ...tpm.TaggedDigest) []byte {
	b := le.AppendUint32(le.AppendUint32(nil, uint32(p)), uint32(eventlog.IPL))
	b = le.AppendUint32(b, uint32(len(digests)))
	for _, d := range digests {
		b = append(le.AppendUint16(b, uint16(d.Alg)), d.Digest...)
	}
	return append(le.AppendUint32(b, 4), "data"...)
}
