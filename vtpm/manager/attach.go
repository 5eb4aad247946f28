package manager

import (
	"context"
	"fmt"

	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/measure"
	"github.com/antievilmaid/aem/vtpm/store"
)

// Attach gives a guest its vTPM, or says why not.
func (m *Manager) Attach(ctx context.Context, g vtpm.Guest) (vtpm.Session, error) {
	s, err := m.attach(ctx, g)
	if err != nil {
		return nil, m.refuse(g, err)
	}
	return s, nil
}

// refuse notes why a guest gets nothing.
func (m *Manager) refuse(g vtpm.Guest, err error) error {
	err = fmt.Errorf("the guest %s does not get the vTPM %s: %w", g.Domain, g.UUID, err)
	c := m.counted(g.UUID)
	c.refusals.Add(1)
	c.refusal.Store(&Refusal{m.Now(), err.Error()})
	m.Tell(Happening{Kind: "refused", UUID: g.UUID, Guest: g.Domain, Text: err.Error()})
	return err
}

func (m *Manager) attach(ctx context.Context, g vtpm.Guest) (*session, error) {
	r, fresh, err := m.seat(g)
	if err != nil {
		return nil, err
	}
	if !fresh {
		return r.connect(g)
	}
	// r is locked, so that nobody else sees it before it runs.
	if r.awaited != nil {
		s, err := r.awaited.claim(r)
		if err != nil {
			r.ended = true
			r.forget()
			r.mu.Unlock()
		}
		return s, err
	}
	defer r.mu.Unlock()
	if err := r.start(ctx); err != nil {
		r.ended = true
		r.forget()
		return nil, err
	}
	return r.open(), nil
}

// seat finds the running vTPM, or makes a locked one for a fresh guest.
func (m *Manager) seat(g vtpm.Guest) (r *running, fresh bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, false, ErrClosed
	}
	if r := m.running[g.UUID]; r != nil {
		if r.guest.Birth != g.Birth || r.guest.Domain != g.Domain {
			return nil, false, fmt.Errorf("%w: %s", ErrTaken, r.guest.Domain)
		}
		return r, false, nil
	}
	if err := m.isLost(g); err != nil {
		return nil, false, err
	}
	r = newRunning(m, g)
	r.awaited = m.resuming[g.UUID]
	// A guest that begins with a firmware was not built of what was prepared: whoever may start a QEMU at
	// the vTPM's socket in that moment would have hers told as measured.
	if p := m.prepared[g.UUID]; p != nil && !g.Late && !g.Firmware && r.awaited == nil && p.builds() {
		r.material = &p.material
		p.once.Do(func() { close(p.used) })
	}
	r.mu.Lock()
	m.running[g.UUID] = r
	return r, true, nil
}

// newRunning is a vTPM that does not run yet. m.mu is held.
func newRunning(m *Manager, g vtpm.Guest) *running {
	return &running{manager: m, guest: g, counters: m.countersOf(g.UUID), since: m.Now(), gone: make(chan struct{})}
}

// start reads the vTPM from the store and switches it on.
func (r *running) start(ctx context.Context) (err error) {
	m := r.manager
	if err := isOwn(r.guest.UUID); err != nil {
		return err
	}
	record, err := m.Store.Get(r.guest.UUID)
	if err != nil {
		return err
	}
	defer record.Wipe()
	if r.policy, err = ParsePolicy(record.Config); err != nil {
		return err
	}
	r.version, r.generation = record.Family, record.Generation
	slept, err := openSuspended(record.State)
	if err == nil && slept != nil {
		err = slept.barred(r.guest)
	}
	if err != nil {
		return err
	}
	if err := r.markLate(record.Flags); err != nil {
		return err
	}
	if r.launch, err = r.launchOf(); err != nil {
		return err
	}
	steps, err := r.launch.Steps(Banks(r.version))
	if err != nil {
		return err
	}
	user, err := m.users.take()
	if err != nil {
		return err
	}
	cfg := emulator.Config{Version: record.Family, Key: record.Key, State: record.State, UID: user, GID: user, Outlives: r.outlives()}
	if slept != nil {
		cfg.State = m.wakeAndStop(ctx, slept, cfg)
	}
	if r.emulator, err = m.Emulators.Start(ctx, cfg); err != nil {
		m.users.give(user)
		return err
	}
	r.ownerless = make(chan struct{})
	go r.watch(r.emulator, user)
	r.inherits = inheritance(steps)
	if err := r.emulator.PowerOn(ctx, r.inherits); err != nil {
		return err
	}
	// The start itself changed the state: a TPM counts its starts. An older state must not
	// start again as if this one had not been.
	if err := r.commit(); err != nil {
		r.emulator.Kill()
		return err
	}
	if slept != nil {
		r.tell("dropped", "its guest started anew, so the PCRs that were suspended are gone, and "+slept.Image.Name+"'s image can't be resumed any more")
	}
	if err := r.keep(user); err != nil {
		r.tell("unkept", "it would not outlive the manager: "+err.Error())
	}
	r.tell("started", fmt.Sprintf("a fresh %s; its guest's start counts as %s", r.version, r.launch.Start))
	return nil
}

// FlagLate, in a record's flags, says that the vTPM was once attached to a guest that ran already. What was
// sealed to it then, nobody can say who sealed it.
const FlagLate = 1 << 0

// markLate marks a vTPM whose guest is late, for good.
func (r *running) markLate(flags uint32) error {
	if !r.guest.Late || flags&FlagLate != 0 {
		return nil
	}
	return r.manager.Store.Change(r.guest.UUID, func(x *store.Record) error {
		x.Flags |= FlagLate
		return nil
	})
}

// launchOf is what the vTPM is told of its guest.
func (r *running) launchOf() (*measure.Launch, error) {
	l := &measure.Launch{Guest: r.guest, Start: measure.Unmeasured, Host: r.manager.Host}
	switch {
	case r.guest.Late:
	case r.material != nil:
		l.Start = measure.Measured
		l.Kernel, l.Initrd, l.Configuration, l.CommandLine = r.material.Kernel, r.material.Initrd, r.material.Configuration, r.material.CommandLine
	case r.guest.Firmware:
		l.Start = measure.Firmware
	}
	if r.policy.OnlyMeasured && l.Start != measure.Measured {
		return nil, ErrUnmeasured
	}
	var err error
	l.Copies, err = r.policy.copies()
	return l, err
}

// inheritance is the steps of a launch as an emulator takes them: first the hash sequence
// of locality 4, then what is extended.
func inheritance(steps []measure.Step) emulator.Inheritance {
	var i emulator.Inheritance
	for _, s := range steps {
		if s.ByLaunch() {
			i.Launch = s.Event.Data
		} else {
			i.Extends = append(i.Extends, emulator.Extend{PCR: s.Event.PCR, Digests: s.Event.Digests})
		}
	}
	return i
}

// forget takes a vTPM that does not run out of the list.
func (r *running) forget() {
	r.manager.mu.Lock()
	defer r.manager.mu.Unlock()
	if r.manager.running[r.guest.UUID] == r {
		delete(r.manager.running, r.guest.UUID)
		close(r.gone)
	}
}

// Gone is closed when the guest that a vTPM has now is gone, and the vTPM shut down.
func (m *Manager) Gone(u vtpm.UUID) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.running[u]; r != nil {
		return r.gone
	}
	gone := make(chan struct{})
	close(gone)
	return gone
}
