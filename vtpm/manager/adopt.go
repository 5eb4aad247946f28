package manager

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
)

// fileSheet is the name of a vTPM's sheet. It is kept last and given up first: where it is, there is all
// the rest, and the TPM is on.
const fileSheet = "sheet"

// heldName is a descriptor's name for who keeps it.
func heldName(u vtpm.UUID, what string) string { return "vtpm-" + u.String() + "-" + what }

// emulatorNames are those of all descriptors of an emulator.
func emulatorNames(u vtpm.UUID) (names []string) {
	for _, what := range emulator.FileNames {
		names = append(names, heldName(u, what))
	}
	return names
}

// parseHeld is the reverse.
func parseHeld(name string) (u vtpm.UUID, what string, ok bool) {
	rest, ok := strings.CutPrefix(name, "vtpm-")
	if !ok || len(rest) < 37 || rest[36] != '-' {
		return u, "", false
	}
	u, err := vtpm.ParseUUID(rest[:36])
	return u, rest[37:], err == nil
}

// outlives reports whether a guest's vTPM is to outlive the manager: where somebody keeps it, and
// the frontend finds the guest again.
func (r *running) outlives() bool { return r.manager.Held != nil && r.guest.Returns }

// keep has the vTPM outlive us.
func (r *running) keep(user uint32) error {
	if !r.outlives() {
		return nil
	}
	m := r.manager
	s, err := newSheet(facts{Version: r.version, User: user, Launch: *r.launch})
	if err != nil {
		return err
	}
	s.stored(r.emulator.State())
	files, err := r.emulator.Files()
	if err != nil {
		s.close()
		return err
	}
	for name, f := range files {
		if err == nil {
			err = m.Held.Put(heldName(r.guest.UUID, name), f)
		}
		f.Close()
	}
	r.sheet = s
	if err == nil {
		err = r.switched()
	}
	if err != nil {
		r.letGo()
	}
	return err
}

// switching says that the TPM is about to be switched off and on: a manager that finds it so must not
// give it to the guest.
func (r *running) switching() error {
	if r.sheet == nil {
		return nil
	}
	return r.manager.Held.Remove(heldName(r.guest.UUID, fileSheet))
}

// switched says that it is on.
func (r *running) switched() error {
	if r.sheet == nil {
		return nil
	}
	return r.manager.Held.Put(heldName(r.guest.UUID, fileSheet), r.sheet.memory)
}

// letGo ends the keeping.
func (r *running) letGo() {
	if r.sheet == nil {
		return
	}
	if err := r.manager.release(r.guest.UUID); err != nil {
		r.tell("held", "what belonged to it could not be given up: "+err.Error())
	}
	r.sheet.close()
	r.sheet = nil
}

func (m *Manager) release(u vtpm.UUID) error {
	return m.Held.Remove(append([]string{heldName(u, fileSheet)}, emulatorNames(u)...)...)
}

// Adopt goes on with the vTPMs of a manager that died, and with what it had prepared. held are the files that were held for it
// (fdstore.Taken); those that are no vTPM's are left to the caller, the others are closed. It comes
// before the frontends, and before ctx is over.
//
// When it returns each vTPM has its seat. An emulator that is busy, or that a guest has taken over and that does not answer,
// is waited for by its own guest alone. Guests whose vTPMs can't be taken over have none until they
// start anew. What happened is told.
func (m *Manager) Adopt(ctx context.Context, held map[string][]*os.File) {
	all := map[vtpm.UUID]map[string]*os.File{}
	for name, files := range held {
		u, what, ok := parseHeld(name)
		if !ok {
			continue
		}
		delete(held, name)
		if all[u] == nil {
			all[u] = map[string]*os.File{}
		}
		rest := files[1:] // parts of what was given up when its manager died
		if isPrepared := what == fileStart || what == fileBuilder; isPrepared && len(rest) > 0 {
			rest = files // nobody knows which start is whose who builds
		} else {
			all[u][what] = files[0]
		}
		for _, f := range rest {
			f.Close()
		}
	}
	for u, files := range all {
		m.adoptPrepared(u, files)
		if len(files) == 0 {
			continue // it had no guest
		}
		if err := m.adopt(ctx, u, files); err != nil {
			// Without its sockets the emulator ends.
			for _, f := range files {
				f.Close()
			}
			m.tellLost(vtpm.Guest{UUID: u}, errors.Join(err, m.release(u)))
		}
	}
}

// adopt gives a vTPM its seat. Where it fails nothing was done.
func (m *Manager) adopt(ctx context.Context, u vtpm.UUID, files map[string]*os.File) error {
	if files[fileSheet] == nil {
		return errors.New("its manager died while it was being switched")
	}
	s := &sheet{files[fileSheet]}
	f, err := s.facts()
	if err != nil {
		return err
	}
	if f.Launch.Guest.UUID != u {
		return errors.New("what was kept under its name is another vTPM's")
	}
	delete(files, fileSheet)
	err = m.users.claim(f.User)
	m.mu.Lock()
	r := newRunning(m, f.Launch.Guest)
	r.version, r.launch, r.sheet, r.returning = f.Version, &f.Launch, s, true
	r.mu.Lock() // until it runs
	m.running[u] = r
	m.mu.Unlock()
	go func() {
		defer r.mu.Unlock()
		if err == nil {
			if err = r.takeOver(ctx, f.User, files); err != nil {
				m.users.give(f.User)
			}
		}
		if err != nil {
			r.lose(err)
		}
	}()
	return nil
}

// lose gives up a vTPM that could not be taken over. Its sheet stays where it is kept: so the guest is known for one
// that had a vTPM, also after the next start.
func (r *running) lose(err error) {
	m, u := r.manager, r.guest.UUID
	err = errors.Join(err, m.Held.Remove(emulatorNames(u)...))
	r.sheet.close()
	r.ended = true
	m.mu.Lock()
	m.lost[u] = r.guest
	m.mu.Unlock()
	m.tellLost(r.guest, err)
	r.forget()
}

func (m *Manager) tellLost(g vtpm.Guest, err error) {
	m.Tell(Happening{Kind: "died", UUID: g.UUID, Guest: g.Domain, Text: fmt.Sprintf("it can't be taken over, and its guest has no TPM until it starts anew: %v", err)})
}

// takeOver brings one vTPM back. r.mu is held.
func (r *running) takeOver(ctx context.Context, user uint32, files map[string]*os.File) (err error) {
	m := r.manager
	e, left, err := m.Emulators.Adopt(ctx, r.version, files)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			e.Kill()
		}
	}()
	stored, under, err := r.sheet.read(left)
	if err != nil {
		return err
	}
	record, err := m.Store.Get(r.guest.UUID)
	if err != nil {
		return err
	}
	defer record.Wipe()
	if record.Family != r.version {
		return fmt.Errorf("the store's is a %s, and this one a %s", record.Family, r.version)
	}
	// The guest's TPM goes on from the state that the store had last; the emulator may have written a newer one before
	// its manager died, in which case the guest has no answer yet. Any other state in the store
	// was put there since: by its owner, who restored a backup.
	kept, now := sha256.Sum256(record.State), sha256.Sum256(e.State())
	if kept != now && kept != stored {
		return errors.New("the store has another state of it than the one that it goes on from")
	}
	if r.policy, err = ParsePolicy(record.Config); err != nil {
		return err
	}
	steps, err := r.launch.Steps(Banks(r.version))
	if err != nil {
		return err
	}
	r.inherits, r.generation, r.unanswered, r.emulator = inheritance(steps), record.Generation, under, e
	r.ownerless = make(chan struct{})
	defer r.publish()
	go r.watch(e, user)
	r.sheet.stored(record.State)
	r.tell("adopted", "its manager died, and it goes on where it was")
	if kept != now {
		r.commit() // which tells where it fails; the guest then gets no answer, as ever
	}
	return nil
}

// EndUnclaimed ends the adopted vTPMs whose guests have not come back by now: they were gone before the frontends
// looked. As long as it was not called, another guest does not get such a vTPM.
func (m *Manager) EndUnclaimed() error {
	var errs []error
	m.mu.Lock()
	var list []*running
	for _, r := range m.running {
		list = append(list, r)
	}
	m.mu.Unlock()
	for _, r := range list {
		r.mu.Lock()
		if r.returning {
			errs = append(errs, r.finish("its guest was gone when the manager came back"))
		}
		r.mu.Unlock()
	}
	return errors.Join(errs...)
}

// errLost is for the guest of a vTPM that could not be taken over.
var errLost = fmt.Errorf("%w: its vTPM died with the manager, and one with fresh PCRs could be told anything", ErrGone)

// isLost refuses a guest whose vTPM died while there was no manager. To any other guest it is of
// no concern. m.mu is held.
func (m *Manager) isLost(g vtpm.Guest) error {
	lost, ok := m.lost[g.UUID]
	if !ok {
		return nil
	}
	if lost.Domain == g.Domain && lost.Birth == g.Birth {
		return errLost
	}
	delete(m.lost, g.UUID)
	return m.release(g.UUID)
}

// execute runs a command, unless it is the one that was under way when the manager before us died: then it
// was run, and its answer is here. To run it again could extend a PCR twice.
func (r *running) execute(ctx context.Context, at tpm.Locality, command []byte) (rsp []byte, changed bool, err error) {
	if u := r.unanswered; u != nil {
		r.unanswered = nil
		if u.command == digestOf(at, command) {
			return slices.Clone(u.answer), false, nil
		}
	}
	r.sheet.sent(at, command)
	rsp, changed, err = r.emulator.Execute(ctx, at, command)
	if err == nil {
		r.sheet.answered(rsp)
	}
	return rsp, changed, err
}

// claim takes a number that an emulator has already.
func (u *users) claim(id uint32) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	i := int64(id) - int64(u.first)
	if i < 0 || i >= int64(len(u.taken)) || u.taken[i] {
		return fmt.Errorf("its emulator runs as the user %d, who is not one of the manager's, or is another's", id)
	}
	u.taken[i] = true
	return nil
}
