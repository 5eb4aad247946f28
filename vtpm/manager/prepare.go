package manager

import (
	"fmt"
	"sync"

	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// Material is what a guest is built from, as it was measured.
type Material struct {
	Kernel, Configuration *measure.File
	Initrd                *measure.File // nil where the guest has none
	CommandLine           string
}

// Prepared is a start that was measured. It holds for each fresh guest that asks for the vTPM,
// because a guest that restarts is built anew of the same bytes, until it is cancelled.
type Prepared struct {
	manager  *Manager
	uuid     vtpm.UUID
	material Material
	used     chan struct{}
	once     sync.Once
}

// Prepare says what fresh guests of a vTPM start with. Who builds them must be able to build them of
// nothing else, and ends this by Cancel as soon as it builds no more.
func (m *Manager) Prepare(u vtpm.UUID, material Material) (*Prepared, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return nil, ErrClosed
	case m.running[u] != nil:
		return nil, fmt.Errorf("prepare a start with the vTPM %s: %w", u, ErrRunning)
	case m.prepared[u] != nil:
		return nil, fmt.Errorf("%w: %s", ErrPrepared, u)
	}
	p := &Prepared{manager: m, uuid: u, material: material, used: make(chan struct{})}
	m.prepared[u] = p
	return p, nil
}

// Used is closed when the first guest got its vTPM.
func (p *Prepared) Used() <-chan struct{} { return p.used }

// Cancel ends a preparation. Otherwise an unmeasured guest that is built later would be taken
// for the measured one.
func (p *Prepared) Cancel() {
	p.manager.mu.Lock()
	defer p.manager.mu.Unlock()
	if p.manager.prepared[p.uuid] == p {
		delete(p.manager.prepared, p.uuid)
	}
}
