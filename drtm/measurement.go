package drtm

import (
	"fmt"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// The localities at which a launch extends PCRs (TPM Library, Part 1, clause
// 17; TIS, clause 5).
const (
	localityOS  tpm.Locality = 2 // the launched environment
	localityACM tpm.Locality = 3 // Intel's SINIT module
	localityCPU tpm.Locality = 4 // the CPU's own hash sequence
)

// Measurement is one step of a launch: what goes where, and how the log shows it.
type Measurement struct {
	Role     Role
	PCR      tpm.PCR
	Type     eventlog.Type
	Data     []byte             // the event's data as it stands in the log
	Digests  []tpm.TaggedDigest // one for each bank, in the banks' order
	Locality tpm.Locality       // at which the PCR is extended
}

// ByCPU reports whether the CPU's hash sequence makes this measurement. The
// event is then only logged; an extend would count it twice.
func (m Measurement) ByCPU() bool { return m.Locality == localityCPU }

// Extended reports whether the measurement changes its PCR at all. Markers don't.
func (m Measurement) Extended() bool { return m.Type.Extended() && m.PCR < tpm.NumPCRs }

// Event is the measurement as the log shows it.
func (m Measurement) Event() eventlog.Event {
	return eventlog.Event{PCR: m.PCR, Type: m.Type, Digests: m.Digests, Data: m.Data}
}

// Predict computes what PCRs 17 to 22 hold after a launch that made these
// measurements. The other PCRs are not known and stay nil.
func Predict(algs []tpm.Alg, ms []Measurement) (tpm.Banks, error) {
	banks := make(tpm.Banks, len(algs))
	for i, a := range algs {
		if !a.Available() {
			return nil, fmt.Errorf("predict the %s bank: digests of that algorithm can't be computed here", a)
		}
		banks[i].Alg = a
		banks[i].Reset(tpm.PCRSet(17, 18, 19, 20, 21, 22), true)
		for _, m := range ms {
			if !m.Extended() {
				continue
			}
			if err := banks[i].Extend(m.PCR, tpm.Find(m.Digests, a)); err != nil {
				return nil, fmt.Errorf("predict the measurement of the %s: %w", m.Role, err)
			}
		}
	}
	return banks, nil
}
