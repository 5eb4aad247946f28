package vtpmhost

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/durable"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/root"
	"github.com/antievilmaid/aem/vtpm/store"
)

// ErrNotLaunched says that nothing vouches for what runs, so that nothing can be approved.
var ErrNotLaunched = errors.New("this boot was not launched as anti-evil-maid launches")

// Init makes root and store, for this boot and what the machine's own set-up approves. Where there is one of
// them already it is refused. static chooses to rest on what the firmware measured.
func (m *Machine) Init(static bool, owner []byte) (root.ID, error) {
	for _, path := range []string{m.rootDir(), m.Store()} {
		if exists(path) {
			return root.ID{}, fmt.Errorf("%s: %w; a vTPM manager was set up here, and all vTPMs would be lost", path, store.ErrExists)
		}
	}
	p, err := m.present(static)
	if err != nil {
		return root.ID{}, err
	}
	backend, credential, err := m.ProvisionBeside(m.home(), owner)
	if err != nil {
		return root.ID{}, ownSetUp(fmt.Errorf("prepare the TPM: %w", err))
	}
	defer clear(credential)
	var id root.ID
	err = m.where.patiently(func() (err error) {
		id, err = m.create(backend, credential, p)
		return err
	})
	if err != nil && !exists(m.Store()) {
		// Half a set-up would stand in the way of the next try, and a counter that nothing rests on
		// takes a place in the TPM for ever.
		err = errors.Join(err, backend.Remove(credential))
	}
	return id, err
}

// create makes root and store, or neither.
func (m *Machine) create(backend seal.Backend, credential []byte, p root.Policy) (_ root.ID, err error) {
	defer func() {
		if err != nil && !exists(m.Store()) {
			err = errors.Join(err, os.RemoveAll(m.rootDir()))
		}
	}()
	r, err := root.Create(m.rootDir(), m.Chip, backend, credential, p)
	if err != nil {
		return root.ID{}, err
	}
	defer r.Close()
	if err := durable.Sync(m.where.State); err != nil {
		return root.ID{}, err
	}
	err = store.Create(m.Store(), r)
	if err != nil && !(errors.Is(err, tpm.ErrBusy) && exists(m.Store())) { // opening it begins its epoch
		return root.ID{}, err
	}
	return r.ID()
}

// present is the policy for this boot, and the states that are approved beside it.
func (m *Machine) present(static bool) (root.Policy, error) {
	boot, err := m.Boot()
	if err != nil {
		return root.Policy{}, err
	}
	p := root.Policy{Static: static}
	if static {
		s, err := m.StaticState(boot, "the boot at "+m.Now().UTC().Format(time.DateTime))
		if err != nil {
			return p, err
		}
		p.States = []seal.State{withoutHost(*s)}
		return p, nil
	}
	if boot.Launch.State != drtm.Verified {
		return p, fmt.Errorf("%w: %s", ErrNotLaunched, boot.Launch.Reason)
	}
	s, err := boot.Present("the boot at " + m.Now().UTC().Format(time.DateTime))
	if err != nil {
		return p, err
	}
	p.States = []seal.State{root.Launched(*s)}
	approved, err := m.approved(static)
	if err != nil && !errors.Is(err, errNothing) {
		return p, err
	}
	for _, s := range approved {
		if !contains(p.States, s) && len(p.States) < seal.MaxStates {
			p.States = append(p.States, s)
		}
	}
	return p, nil
}

// withoutHost leaves PCR 13 out, which anti-evil-maid extends once it has shown its proof.
func withoutHost(s seal.State) seal.State {
	s.PCRs &^= tpm.PCRSet(tpm.PCRHost)
	for i := range s.Values {
		s.Values[i].Values[tpm.PCRHost] = nil
	}
	return s
}

// OpenRoot opens the root alone. The caller closes it.
func (m *Machine) OpenRoot() (r *root.Root, err error) {
	if _, err := os.Stat(m.rootDir()); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", m.rootDir(), ErrNotSetUp)
	}
	err = m.where.patiently(func() (err error) {
		r, err = root.Open(m.rootDir(), m.Chip)
		return err
	})
	return r, err
}

// ErrNotSetUp says that nobody ran vtpmd init.
var ErrNotSetUp = errors.New("no vTPM manager was set up on this machine")

// OpenStore opens root and store. The caller closes the store, and then the root.
func (m *Machine) OpenStore() (*root.Root, *store.Store, error) {
	r, err := m.OpenRoot()
	if err != nil {
		return nil, nil, err
	}
	var s *store.Store
	err = m.where.patiently(func() (err error) {
		s, err = store.Open(m.Store(), r)
		return err
	})
	if err != nil {
		r.Close()
		return nil, nil, err
	}
	return r, s, nil
}
