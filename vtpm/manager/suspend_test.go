package manager_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/measure"
	"github.com/antievilmaid/aem/vtpm/store"
)

// image is that of a guest called web.
func image(content string) manager.Image {
	return manager.Image{Name: "web", SHA256: [32]byte(tpm.SHA256.Sum([]byte(content)))}
}

// suspended is a measured guest that extended a PCR and was suspended into the image "image".
func (h *host) suspended(v tpm.Version) (u vtpm.UUID, pcrs tpm.Banks, log []byte) {
	h.t.Helper()
	u = h.create(v, manager.Policy{OnlyMeasured: true})
	p, err := h.Prepare(u, material("kernel"))
	must(h.t, err)
	g := h.attach(vtpm.Guest{UUID: u, Domain: "xen:1", Birth: "1"})
	p.Cancel()
	g.extend(8)
	pcrs = g.pcrs()
	log, err = h.Log(u)
	must(h.t, err)
	must(h.t, h.Suspend(h.t.Context(), u, "xen:1", image("image")))
	if _, err := g.Send(packet(0x8001, 0x17b, 0, 8)); !errors.Is(err, manager.ErrGone) {
		h.t.Errorf("a suspended vTPM answered: %v", err)
	}
	must(h.t, g.End()) // its toolstack destroys it
	return u, pcrs, log
}

// built is a domain that the toolstack builds while the vTPM is being resumed.
func built(u vtpm.UUID, number int) vtpm.Guest {
	return vtpm.Guest{UUID: u, Domain: fmt.Sprint("xen:", number), Birth: fmt.Sprint(number)}
}

// Save and restore keep to the rule: the same guest finds its PCRs, and counts as before. The next guest is a fresh one.
func TestResumedGuestFindsItsPCRs(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			h := newHost(t)
			u, want, log := h.suspended(v)
			if i, err := h.Suspended(u); err != nil || i == nil || *i != image("image") {
				t.Errorf("it is told as suspended: %v, %v", i, err)
			}
			p, err := h.Resume(u)
			must(t, err)
			g := h.attach(built(u, 2))
			if who, asked := p.Guest(); !asked || who.Domain != "xen:2" {
				t.Errorf("who asked is told as %v", who)
			}
			// The toolstack goes on when the frontend has shown it.
			if got, err := g.Log(); err != nil || !bytes.Equal(got, log) {
				t.Errorf("while it is being built its log is another one: %v", err)
			}
			must(t, p.Finish(t.Context(), "xen:2", image("image").SHA256))
			p.Cancel()
			if diff := cmp.Diff(want, g.pcrs()); diff != "" {
				t.Errorf("its PCRs are other ones:\n%s", diff)
			}
			if again, err := h.Log(u); err != nil || !bytes.Equal(again, log) {
				t.Errorf("its log is another one: %v", err)
			}
			if start := h.Running()[u].Start; start != measure.Measured {
				t.Errorf("its start counts as %s", start)
			}
			if _, err := h.Resume(u); !errors.Is(err, manager.ErrRunning) {
				t.Errorf("the same image a second time, while the guest runs: %v", err)
			}
			must(t, g.End())
			if _, err := h.Resume(u); !errors.Is(err, manager.ErrNotSuspended) {
				t.Errorf("the same image a second time: %v", err)
			}
			_, err = h.Prepare(u, material("kernel"))
			must(t, err)
			if next := h.attach(built(u, 3)); cmp.Equal(next.pcrs(), want) {
				t.Error("the next guest found the PCRs of the one that was suspended")
			}
		})
	}
}

// What the evil maid tries gets her nothing, and the right guest goes on afterwards.
func TestSuspendedPCRsAreForTheirGuestAlone(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			h := newHost(t)
			u, want, _ := h.suspended(v)
			number := 1
			for _, c := range []struct {
				name, domain, image, words string
				is                         error
			}{
				{"an image with a byte changed", "the same", "imagE", "", manager.ErrOtherImage},
				{"a kernel that xl create started meanwhile", "xen:99", "image", "another guest", nil},
			} {
				number++
				p, err := h.Resume(u)
				must(t, err)
				if _, err := h.Resume(u); !errors.Is(err, manager.ErrRunning) {
					t.Errorf("%s: a second resume beside it: %v", c.name, err)
				}
				who := built(u, number)
				g := h.attach(who)
				answer := make(chan error)
				go func() { _, err := g.Execute(t.Context(), 0, packet(0x8001, 0x17b, 0, 8)); answer <- err }()
				if c.domain == "the same" {
					c.domain = who.Domain
				}
				err = p.Finish(t.Context(), c.domain, image(c.image).SHA256)
				if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.words) {
					t.Errorf("%s: %v", c.name, err)
				}
				if err := <-answer; !errors.Is(err, manager.ErrGone) {
					t.Errorf("%s: the guest's command was answered %v", c.name, err)
				}
				if f := h.Refused(u); f == nil || err != nil && f.Text != err.Error() {
					t.Errorf("%s: it is told as %+v", c.name, f)
				}
				must(t, g.End())
				// Its memory is older than any fresh TPM.
				if _, err := h.Attach(t.Context(), who); !errors.Is(err, manager.ErrSuspended) {
					t.Errorf("%s: afterwards it is answered %v", c.name, err)
				}
			}
			p, err := h.Resume(u)
			must(t, err)
			ran := built(u, 50)
			ran.Late = true
			if _, err := h.Attach(t.Context(), ran); err == nil || !strings.Contains(err.Error(), "it has run") {
				t.Errorf("a guest that had run: %v", err)
			}
			p.Cancel()
			if err := p.Finish(t.Context(), "xen:50", image("image").SHA256); err == nil {
				t.Error("a resume that was cancelled came to an end")
			}

			p, err = h.Resume(u)
			must(t, err)
			g := h.attach(built(u, 60))
			must(t, p.Finish(t.Context(), "xen:60", image("image").SHA256))
			if diff := cmp.Diff(want, g.pcrs()); diff != "" {
				t.Errorf("after all that its PCRs are other ones:\n%s", diff)
			}
		})
	}
}

// Whatever else starts the guest, the image has no PCRs any more; and the vTPM counts no wrong password for it, because
// it was ended in order.
func TestAnyOtherStartDropsWhatWasSuspended(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			h := newHost(t)
			u, old, _ := h.suspended(v)
			if _, err := h.Attach(t.Context(), built(u, 2)); !errors.Is(err, manager.ErrUnmeasured) {
				t.Errorf("plain xl create of a guest that has to be measured: %v", err)
			}
			if i, err := h.Suspended(u); err != nil || i == nil {
				t.Errorf("who was refused has dropped it: %v", err)
			}
			_, err := h.Prepare(u, material("another kernel"))
			must(t, err)
			g := h.attach(built(u, 3))
			for _, b := range g.pcrs() {
				if was := old.Value(b.Alg, 4); was.Equal(b.Values[4]) || !b.Values[8].All(0) {
					t.Errorf("another kernel found the old one's PCRs: %v", b.Values)
				}
			}
			if v == tpm.V20 {
				rsp, err := g.Send(packet(0x8001, 0x17a, 0, 0, 0, 6, 0, 0, 2, 1, 0, 0, 0, 1)) // TPM_PT_STARTUP_CLEAR
				must(t, err)
				const orderly = 1 << 31
				if binary.BigEndian.Uint32(rsp[len(rsp)-4:])&orderly == 0 {
					t.Error("it had its power cut")
				}
			}
			must(t, g.End())
			if _, err := h.Resume(u); !errors.Is(err, manager.ErrNotSuspended) {
				t.Errorf("the old image: %v", err)
			}
		})
	}
}

// A vTPM is suspended with the guest that it has, and goes on where that can't be kept.
func TestSuspendThatFails(t *testing.T) {
	h := newHost(t)
	u := h.create(tpm.V20, manager.Policy{})
	if err := h.Suspend(t.Context(), u, "xen:1", image("image")); !errors.Is(err, manager.ErrGone) {
		t.Errorf("without a guest: %v", err)
	}
	g := h.attach(vtpm.Guest{UUID: u, Domain: "xen:1", Birth: "1"})
	if err := h.Suspend(t.Context(), u, "xen:2", image("image")); !errors.Is(err, manager.ErrGone) {
		t.Errorf("for another guest: %v", err)
	}
	must(t, h.Store.Close())
	if err := h.Suspend(t.Context(), u, "xen:1", image("image")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("without a store: %v", err)
	}
	g.extend(8)
}

// PCR 17 must not vouch for a launch that was not this one.
func TestResumeOnAHostThatWasLaunchedOtherwise(t *testing.T) {
	h := newHost(t)
	u, _, _ := h.suspended(tpm.V20)
	h.Manager.Host.PCRs[0].Values[18] = tpm.SHA256.Sum([]byte("another launch"))
	if _, err := h.Resume(u); err == nil || !strings.Contains(err.Error(), "launched otherwise") {
		t.Error(err)
	}
}

// A manager that dies in any step has lost nothing, and gives nothing twice.
func TestManagerKilledWhileItSuspendsAndResumes(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			m := newMortal(t)
			g := &remote{mortal: m, who: vtpm.Guest{UUID: vtpm.NewUUID(), Domain: "xen:1", Birth: "1", Returns: true}}
			m.do(order{Do: "create", Guest: g.who, Version: v})
			m.do(order{Do: "prepare", Guest: g.who})
			m.do(order{Do: "attach", Guest: g.who})
			g.extend(v, 8, "before")
			want := g.pcrs(v)
			refused := func(o order, words string) {
				t.Helper()
				if _, err := m.try(o); err == nil || !strings.Contains(err.Error(), words) {
					t.Errorf("%s was answered %v; want %q", o.Do, err, words)
				}
			}
			held := func(number int) vtpm.Guest {
				who := built(g.who.UUID, number)
				who.Returns = true
				return who
			}

			// Before the store has it, the guest goes on.
			m.do(order{Do: "suspend without an end", Guest: g.who})
			m.restart()
			g.back()
			if g.pcrs(v) != want {
				t.Error("it was about to be suspended, and goes on with other PCRs")
			}
			refused(order{Do: "resume", Guest: g.who}, manager.ErrRunning.Error())

			// Afterwards the guest that is still there has nothing any more.
			m.do(order{Do: "suspend", Guest: g.who})
			m.restart()
			late := g.who
			late.Late = true
			refused(order{Do: "attach", Guest: late}, manager.ErrSuspended.Error())

			// A guest that was built, and was not yet let go, is not the one that goes on.
			m.do(order{Do: "resume", Guest: g.who})
			m.do(order{Do: "attach", Guest: held(2)})
			m.restart()
			refused(order{Do: "attach", Guest: held(2)}, manager.ErrSuspended.Error())

			// Nor is one whose emulator runs, as long as the store has not used up what was suspended.
			m.do(order{Do: "resume", Guest: g.who})
			m.do(order{Do: "attach", Guest: held(3)})
			m.do(order{Do: "finish without an end", Guest: held(3)})
			m.restart()
			refused(order{Do: "attach", Guest: held(3)}, manager.ErrGone.Error())
			m.do(order{Do: "end unclaimed"})
			refused(order{Do: "attach", Guest: held(3)}, manager.ErrGone.Error())

			// At last it goes on, and the next manager finds it so.
			m.do(order{Do: "resume", Guest: g.who})
			g.who = held(4)
			m.do(order{Do: "attach", Guest: g.who})
			m.do(order{Do: "finish", Guest: g.who})
			m.restart()
			g.back()
			if g.pcrs(v) != want {
				t.Error("it goes on with other PCRs")
			}
			m.do(order{Do: "end"})
			if got := m.keeper.Names(); len(got) != 0 {
				t.Errorf("these are held: %q", got)
			}
			refused(order{Do: "resume", Guest: g.who}, manager.ErrNotSuspended.Error())
		})
	}
}
