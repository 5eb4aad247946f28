package manager

import (
	"fmt"
	"os"
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
	ended    sync.Once
	builder  *os.File // nil where Cancel alone ends it
}

// Prepare says what fresh guests of a vTPM start with. Who builds them must be able to build them of
// nothing else, and ends this by Cancel as soon as it builds no more, or says by While who builds.
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
// for the measured one. Cancelling twice does nothing.
func (p *Prepared) Cancel() {
	p.ended.Do(func() {
		m := p.manager
		if p.builder != nil {
			p.builder.Close()
			p.letGo()
		}
		// Only now may there be another one, which is kept under the same names.
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.prepared, p.uuid)
	})
}
