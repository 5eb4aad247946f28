package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/internal/vtpmhost"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/admin"
	"github.com/antievilmaid/aem/vtpm/manager"
)

var _ admin.Host = (*daemon)(nil)

// Status is what the administrator is told of the host.
func (d *daemon) Status() (admin.Status, error) {
	s := admin.Status{
		Version: cli.Version, TPM: d.machine.Device(), Grade: d.host.Grade.String(), Launch: d.launch, Approved: labels(d.root.Policy().States),
		Running: len(d.manager.Running()), Frontends: d.frontends, Missing: d.emulators.Missing(),
	}
	id, err := d.root.ID()
	if err != nil {
		return s, err
	}
	s.Root = id.String()
	// What is wrong is to be told, and not to keep everything else from being told.
	late := d.keeper.wrong()
	if s.Epoch, err = d.root.Epoch(); err != nil {
		s.Epoch, late = d.store.Epoch(), err
	}
	if late != nil {
		s.Late = late.Error()
	}
	if err := d.audit.wrong(); err != nil {
		s.Journal = err.Error()
	}
	s.Escrow = d.escrow.Load()
	s.VTPMs, err = d.manager.Count()
	if fault := d.store.Fault(); fault != nil {
		s.Store, err = fault.Error(), nil
	}
	return s, err
}

func labels(states []seal.State) []string {
	list := []string{}
	for _, s := range states {
		list = append(list, fmt.Sprintf("%s (PCRs %s)", s.Label, s.PCRs))
	}
	return list
}

// Approve takes over what the machine's own set-up approves.
func (d *daemon) Approve() (*admin.Approval, error) {
	before, after, err := d.machine.Approve(d.root, d.store)
	if err != nil {
		return nil, err
	}
	a := &admin.Approval{Before: labels(before), After: labels(after)}
	if a.Epoch, err = d.root.Epoch(); err != nil {
		return nil, err
	}
	d.audit.note(journal.Approved, fmt.Sprintf("the store opens in %d boots", len(after)), map[string]string{"states": fmt.Sprint(a.After)})
	return a, nil
}

// Escrow gives out the store's key, encrypted. That is written down first, in a log whose end the store keeps:
// what can't be noted is not given out.
func (d *daemon) Escrow(to string) ([]byte, error) {
	file, keys, err := vtpmhost.EncryptEscrow(d.root, to)
	if errors.Is(err, vtpmhost.ErrRecipients) {
		return nil, fmt.Errorf("%w: %w", admin.ErrBad, err)
	}
	if err != nil {
		return nil, err
	}
	e := &admin.Escrow{At: time.Now().UTC().Truncate(time.Second), To: keys}
	if err := errors.Join(d.audit.journal.Append(e.Entry()), d.audit.keep(d.manager)); err != nil {
		return nil, fmt.Errorf("the store's key was not given out, because that could not be written down: %w", err)
	}
	d.log.Warn("the store's key was given out, encrypted", "to", keys)
	d.escrow.Store(e)
	return file, nil
}

// Journal is the audit log.
func (d *daemon) Journal() (*journal.Journal, error) {
	return d.audit.journal, d.audit.check(d.manager)
}

// AcceptJournal takes it as it is.
func (d *daemon) AcceptJournal() error { return d.audit.accept(d.manager) }

// Socket is where QEMU reaches a vTPM.
func (d *daemon) Socket(u vtpm.UUID, p manager.Policy) string {
	if p.QEMU == nil {
		return ""
	}
	return d.sockets.path(u)
}

// Made opens the socket of a vTPM.
func (d *daemon) Made(u vtpm.UUID, p manager.Policy) {
	if err := d.sockets.serve(u, p); err != nil {
		d.log.Error("QEMU can't reach a vTPM", "vtpm", u.String(), "because", err)
	}
}

// Removed closes it.
func (d *daemon) Removed(u vtpm.UUID) { d.sockets.close(u) }
