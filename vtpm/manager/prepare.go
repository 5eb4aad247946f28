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
	// used is closed when a guest got it. again says that the next ones get it, too.
	used  chan struct{}
	again bool
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

// Again says that every fresh guest of the vTPM gets what was prepared, until Cancel. It is for
// one who builds the guest anew, of the same bytes, each time that it reboots.
func (p *Prepared) Again() {
	p.manager.mu.Lock()
	defer p.manager.mu.Unlock()
	p.again = true
}

// use takes the preparation for a guest. The manager's mu is held.
func (p *Prepared) use() {
	select {
	case <-p.used:
	default:
		close(p.used)
	}
	if !p.again {
		delete(p.manager.prepared, p.uuid)
	}
}

// Cancel ends a preparation. Otherwise an unmeasured guest that is built later would be taken
// for the measured one. The guest that has it keeps it.
func (p *Prepared) Cancel() {
	p.manager.mu.Lock()
	defer p.manager.mu.Unlock()
	if p.manager.prepared[p.uuid] == p {
		delete(p.manager.prepared, p.uuid)
	}
}
