package manager

import (
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/store"
)

// own is the last UUID there is. Under it the store keeps the manager's own note, which is as
// fresh and as hard to change as its vTPMs, and which no guest can ask for.
var own = vtpm.UUID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Note returns what KeepNote kept last; nil where there is nothing.
func (m *Manager) Note() ([]byte, error) {
	r, err := m.Store.Get(own)
	if errors.Is(err, store.ErrUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Wipe()
	return r.Config, nil
}

// KeepNote keeps a few bytes, such as where the audit log ends. A note that is there already is not
// written again.
func (m *Manager) KeepNote(note []byte) error {
	old, err := m.Note()
	switch {
	case err != nil:
		return err
	case old == nil:
		now := m.Now()
		// Nothing is encrypted with this key: a note has no state.
		r := &store.Record{UUID: own, Family: tpm.V20, Key: make([]byte, store.KeySize), Created: now, Changed: now, Config: note}
		defer r.Wipe()
		return m.Store.Add(r)
	case string(old) == string(note):
		return nil
	}
	return m.Store.Change(own, func(r *store.Record) error {
		r.Config, r.Changed = note, m.Now()
		return nil
	})
}

// Get returns a vTPM without its key and its state.
func (m *Manager) Get(u vtpm.UUID) (*store.Record, error) {
	if err := isOwn(u); err != nil {
		return nil, err
	}
	r, err := m.Store.Get(u)
	if err == nil {
		r.Wipe()
		r.Key, r.State = nil, nil
	}
	return r, err
}

// List returns at most n vTPMs whose UUIDs come after one, in ascending order, without their
// keys; the zero UUID begins.
func (m *Manager) List(after vtpm.UUID, n int) ([]store.Entry, error) {
	list, err := m.Store.List(after, n)
	if k := len(list); k > 0 && list[k-1].UUID == own {
		list = list[:k-1]
	}
	return list, err
}

// Count is the number of vTPMs.
func (m *Manager) Count() (uint64, error) {
	n := m.Store.Count()
	note, err := m.Note()
	if note != nil {
		n--
	}
	return n, err
}

func isOwn(u vtpm.UUID) error {
	if u == own {
		return fmt.Errorf("%w: %s is the manager's own", store.ErrUnknown, u)
	}
	return nil
}
