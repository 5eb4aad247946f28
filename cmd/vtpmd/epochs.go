package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/store"
)

// keeper does for the store what has to be done from time to time, and knows what of it could not be done.
type keeper struct {
	kick chan struct{} // a vTPM could not be stored, or not be read

	mu   sync.Mutex
	late error // why the last epoch could not be begun
}

func newKeeper() *keeper { return &keeper{kick: make(chan struct{}, 1)} }

// hear is told what happens to vTPMs.
func (k *keeper) hear(h manager.Happening) {
	if h.Kind == "paused" || h.Kind == "refused" {
		select {
		case k.kick <- struct{}{}:
		default:
		}
	}
}

func (k *keeper) wrong() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.late
}

// firstRetry is how soon what could not be done is tried again. The pauses double, up to the time between two epochs.
const firstRetry = time.Second

// epochs begins an epoch now and then, and opens the store anew where the disk left it unsure, until ctx
// ends. What fails is tried again soon, and said each time; guests go on meanwhile, as far as they need no disk.
func (d *daemon) epochs(ctx context.Context) {
	t := time.NewTimer(d.epoch)
	defer t.Stop()
	tries := 0
	for {
		due := true
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-d.keeper.kick:
			if tries > 0 || !errors.Is(d.store.Fault(), store.ErrUnsure) {
				continue // a guest that asks without end does not bring the next try about
			}
			due = false // each epoch wears the TPM's memory, and a guest must not bring it about
		}
		if tries++; d.care(due, tries) {
			tries = 0
			if due {
				t.Reset(d.epoch)
			}
		} else {
			t.Reset(min(firstRetry<<min(tries-1, 20), d.epoch))
		}
	}
}

// care does what is to be done, and reports whether all of it could be.
func (d *daemon) care(due bool, tries int) bool {
	next := min(firstRetry<<min(tries-1, 20), d.epoch)
	unsure := d.store.Fault() != nil
	if err := d.store.Reopen(); err != nil {
		if errors.Is(err, store.ErrUnsure) {
			d.log.Error("the disk does not confirm what was stored; guests whose state changes are paused, and it is tried again", "in", next, "because", err)
			return false
		}
		d.log.Error("the store answers nothing any more; look at the disk, then start vtpmd anew", "because", err)
		return true // nothing that could be done again
	}
	if unsure {
		d.log.Info("the disk confirmed what was stored; guests go on")
	}
	if !due || !d.store.Changed() {
		return true
	}
	err := errors.Join(d.audit.keep(d.manager), d.store.NextEpoch())
	d.keeper.mu.Lock()
	was := d.keeper.late
	d.keeper.late = err
	d.keeper.mu.Unlock()
	switch {
	case err != nil:
		d.log.Error("the store's epoch could not be begun; guests go on, older copies of the store are not refused yet, and it is tried again", "in", next, "because", err)
		return false
	case was != nil:
		d.log.Info("the store's epoch was begun after all", "tries", tries)
	}
	return true
}
