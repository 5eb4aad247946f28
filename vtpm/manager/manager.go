package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/antievilmaid/aem/internal/fdstore"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/measure"
	"github.com/antievilmaid/aem/vtpm/store"
)

// Config is what a Manager joins.
type Config struct {
	Store     *store.Store
	Emulators *emulator.Host
	// Host is the machine, as guests are told of it.
	Host measure.Host
	// Held is where running vTPMs, and who builds measured guests, are kept for the next manager, should this one die;
	// nil is nowhere: they end with it.
	Held *fdstore.Store
	// Tell hears what happens to vTPMs, for the audit log. It must not call the manager.
	Tell func(Happening)
	// Random gives what the hardware's TPM takes for random; nil where it is not asked.
	Random func(n int) ([]byte, error)
	// Now is the clock; nil is the machine's.
	Now func() time.Time
	// FirstUser is the number of the first of Users users, whom no program but our emulators
	// runs as. They count where the manager is root.
	FirstUser uint32
	Users     int
}

// Happening is one thing that happened to a vTPM.
type Happening struct {
	Kind  string // a word: created, started, adopted, connected, left, ended, suspended, woken, dropped, refused, paused, unprepared, removed
	UUID  vtpm.UUID
	Guest string // its domain, where a guest had to do with it
	Text  string
}

// Manager gives guests their vTPMs. It is a [vtpm.Keeper], and may be used by several
// goroutines.
type Manager struct {
	Config
	users *users

	mu       sync.Mutex
	closed   bool
	running  map[vtpm.UUID]*running
	prepared map[vtpm.UUID]*Prepared
	resuming map[vtpm.UUID]*Resumption
	lost     map[vtpm.UUID]vtpm.Guest // whose vTPMs could not be adopted
	counters map[vtpm.UUID]*counters
}

// New begins with no vTPM running.
func New(c Config) *Manager {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Tell == nil {
		c.Tell = func(Happening) {}
	}
	return &Manager{Config: c, users: newUsers(c.FirstUser, c.Users), running: map[vtpm.UUID]*running{}, prepared: map[vtpm.UUID]*Prepared{}, resuming: map[vtpm.UUID]*Resumption{}, lost: map[vtpm.UUID]vtpm.Guest{}, counters: map[vtpm.UUID]*counters{}}
}

// Close shuts down all vTPMs in order. The store stays open: it is the caller's.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	var list []*running
	for _, r := range m.running {
		list = append(list, r)
	}
	m.mu.Unlock()
	var errs []error
	for _, r := range list {
		errs = append(errs, r.end("the manager ends"))
	}
	return errors.Join(errs...)
}

// Banks are those of a vTPM that was made here: swtpm's, which nobody can change, because the platform's
// authorisation is closed before the guest's first command.
func Banks(v tpm.Version) []tpm.Alg {
	if v == tpm.V12 {
		return []tpm.Alg{tpm.SHA1}
	}
	return []tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512}
}

// Create makes a new vTPM, with an identity that nobody had before.
func (m *Manager) Create(ctx context.Context, u vtpm.UUID, name string, v tpm.Version, p Policy) error {
	if err := isOwn(u); err != nil {
		return err
	}
	key, silent := m.newKey()
	r := &store.Record{UUID: u, Family: v, Name: name, Created: m.Now(), Changed: m.Now(), Key: key}
	defer r.Wipe()
	var err error
	if r.Config, err = p.bytes(); err != nil {
		return fmt.Errorf("make the vTPM %s: %w", u, err)
	}
	user, err := m.users.take()
	if err != nil {
		return fmt.Errorf("make the vTPM %s: %w", u, err)
	}
	defer m.users.give(user)
	cfg := emulator.Config{Version: v, Key: r.Key, UID: user, GID: user}
	if r.State, err = m.Emulators.Create(ctx, cfg); err != nil {
		return fmt.Errorf("make the vTPM %s: %w", u, err)
	}
	if err := m.Store.Add(r); err != nil {
		return fmt.Errorf("make the vTPM %s: %w", u, err)
	}
	text := fmt.Sprintf("a %s was made for %q", v, name)
	if silent != nil {
		text += "; its key is random by the kernel alone: " + silent.Error()
	}
	m.Tell(Happening{Kind: "created", UUID: u, Text: text})
	return nil
}

// Remove destroys a vTPM that no guest uses.
func (m *Manager) Remove(u vtpm.UUID) error {
	if err := isOwn(u); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running[u] != nil || m.prepared[u] != nil {
		return fmt.Errorf("remove the vTPM %s: %w", u, ErrRunning)
	}
	if err := m.Store.Remove(u); err != nil {
		return fmt.Errorf("remove the vTPM %s: %w", u, err)
	}
	m.Tell(Happening{Kind: "removed", UUID: u, Text: "its keys and all that was sealed with them are gone"})
	return nil
}
