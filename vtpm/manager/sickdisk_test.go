package manager_test

import (
	"errors"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/store"
)

// The disk fails, or turns read-only, under running guests: who changes his state gets no answer and a cause, who changes
// nothing does not notice, and when the disk works again all go on, with each change made once.
func TestADiskThatFailsUnderRunningGuests(t *testing.T) {
	for name, errno := range map[string]syscall.Errno{"EIO": syscall.EIO, "EROFS": syscall.EROFS} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			w := h.newWriter()
			reader := h.attach(vtpm.Guest{UUID: h.create(tpm.V20, manager.Policy{}), Domain: "xen:2"})
			heal := testbed.SickDisk(t, h.path, name)
			w.paused(errno)
			reader.done(random)
			reader.extend(8)
			if _, err := h.Attach(t.Context(), vtpm.Guest{UUID: w.uuid, Domain: "xen:3"}); !errors.Is(err, manager.ErrTaken) {
				t.Errorf("a guest that wants the paused vTPM: %v", err)
			}
			heal()
			w.resumed()
			reader.done(random)
			h.toldOnce("paused", "resumed")
		})
	}
}

// The disk does not confirm a commit. The store answers nobody until it knows whether the commit was made; then
// all go on, and the change that was in doubt is made once.
func TestADiskThatDoesNotConfirm(t *testing.T) {
	h := newHost(t)
	w := h.newWriter()
	reader := h.attach(vtpm.Guest{UUID: h.create(tpm.V20, manager.Policy{}), Domain: "xen:2"})
	runtime.LockOSThread() // system calls are counted by thread; a commit is made on that of who asks
	defer runtime.UnlockOSThread()
	heal := testbed.DoubtfulDisk(t, h.path)
	w.paused(store.ErrUnsure)
	reader.done(random) // which changes nothing that has to be stored
	if _, err := h.Attach(t.Context(), vtpm.Guest{UUID: vtpm.NewUUID(), Domain: "xen:3"}); !errors.Is(err, store.ErrUnsure) {
		t.Errorf("a guest that asks meanwhile: %v", err)
	}
	heal()
	w.paused(store.ErrUnsure)
	must(t, h.Store.Reopen())
	w.resumed()
	h.toldOnce("paused", "resumed")
}

// writer is a guest that counts.
type writer struct {
	*guest
	h       *host
	uuid    vtpm.UUID
	counter *tpm2.Counter
	was     uint64
}

func (h *host) newWriter() *writer {
	h.t.Helper()
	w := &writer{h: h, uuid: h.create(tpm.V20, manager.Policy{})}
	w.guest = h.attach(vtpm.Guest{UUID: w.uuid, Domain: "xen:1", Birth: "1"})
	var err error
	w.counter, err = tpm2.New(w).MakeCounter(nil)
	must(h.t, err)
	w.was, err = tpm2.New(w).ReadCounter(w.counter)
	must(h.t, err)
	return w
}

// paused counts once, in vain, and finds no answer to anything.
func (w *writer) paused(cause error) {
	w.t.Helper()
	if err := tpm2.New(w).Increment(w.counter.Index, nil); !errors.Is(err, manager.ErrPaused) || !errors.Is(err, cause) {
		w.t.Errorf("a change that can't be stored: %v", err)
	}
	if rsp, err := w.Send([]byte(random)); !errors.Is(err, manager.ErrPaused) || rsp != nil {
		w.t.Errorf("the paused vTPM answered %x, %v", rsp, err)
	}
	if now := w.h.Running()[w.uuid]; now.Paused == nil {
		w.t.Error("it is not shown as paused")
	}
}

// resumed demands that what was counted is there once, now and after the next start.
func (w *writer) resumed() {
	w.t.Helper()
	w.done(random)
	for birth := range 2 {
		if got, err := tpm2.New(w).ReadCounter(w.counter); err != nil || got != w.was+1 {
			w.t.Errorf("the counter was %d and is %d, %v", w.was, got, err)
		}
		must(w.t, w.End())
		w.guest = w.h.attach(vtpm.Guest{UUID: w.uuid, Domain: "xen:1", Birth: string(rune('2' + birth))})
	}
}

// toldOnce demands that of these kinds nothing else was told than these, in their order.
func (h *host) toldOnce(kinds ...string) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	var got []string
	for _, kind := range h.happened {
		if slices.Contains(kinds, kind) {
			got = append(got, kind)
		}
	}
	if !slices.Equal(got, kinds) {
		h.t.Errorf("told was %v", got)
	}
}
