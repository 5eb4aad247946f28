package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
)

// audit is the journal of what happened to vTPMs. Where it ends is noted in the store, which can't be put back
// or changed: from one epoch to the next, nobody cuts entries off or writes others.
type audit struct {
	journal *journal.Journal
	log     *slog.Logger

	mu    sync.Mutex
	fault error // what is wrong with it; the note is not moved until somebody accepts that
}

// openAudit holds the journal against the note that the manager's store has of it.
func openAudit(dir string, log *slog.Logger) (*audit, error) {
	j, err := journal.Open(dir)
	return &audit{journal: j, log: log}, err
}

// check finds out whether the journal is what was written.
func (a *audit) check(m *manager.Manager) error {
	fault := func() error {
		note, err := m.Note()
		if err != nil {
			return err
		}
		if note == nil {
			if err := a.journal.Verify(); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		}
		known, err := journal.ParseHead(note)
		if err != nil {
			return err
		}
		_, err = a.journal.VerifyAgainst(known)
		return err
	}()
	a.mu.Lock()
	a.fault = fault
	a.mu.Unlock()
	if fault != nil {
		a.log.Error("the audit log is not what was written; look at it with vtpmctl audit", "because", fault)
	}
	return fault
}

func (a *audit) wrong() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fault
}

// note writes what happened. That it can't be written must not stop a guest.
func (a *audit) note(kind journal.Kind, text string, details map[string]string) {
	if err := a.journal.Append(journal.Entry{Kind: kind, Text: text, Details: details}); err != nil {
		a.log.Error("this could not be written into the audit log", "kind", kind, "text", text, "because", err)
	}
}

// tell hears the manager.
func (a *audit) tell(h manager.Happening) {
	details := map[string]string{}
	if h.UUID != (vtpm.UUID{}) {
		details["vtpm"] = h.UUID.String()
	}
	if h.Guest != "" {
		details["guest"] = h.Guest
	}
	level := slog.LevelInfo
	switch h.Kind {
	case "refused", "died", "paused":
		level = slog.LevelWarn
	}
	a.log.Log(context.Background(), level, h.Text, "what", h.Kind, "vtpm", h.UUID.String(), "guest", h.Guest)
	a.note(journal.Kind(h.Kind), h.Text, details)
}

// keep notes in the store where the journal ends, if it is what was written: what somebody did to it
// would be hidden otherwise.
func (a *audit) keep(m *manager.Manager) error {
	if a.check(m) != nil {
		return nil // that was said, and is shown until somebody accepts it
	}
	return a.move(m)
}

func (a *audit) move(m *manager.Manager) error {
	head, err := a.journal.Head()
	if err == nil {
		err = m.KeepNote(head.Bytes())
	}
	if err != nil {
		return fmt.Errorf("note where the audit log ends: %w", err)
	}
	return nil
}

// accept takes the journal as it is.
func (a *audit) accept(m *manager.Manager) error {
	fault := a.check(m)
	if fault != nil {
		a.note(journal.Accepted, "the journal was accepted as it is", map[string]string{"problem": fault.Error()})
	}
	if err := a.move(m); err != nil {
		return err
	}
	return a.check(m)
}
