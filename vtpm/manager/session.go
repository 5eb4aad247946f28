package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/filter"
	"github.com/antievilmaid/aem/vtpm/measure"
	"github.com/antievilmaid/aem/vtpm/store"
)

// running is a vTPM that has a guest. mu is held while it starts, while a command runs and
// its effect is stored, and while it ends: nothing of these may happen beside another.
type running struct {
	manager *Manager
	guest   vtpm.Guest

	mu         sync.Mutex
	material   *Material
	awaited    *Resumption // whose guest this may be
	launch     *measure.Launch
	inherits   emulator.Inheritance
	emulator   *emulator.Emulator
	policy     Policy
	version    tpm.Version
	generation uint64
	counters   *counters
	since      time.Time
	gone       chan struct{} // closed when it is not in the list any more
	ownerless  chan struct{} // closed when its emulator's user was given back
	session    *session      // the guest's, nil while it has let go of its device
	paused     error
	ended      bool

	sheet      *sheet      // what the next manager has to know
	unanswered *unanswered // the last manager's
	returning  bool        // adopted, and its guest was not seen yet
	died       bool

	seen atomic.Pointer[Running] // as others see it
}

// session is one connection of a guest.
type session struct{ *running }

// connect lets the same guest come back.
func (r *running) connect(g vtpm.Guest) (*session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.returning && r.emulator == nil:
		return nil, errLost
	case r.ended || r.emulator == nil:
		return nil, fmt.Errorf("%w (%s); it did not start", ErrGone, g.Domain)
	case r.session != nil:
		return nil, ErrConnected
	}
	r.tell("connected", "the same guest came back")
	return r.open(), nil
}

func (r *running) open() *session {
	r.session, r.returning = &session{r}, false
	r.publish()
	return r.session
}

// check is what every command must pass. A vTPM that was paused goes on as soon as its state
// can be stored. mu is held.
func (s *session) check() error {
	if s.ended || s.session != s {
		return ErrGone
	}
	if s.paused == nil {
		return nil
	}
	return s.commit()
}

// Version is the vTPM's family.
func (s *session) Version() tpm.Version { return s.version }

// Execute runs a command of the guest's.
func (s *session) Execute(ctx context.Context, at tpm.Locality, command []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return nil, err
	}
	began, sent := time.Now(), false
	defer func() {
		s.counters.commands.Add(1)
		s.counters.nanoseconds.Add(int64(time.Since(began)))
		if !sent {
			s.counters.keptBack.Add(1)
		}
	}()
	guard := filter.Guard{Version: s.version, Localities: s.policy.localities(), Translate: !s.guest.Firmware}
	return guard.Run(at, command, func(command []byte) ([]byte, error) {
		sent = true
		rsp, changed, err := s.execute(ctx, at, command)
		defer s.sheet.delivered(len(rsp))
		if err == nil && changed {
			err = s.commit()
		}
		if err != nil {
			return nil, err
		}
		return rsp, nil
	})
}

// commit stores the state as it is now. Where that fails the guest gets no answer any more:
// it would build on something that the next start does not know of.
func (r *running) commit() error {
	state := r.emulator.State()
	if err := r.put(state); err != nil {
		was := r.paused
		r.paused = fmt.Errorf("%w: %w", ErrPaused, err)
		if was == nil {
			r.counters.paused.Add(1)
			r.publish()
			r.tell("paused", r.paused.Error())
		}
		return r.paused
	}
	r.generation++
	r.sheet.stored(state)
	r.counters.commits.Add(1)
	defer r.publish()
	if r.paused != nil {
		r.paused = nil
		r.tell("resumed", "its state could be stored again")
	}
	return nil
}

// put puts a state into the store. Where the store was not sure whether it made the last commit, and is by now, it may
// have made ours: nobody else puts states of a vTPM that runs.
func (r *running) put(state []byte) error {
	if errors.Is(r.paused, store.ErrUnsure) {
		record, err := r.manager.Store.Get(r.guest.UUID)
		if err != nil {
			return err
		}
		record.Wipe()
		if record.Generation == r.generation+1 {
			r.generation++
		}
	}
	return r.manager.Store.PutState(r.guest.UUID, r.generation+1, state)
}

func (r *running) tell(kind, text string) {
	r.manager.Tell(Happening{Kind: kind, UUID: r.guest.UUID, Guest: r.guest.Domain, Text: text})
}

// watch waits for the emulator's end, and says so where nobody wanted it: its guest has no
// TPM any more. What was not stored is lost.
func (r *running) watch(e *emulator.Emulator, user uint32) {
	<-e.Done()
	r.manager.users.give(user)
	close(r.ownerless)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.died = true
		r.counters.died.Add(1)
		r.publish()
		r.tell("died", "its emulator ended without being told to; its guest has no TPM until it starts anew")
	}
}

// Cancel ends the command under way early, if that can be.
func (s *session) Cancel() error { return s.emulator.Cancel() }

// Reset gives fresh PCRs to a machine that begins anew.
func (s *session) Reset(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return err
	}
	if err := s.switching(); err != nil {
		return err
	}
	if err := s.emulator.Reset(ctx, s.inherits); err != nil {
		return err
	}
	s.tell("reset", "its machine was reset: fresh PCRs")
	if err := s.commit(); err != nil {
		return err
	}
	return s.switched()
}

// Close says that the guest let go of its device.
func (s *session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == s {
		s.session = nil
		s.publish()
		s.tell("left", "the guest let go of its vTPM, and may come back")
	}
	return nil
}

// End says that the guest is gone.
func (s *session) End() error { return s.end("its guest is gone") }

// end shuts a vTPM down in order. Ending twice does nothing.
func (r *running) end(why string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.finish(why)
}

// finish is end where mu is held.
func (r *running) finish(why string) error {
	if r.ended || r.emulator == nil {
		return nil
	}
	r.ended, r.session = true, nil
	defer r.forget()
	err := r.emulator.Stop(context.Background())
	if errors.Is(err, emulator.ErrEnded) {
		err = nil // it was killed before, and that was said then
	}
	r.emulator.Kill() // where it did not end in order
	<-r.ownerless
	// What the TPM wrote at its shutdown counts, too: without it, the next start looks like
	// one after a power cut, and counts against its owner.
	err = errors.Join(err, r.commit())
	r.letGo()
	r.tell("ended", why)
	return err
}
