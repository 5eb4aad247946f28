package xl

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// Starter starts guests whose vTPMs a manager has.
type Starter struct {
	Manager *manager.Manager
	// Program is xl; empty means the one in the PATH.
	Program string
	Log     *slog.Logger
}

// measured is a guest of which all that it starts with was read, and which its vTPM expects.
type measured struct {
	uuid                          vtpm.UUID
	configuration                 *measure.Configuration
	text, kernel, initrd, changed *measure.Artefact // initrd is nil where there is none; changed is made by Run
	prepared                      *manager.Prepared
}

// algs are those of all vTPMs. A guest's kernel is hashed in each of them: which of its vTPM's
// banks somebody seals to is not known here.
var algs = manager.Banks(tpm.V20)

// ErrNoVTPM says that a configuration has no vTPM whose name is known.
var ErrNoVTPM = errors.New(`the configuration has no vTPM with a uuid; write vtpm=["backend=Domain-0,uuid=..."], with the uuid that vtpmctl create printed`)

// measure reads what a guest starts with, and tells the manager to expect it.
func (s *Starter) measure(path string, tell func(string)) (_ *measured, err error) {
	m := &measured{}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	if m.text, err = measure.Seal(path, measure.MaxConfiguration, algs, nil); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(m.text.Reader())
	if err != nil {
		return nil, fmt.Errorf("read the guest's configuration %s: %w", path, err)
	}
	if m.configuration, err = measure.ParseConfiguration(text); err != nil {
		return nil, fmt.Errorf("the guest's configuration %s: %w", path, err)
	}
	c := m.configuration
	switch len(c.VTPMs) {
	case 0:
		return nil, fmt.Errorf("%s: %w", path, ErrNoVTPM)
	case 1:
		m.uuid = c.VTPMs[0]
	default:
		return nil, fmt.Errorf("%s: a guest can be measured into one vTPM, and this one has %d", path, len(c.VTPMs))
	}
	// Asked before the long work: a guest whose vTPM is unknown does not start.
	if _, err = s.Manager.Get(m.uuid); err != nil {
		return nil, err
	}
	if m.kernel, err = sealed(c.Kernel, measure.MaxKernel, tell); err != nil {
		return nil, err
	}
	material := manager.Material{Kernel: &m.kernel.File, Configuration: &m.text.File, CommandLine: c.CommandLine}
	if c.Ramdisk != "" {
		if m.initrd, err = sealed(c.Ramdisk, measure.MaxInitrd, tell); err != nil {
			return nil, err
		}
		material.Initrd = &m.initrd.File
	}
	m.prepared, err = s.Manager.Prepare(m.uuid, material)
	return m, err
}

// sealed measures a file, and says what is under way.
func sealed(path string, limit int64, tell func(string)) (*measure.Artefact, error) {
	tell("measuring " + path)
	return measure.Seal(path, limit, algs, func(done, total int64) {
		tell(fmt.Sprintf("measuring %s: %d%%", path, 100*done/max(total, 1)))
	})
}

// close lets the files go. Whoever has them open keeps them.
func (m *measured) close() {
	for _, a := range []*measure.Artefact{m.text, m.kernel, m.initrd, m.changed} {
		if a != nil {
			a.Close()
		}
	}
}
