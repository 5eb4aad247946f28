package manager

import (
	"sync/atomic"
	"time"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// Figures count what happened to one vTPM since the manager began.
type Figures struct {
	Commands  uint64        // that its guests sent
	KeptBack  uint64        // of these, answered without the vTPM: not for a guest, or settled before
	Commits   uint64        // states stored
	Paused    uint64        // times that a state could not be stored
	Died      uint64        // emulators that ended without being told to
	Refusals  uint64        // guests that did not get it
	Answering time.Duration // from a command to its answer, all together
}

// Refusal is why a guest did not get a vTPM, and when that was.
type Refusal struct {
	At   time.Time
	Text string
}

// Refused is the last refusal of a vTPM; nil where there was none.
func (m *Manager) Refused(u vtpm.UUID) *Refusal { return m.counted(u).refusal.Load() }

// counters are Figures while they are counted.
type counters struct {
	commands, keptBack, commits, paused, died, refusals atomic.Uint64
	nanoseconds                                         atomic.Int64
	refusal                                             atomic.Pointer[Refusal]
}

func (c *counters) figures() Figures {
	return Figures{c.commands.Load(), c.keptBack.Load(), c.commits.Load(), c.paused.Load(), c.died.Load(), c.refusals.Load(), time.Duration(c.nanoseconds.Load())}
}

// counted returns the counters of a vTPM. They outlive its guests: a counter that fell would
// look to who watches it as if the manager had been started anew.
func (m *Manager) counted(u vtpm.UUID) *counters {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.countersOf(u)
}

// countersOf is counted where mu is held.
func (m *Manager) countersOf(u vtpm.UUID) *counters {
	c := m.counters[u]
	if c == nil {
		c = &counters{}
		m.counters[u] = c
	}
	return c
}

// Figures returns those of all vTPMs that a guest asked for, and that exist.
func (m *Manager) Figures() map[vtpm.UUID]Figures {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[vtpm.UUID]Figures, len(m.counters))
	for u, c := range m.counters {
		all[u] = c.figures()
	}
	return all
}

// Running is a vTPM that has a guest, as it was last seen.
type Running struct {
	Guest      vtpm.Guest
	Version    tpm.Version
	Generation uint64
	Start      measure.Start // as the guest counts; 0 while it starts
	Since      time.Time
	Connected  bool
	Paused     error // nil where the state can be stored
	Died       bool  // its emulator ended; the guest has no TPM until it starts anew
}

// publish lets others see a vTPM as it is. mu is held.
func (r *running) publish() {
	n := &Running{Guest: r.guest, Version: r.version, Generation: r.generation, Since: r.since, Connected: r.session != nil, Paused: r.paused, Died: r.died}
	if r.launch != nil {
		n.Start = r.launch.Start
	}
	r.seen.Store(n)
}

// Running lists the vTPMs that have guests. It waits for none of them.
func (m *Manager) Running() map[vtpm.UUID]Running {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[vtpm.UUID]Running, len(m.running))
	for u, r := range m.running {
		if n := r.seen.Load(); n != nil {
			all[u] = *n
		} else {
			all[u] = Running{Guest: r.guest}
		}
	}
	return all
}
