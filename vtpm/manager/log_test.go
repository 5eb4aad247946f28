package manager_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/measure"
	"github.com/antievilmaid/aem/vtpm/store"
)

// The log that a guest with a firmware will have is known before it starts: its session has the same, at each
// of its starts, and it leads to what is in the vTPM then.
func TestNextLogIsThatOfEachStart(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			h := newHost(t)
			u := h.create(v, manager.Policy{HostPCRs: "17"})
			if b, err := h.NextLog(u); err == nil {
				t.Errorf("of a start that can't be there is a log of %d bytes", len(b))
			}
			u = h.create(v, manager.Policy{})
			next, err := h.NextLog(u)
			must(t, err)
			log, err := eventlog.Parse(next)
			must(t, err)
			for _, birth := range []string{"1", "2"} {
				g := h.attach(vtpm.Guest{UUID: u, Domain: "qemu:1", Birth: birth, Firmware: true})
				if has, err := g.Log(); err != nil || !bytes.Equal(has, next) {
					t.Errorf("start %s has another log, %v", birth, err)
				}
				if report := log.Verify(g.pcrs(), tpm.PCRSet(17, 18), true); !report.OK() {
					t.Errorf("start %s: %v", birth, report)
				}
				g.extend(4)
				if again, err := h.NextLog(u); err != nil || !bytes.Equal(again, next) {
					t.Errorf("while it runs, the next one's is another, %v", err)
				}
				must(t, g.End())
			}
		})
	}
}

// What the firmware of a guest measures is nobody's to measure where only measured guests are let in.
func TestNoNextLogForMeasuredGuestsOnly(t *testing.T) {
	h := newHost(t)
	if _, err := h.NextLog(h.create(tpm.V20, manager.Policy{OnlyMeasured: true})); !errors.Is(err, manager.ErrUnmeasured) {
		t.Errorf("of a guest that gets no vTPM: %v", err)
	}
	if _, err := h.NextLog(vtpm.NewUUID()); !errors.Is(err, store.ErrUnknown) {
		t.Errorf("of a vTPM that there is not: %v", err)
	}
}

// A session's log is that of its guest's start, also after its machine was reset.
func TestSessionHasTheLog(t *testing.T) {
	h := newHost(t)
	u := h.create(tpm.V20, manager.Policy{})
	g := h.attach(vtpm.Guest{UUID: u, Domain: "xen:1", Birth: "1"})
	l := measure.Launch{Guest: vtpm.Guest{UUID: u}, Start: measure.Unmeasured, Host: approved()}
	log, err := l.Log(tpm.V20, manager.Banks(tpm.V20))
	must(t, err)
	want, err := log.AppendTo(nil)
	must(t, err)
	must(t, g.Reset(t.Context()))
	if got, err := g.Log(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("it is %x, %v; want %x", got, err, want)
	}
}
