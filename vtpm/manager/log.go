package manager

import (
	"fmt"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// Log is the measurement log of the guest's start, in the format of the vTPM's family. It does not wait: what was
// measured does not change, and the toolstack waits for a frontend that wants it, also while the guest is being resumed.
func (s *session) Log() ([]byte, error) { return logOf(s.launch, s.version) }

// Log is the measurement log of a running vTPM's guest, in the format of its family.
func (m *Manager) Log(u vtpm.UUID) ([]byte, error) {
	m.mu.Lock()
	r := m.running[u]
	m.mu.Unlock()
	if r == nil {
		return nil, fmt.Errorf("the vTPM %s does not run", u)
	}
	r.mu.Lock() // it may be starting
	defer r.mu.Unlock()
	if r.launch == nil {
		return nil, fmt.Errorf("the vTPM %s does not run", u)
	}
	return logOf(r.launch, r.version)
}

// NextLog is the log that the next guest will have which starts with a firmware of its own, as QEMU's do.
// Nothing in it changes from one start to the next: not before the host starts anew, and as long
// as the vTPM has the policy that it has. Of other guests only the start itself tells.
func (m *Manager) NextLog(u vtpm.UUID) ([]byte, error) {
	record, err := m.Get(u)
	if err != nil {
		return nil, err
	}
	next := &running{manager: m, guest: vtpm.Guest{UUID: u, Firmware: true}}
	if next.policy, err = ParsePolicy(record.Config); err != nil {
		return nil, err
	}
	l, err := next.launchOf()
	if err != nil {
		return nil, err
	}
	return logOf(l, record.Family)
}

func logOf(l *measure.Launch, v tpm.Version) ([]byte, error) {
	log, err := l.Log(v, Banks(v))
	if err != nil {
		return nil, err
	}
	return log.AppendTo(nil)
}
