package manager

import (
	"fmt"

	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// Material is what a guest is built from, as it was measured.
type Material struct {
	Kernel, Configuration *measure.File
	Initrd                *measure.File // nil where the guest has none
	CommandLine           string
}

// Prepared is a start that was measured and not yet made. It belongs to the next fresh guest
// that asks for the vTPM.
type Prepared struct {
	manager  *Manager
	uuid     vtpm.UUID
	material Material
	// used is closed when a guest got it.
	used chan struct{}
}

// Prepare says what the next fresh guest of a vTPM starts with. Whoever built the guest ends it
// by Cancel.
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

// Used is closed when a guest got what was prepared.
func (p *Prepared) Used() <-chan struct{} { return p.used }

// Cancel ends a preparation, if no guest got it. Otherwise an unmeasured guest that is built
// later would be taken for the measured one.
func (p *Prepared) Cancel() {
	p.manager.mu.Lock()
	defer p.manager.mu.Unlock()
	if p.manager.prepared[p.uuid] == p {
		delete(p.manager.prepared, p.uuid)
	}
}
