package measure

import (
	"fmt"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// uintn64 is how wide the firmware's own word is, in units of four bytes: nobody's here, so
// that of the machine.
const uintn64 = 2

// Log is the measurement log for the guest: crypto agile for a TPM 2.0, TPM 1.2's own for
// that. It replays to [Launch.Predict]; PCRs 17 to 22 begin as zeros where the host was
// launched, as after every launch.
//
// A crypto agile log begins with a Spec ID event. A TPM 1.2's does not: logs of firmware for it
// mostly don't, and tpm2_eventlog (5.4) reads none that does. There is no StartupLocality event:
// a vTPM is started at locality 0, which is what its absence says.
//
// Nothing in the log is informative alone: tpm2_eventlog would count that as extended.
func (l *Launch) Log(v tpm.Version, algs []tpm.Alg) (*eventlog.Log, error) {
	steps, err := l.Steps(algs)
	if err != nil {
		return nil, err
	}
	h := eventlog.Header{Format: eventlog.CryptoAgile, Algs: algs, Uintn: uintn64}
	if v == tpm.V12 {
		h = eventlog.Header{Format: eventlog.TCG12, Algs: algs}
	}
	log, err := eventlog.New(h)
	if err != nil {
		return nil, fmt.Errorf("begin the log of a %s: %w", v, err)
	}
	for _, s := range steps {
		if err := log.Append(s.Event); err != nil {
			return nil, fmt.Errorf("log what was measured into PCR %d: %w", s.Event.PCR, err)
		}
	}
	return log, nil
}
