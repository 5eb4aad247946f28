package manager

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// Resumption is a guest that is being built of its image. The domain that asks for the vTPM meanwhile waits, its commands, too,
// until the toolstack is done and [Resumption.Finish] says that it is the right one.
//
// What the evil maid tries: an image of which she changed a byte, or the image of another guest (its digest is not the
// one that the store has); the right image a second time, after the guest went on, or was started anew (the
// store has another state by then); a kernel of hers that plain xl create starts under the UUID, in the moment in which
// the vTPM is awaited (it is not the domain that the toolstack built of the image); a guest that has run.
type Resumption struct {
	Image Image // that the guest has to be built of

	manager *Manager
	uuid    vtpm.UUID

	mu    sync.Mutex
	over  bool
	guest *running // who asked; its mu is held until this is over
	slept *suspended
	key   []byte
}

// Resume begins to resume a vTPM's guest. Finish or Cancel ends it.
func (m *Manager) Resume(u vtpm.UUID) (*Resumption, error) {
	p, err := m.resume(u)
	if err != nil {
		return nil, fmt.Errorf("resume the vTPM %s: %w", u, err)
	}
	return p, nil
}

func (m *Manager) resume(u vtpm.UUID) (*Resumption, error) {
	if err := isOwn(u); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return nil, ErrClosed
	case m.running[u] != nil, m.resuming[u] != nil:
		return nil, ErrRunning
	}
	r, err := m.Store.Get(u)
	if err != nil {
		return nil, err
	}
	defer r.Wipe()
	s, err := openSuspended(r.State)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return nil, ErrNotSuspended
	}
	if err := m.sameHost(s.Launch.Host); err != nil {
		return nil, err
	}
	p := &Resumption{Image: s.Image, manager: m, uuid: u}
	m.resuming[u] = p
	return p, nil
}

// sameHost refuses where PCR 17 would vouch for a launch that was not this one.
func (m *Manager) sameHost(was measure.Host) error {
	then, err := was.State()
	if err != nil {
		return err
	}
	now, err := m.Host.State()
	if err == nil && string(then) != string(now) {
		err = errors.New("the host was launched otherwise when the guest was suspended, and PCR 17 says so; start the guest anew")
	}
	return err
}

// claim takes the first guest that asks. r is locked, and stays so until it is clear whether it is the one.
func (p *Resumption) claim(r *running) (*session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return nil, ErrGone
	}
	if r.guest.Late {
		return nil, errors.New("this vTPM is being resumed, and the guest is not the one that it waits for: it has run")
	}
	m := p.manager
	record, err := m.Store.Get(p.uuid)
	if err != nil {
		return nil, err
	}
	defer record.Wipe()
	s, err := openSuspended(record.State)
	if s == nil {
		return nil, errors.Join(ErrNotSuspended, err)
	}
	if r.policy, err = ParsePolicy(record.Config); err != nil {
		return nil, err
	}
	late := s.Launch.Guest.Late
	s.Launch.Guest = r.guest
	s.Launch.Guest.Late = late
	b, err := s.bytes()
	if err != nil {
		return nil, err
	}
	// From here on it is barred, whatever becomes of us.
	r.version, r.launch, r.generation = record.Family, &s.Launch, record.Generation+1
	if err := m.Store.PutState(p.uuid, r.generation, b); err != nil {
		return nil, err
	}
	p.guest, p.slept, p.key = r, s, bytes.Clone(record.Key)
	return r.open(), nil
}

// Guest is who asked for the vTPM, if somebody did.
func (p *Resumption) Guest() (g vtpm.Guest, asked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.guest == nil {
		return g, false
	}
	return p.guest.guest, true
}

// end ends the waiting, and returns who asked.
func (p *Resumption) end() *running {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return nil
	}
	p.over = true
	p.manager.mu.Lock()
	defer p.manager.mu.Unlock()
	delete(p.manager.resuming, p.uuid)
	return p.guest
}

// Finish has the vTPM go on where it was, for the domain that the toolstack built, of bytes with this digest. Where it
// fails nobody has it, and the guest can be resumed once more.
func (p *Resumption) Finish(ctx context.Context, domain string, digest [sha256.Size]byte) (err error) {
	r := p.end()
	if r == nil {
		return fmt.Errorf("resume the vTPM %s: the guest never asked for it", p.uuid)
	}
	defer r.mu.Unlock()
	switch {
	case digest != p.Image.SHA256:
		err = ErrOtherImage
	case r.guest.Domain != domain:
		err = fmt.Errorf("the toolstack built %s of the image, and this is another guest", domain)
	default:
		err = r.wake(ctx, p.slept, p.key)
	}
	clear(p.key)
	if err != nil {
		return r.dismiss(err)
	}
	return nil
}

// Cancel ends a resumption that comes to nothing. After Finish it does nothing.
func (p *Resumption) Cancel() {
	if r := p.end(); r != nil {
		clear(p.key)
		r.dismiss(errors.New("its guest was not resumed"))
		r.mu.Unlock()
	}
}

// dismiss tells a guest that waited that it gets nothing.
func (r *running) dismiss(err error) error {
	r.ended, r.session = true, nil
	r.forget()
	return r.manager.refuse(r.guest, err)
}

// wake switches the vTPM on as it was suspended. What makes it survive us comes before the commit that uses the
// suspended state up: so it is in one place or the other, and never in both.
func (r *running) wake(ctx context.Context, s *suspended, key []byte) error {
	m := r.manager
	steps, err := r.launch.Steps(Banks(r.version))
	if err != nil {
		return err
	}
	user, err := m.users.take()
	if err != nil {
		return err
	}
	cfg := emulator.Config{Version: r.version, Key: key, State: s.State, Volatile: s.Volatile, UID: user, GID: user, Outlives: r.outlives()}
	if r.emulator, err = m.Emulators.Start(ctx, cfg); err != nil {
		m.users.give(user)
		return err
	}
	r.inherits, r.ownerless = inheritance(steps), make(chan struct{})
	go r.watch(r.emulator, user)
	if err := r.emulator.Resume(ctx); err != nil {
		return err
	}
	if err := r.keep(user); err != nil {
		r.tell("unkept", "it would not outlive the manager: "+err.Error())
	}
	if err := r.commit(); err != nil {
		r.emulator.Kill()
		r.letGo()
		return err
	}
	r.tell("woken", "its guest was built of its image again, and goes on with its PCRs")
	return nil
}
