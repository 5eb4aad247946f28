package xen_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/domctl"
	"github.com/antievilmaid/aem/internal/xenstore"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

// onHost runs a test on a host whose backend runs.
func onHost(t *testing.T, test func(t *testing.T, h *host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.start()
		test(t, h)
		h.stop()
	})
}

func TestBothKindsOfFrontendAreServed(t *testing.T) {
	for name, ready := range map[string]string{"Linux": "3", "mini-os": "4"} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				g := h.build(5)
				g.attach(nil)
				settle()
				g.state("2")
				if v, err := h.toolstack.Read(g.back("feature-protocol-v2")); v != "1" {
					t.Errorf("the backend says of the protocol %q, %v", v, err)
				}
				g.share()
				// Linux's first command is there before the backend is.
				g.put(uint32(len(command("first"))), 1, 3, 0, command("first"))
				g.write("state", ready)
				settle()
				g.state("4")
				g.answered(command("first"))
				g.submit(command("second, which is longer"))
				g.answered(command("second, which is longer"))
				s := h.keeper.of(g)
				if d := cmp.Diff([]tpm.Locality{3, 0}, s.localities); d != "" {
					t.Errorf("localities: %s", d)
				}
			})
		})
	}
}

func TestFrontendWithoutVersion2IsRefused(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g := h.build(5)
		g.attach(nil)
		g.share()
		h.must(h.toolstack.Remove(g.front("feature-protocol-v2")))
		g.write("state", "3")
		settle()
		g.state("6")
		cause, err := h.toolstack.Read("error/backend/vtpm/5/0/error")
		if !strings.Contains(cause, "feature-protocol-v2") || !strings.Contains(h.log.String(), "feature-protocol-v2") {
			t.Errorf("the cause in xenstore: %q, %v; the log: %s", cause, err, &h.log)
		}
		// What starts next in the guest may know better.
		g.write("state", "6")
		settle()
		g.state("2")
		g.run()
	})
}

func TestFrontendThatOffersNothingReal(t *testing.T) {
	for name, spoil := range map[string]func(g *guest){
		"no grant":                 func(g *guest) { g.write("ring-ref", "99") },
		"no channel":               func(g *guest) { g.write("event-channel", "99") },
		"a reference that is none": func(g *guest) { g.write("ring-ref", "0x9") },
		"no reference":             func(g *guest) { g.h.must(g.h.toolstack.Remove(g.front("ring-ref"))) },
		"a number beyond":          func(g *guest) { g.write("ring-ref", "4294967305") },
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				g := h.build(5)
				g.attach(nil)
				g.share()
				spoil(g)
				g.write("state", "3")
				settle()
				g.state("6")
				if h.mapped != 0 {
					t.Errorf("%d pages are mapped", h.mapped)
				}
				if cause, _ := h.toolstack.Read("error/backend/vtpm/5/0/error"); !strings.Contains(cause, "can't be connected") {
					t.Errorf("the cause in xenstore: %q", cause)
				}
			})
		})
	}
}

// pv-grub closes its device and the kernel opens it again; so does who unloads the driver.
func TestGuestClosesAndComesBack(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g := h.build(5)
		g.attach(nil)
		settle()
		for i, states := range [][]string{{"5", "6"}, {"6"}, {"5", "6", "1"}} {
			g.run()
			g.submit(command("x"))
			g.answered(command("x"))
			for _, s := range states {
				g.write("state", s)
				settle()
				g.state("2")
			}
			g.history(i+1, 0)
			if h.mapped != 0 {
				t.Errorf("%d pages are mapped", h.mapped)
			}
		}
		if n := len(h.keeper.attaches()); n != 1 {
			t.Errorf("the keeper was asked %d times", n)
		}
	})
}

// A driver that is unloaded and loaded again may be back before anybody looked.
func TestGuestThatIsBackAtOnceIsConnectedToItsNewPage(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g := h.build(5)
		g.attach(nil)
		settle()
		g.run()
		old := g.page
		g.share() // and its state is what it was
		g.write("state", "4")
		settle()
		g.state("4")
		g.submit(command("x"))
		g.answered(command("x"))
		if old[1] != 0 || h.mapped != 1 {
			t.Errorf("the old page was written to (%d), or is mapped still (%d)", old[1], h.mapped)
		}
		g.history(1, 0)
	})
}

func TestDetach(t *testing.T) {
	for name, connects := range map[string]bool{"connected": true, "never connected": false} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				g := h.build(5)
				g.attach(nil)
				settle()
				if connects {
					g.run()
				}
				h.must(h.toolstack.Write(g.back("online"), "0"))
				h.must(h.toolstack.Write(g.back("state"), "5"))
				settle()
				g.state("6")
				if h.mapped != 0 {
					t.Errorf("%d pages are mapped", h.mapped)
				}
				g.remove()
				settle()
				g.history(0, 1)
				g.state("")
				if n := h.store.Watches(); n != 2 {
					t.Errorf("%d watches are left; want 2, the backend's own", n)
				}
			})
		})
	}
}

// A guest that closes while its domain is taken apart must not be offered a new beginning.
func TestOfflineDeviceStaysClosed(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g := h.build(5)
		g.attach(nil)
		settle()
		g.run()
		h.must(h.toolstack.Write(g.back("online"), "0"))
		g.write("state", "6")
		settle()
		g.state("6")
	})
}

func TestVanishedNodesEndTheSession(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g := h.build(5)
		g.attach(nil)
		settle()
		g.run()
		before := h.store.Snapshot()
		g.remove()
		settle()
		g.history(0, 1)
		if h.mapped != 0 {
			t.Errorf("%d pages are mapped", h.mapped)
		}
		for p := range h.store.Snapshot() {
			if strings.Contains(p, "backend") || before[p] == "" {
				t.Errorf("%s was left or made", p)
			}
		}
	})
}

func TestDeadDomainEndsTheSession(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g, other := h.build(5), h.build(6)
		g.attach(nil)
		other.attach(map[string]string{"uuid": uuid})
		settle()
		g.run()
		other.run()
		h.store.Introduce(5, false)
		settle()
		g.history(0, 1)
		other.history(0, 0)
		g.state("6")
		g.remove()
		settle()
		g.history(0, 1)
	})
}

// xl reboot: the same names, another domain.
func TestDeviceThatIsMadeAnewIsAnotherGuest(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g := h.build(5)
		g.attach(nil)
		settle()
		g.run()
		first := h.keeper.of(g)
		h.must(h.toolstack.Write("/vm/aaaaaaaa-0000-0000-0000-000000000005/start_time", "200.00"))
		// In one piece, so that nobody sees that it was gone.
		h.must(h.toolstack.Transaction(func(tx *xenstore.Tx) error { return errors.Join(g.removeIn(tx), g.attachIn(tx, nil)) }))
		settle()
		g.state("2")
		if first.isEnded != 1 {
			t.Errorf("the first session was ended %d times", first.isEnded)
		}
		asked := h.keeper.attaches()
		if len(asked) != 2 || asked[0].Birth == asked[1].Birth {
			t.Errorf("the keeper was asked %+v", asked)
		}
		g.run()
	})
}

func TestGuestIsWhoTheToolstackSays(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g := h.build(5)
		g.write("uuid", "66666666-2222-3333-4444-555555555502") // what the guest says is nothing
		g.attach(nil)
		settle()
		want := []vtpm.Guest{{
			UUID: vtpm.UUID{0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55, 0x02}, Domain: "xen:5",
			Birth: "boot/5/aaaaaaaa-0000-0000-0000-000000000005/100.00", Returns: true,
		}}
		if d := cmp.Diff(want, h.keeper.attaches()); d != "" {
			t.Error(d)
		}
	})
}

func TestDeviceThatContradictsItselfIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change map[string]string
		cause  string
	}{
		"another's frontend-id": {map[string]string{"frontend-id": "6"}, `frontend-id is "6" where "5" belongs`},
		"another's frontend":    {map[string]string{"frontend": "/local/domain/6/device/vtpm/0"}, `where "/local/domain/5/device/vtpm/0" belongs`},
		"another uuid":          {map[string]string{"uuid": "66666666-2222-3333-4444-555555555502"}, "toolstack's own copy"},
		"no uuid":               {map[string]string{"uuid": "x"}, "uuid"},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				g := h.build(5)
				g.attach(c.change)
				settle()
				g.state("")
				if cause, _ := h.toolstack.Read("error/backend/vtpm/5/0/error"); !strings.Contains(cause, c.cause) {
					t.Errorf("the cause in xenstore: %q", cause)
				}
				if asked := h.keeper.attaches(); len(asked) != 0 {
					t.Errorf("the keeper was asked: %+v", asked)
				}
			})
		})
	}
}

// In a driver domain, the toolstack's own nodes can't be read.
func TestToolstacksCopyMayBeUnreadable(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g := h.build(5)
		h.must(h.end())
		g.attach(nil)
		h.store.Deny("/libxl")
		h.store.Deny("/vm")
		h.start()
		settle()
		g.state("2")
	})
}

func TestLateIsWhoRanBefore(t *testing.T) {
	paused := domctl.Domain{Handle: [16]byte{0xaa, 0xaa, 0xaa, 0xaa, 15: 5}, Paused: true}
	ran, running, other := paused, paused, paused
	ran.CPUTime = time.Nanosecond
	running.Paused = false
	other.Handle[0] = 0xab
	for name, c := range map[string]struct {
		domain *domctl.Domain
		want   bool
	}{
		"built and not begun": {&paused, false}, "paused after it ran": {&ran, true}, "running": {&running, true},
		"Xen speaks of another": {&other, true}, "Xen says nothing": {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				g := h.build(5)
				h.mu.Lock()
				if delete(h.domains, 5); c.domain != nil {
					h.domains[5] = *c.domain
				}
				h.mu.Unlock()
				g.attach(nil)
				settle()
				if asked := h.keeper.attaches(); len(asked) != 1 || asked[0].Late != c.want {
					t.Errorf("the keeper was asked %+v", asked)
				}
			})
		})
	}
}

func TestNextManagerServesWhoIsConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.start()
		g := h.build(5)
		g.attach(nil)
		settle()
		g.run()
		h.must(h.end())
		g.history(0, 0)
		g.state("4")

		// The guest runs on, and sends a command that nobody hears.
		h.domains[5] = domctl.Domain{Handle: h.domains[5].Handle, CPUTime: time.Hour}
		g.put(uint32(len(command("waiting"))), 1, 0, 0, command("waiting"))
		g.bell.ring()
		states := h.follow(g.back("state"))
		h.start()
		settle()
		g.answered(command("waiting"))
		if d := cmp.Diff([]string{"4"}, states()); d != "" {
			t.Errorf("the backend's states: %s", d)
		}
		asked := h.keeper.attaches()
		if len(asked) != 2 || asked[0].Late || !asked[1].Late || asked[0].Birth != asked[1].Birth || asked[0].Domain != asked[1].Domain {
			t.Errorf("the keeper was asked %+v; want the same guest twice, which runs the second time", asked)
		}
		h.stop()
	})
}

// What xenstored's end says of the guests is nothing: their vTPMs stay.
func TestLostStoreEndsTheBackendAndNoSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.start()
		g := h.connectedGuest(5)
		h.store.Disconnect()
		settle()
		if err := h.end(); !errors.Is(err, xenstore.ErrClosed) {
			t.Errorf("the backend ended with %v", err)
		}
		g.history(0, 0)
		h.end = func() error { return nil }
		h.stop()
	})
}

// A command is not lost because the manager ends while it is under way: it is answered first.
func TestManagerThatEndsAnswersFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.start()
		g := h.build(5)
		g.attach(nil)
		settle()
		g.run()
		h.keeper.of(g).execute = slow(3 * time.Second)
		g.submit(command("x"))
		h.must(h.end())
		g.answered(command("x"))
		h.end = func() error { return nil }
		h.stop()
	})
}

func TestRefusedVTPMIsRefusedAtOnceAndEachTime(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		for i := range uint32(100) {
			g := h.build(10 + i)
			h.keeper.mu.Lock()
			h.keeper.refuse[fmt.Sprintf("xen:%d", g.domain)] = errors.New("its state was altered")
			h.keeper.mu.Unlock()
			g.attach(nil)
			settle()
			g.state("") // at which the toolstack gives up
			cause, _ := h.toolstack.Read(fmt.Sprintf("error/backend/vtpm/%d/0/error", g.domain))
			if !strings.Contains(cause, "its state was altered") {
				t.Fatalf("the cause in xenstore: %q", cause)
			}
			g.remove()
			settle()
		}
		if n := len(h.keeper.attaches()); n != 100 {
			t.Errorf("the keeper was asked %d times", n)
		}
		errors := 0
		for p := range h.store.Snapshot() {
			if strings.Contains(p, "/backend/vtpm/") {
				if !strings.Contains(p, "/error/") {
					t.Errorf("%s is left", p)
				}
				errors++
			}
		}
		if n := h.store.Watches(); n != 2 || errors != 16 {
			t.Errorf("%d watches and %d causes are left; want 2 and 16", n, errors)
		}
	})
}

func TestSlowAttachHoldsUpNobodyElse(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.keeper.hang = make(chan struct{})
		g, other := h.build(5), h.build(6)
		g.attach(nil)
		settle()
		g.state("1")
		h.keeper.mu.Lock()
		hang := h.keeper.hang
		h.keeper.hang = nil
		h.keeper.mu.Unlock()
		other.attach(nil)
		settle()
		other.run()
		close(hang)
		settle()
		g.state("2")
	})
}

// The toolstack would give up after ten seconds. The guest's driver waits longer.
func TestSlowVTPMIsNotARefusedOne(t *testing.T) {
	for name, refusal := range map[string]error{"there in the end": nil, "refused in the end": errors.New("its state was altered")} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.keeper.hang = make(chan struct{})
				h.keeper.refuse["xen:5"] = refusal
				g := h.build(5)
				g.attach(nil)
				time.Sleep(4 * time.Second)
				g.state("1")
				time.Sleep(2 * time.Second)
				g.state("2")
				g.share()
				g.put(uint32(len(command("first"))), 1, 0, 0, command("first"))
				g.write("state", "3")
				settle()
				g.state("2")
				close(h.keeper.hang)
				settle()
				if refusal != nil {
					g.state("6")
					return
				}
				g.state("4")
				g.answered(command("first"))
			})
		})
	}
}

// The toolstack gives up after ten seconds, and wants an answer then.
func TestDetachEndsAnAttachThatHangs(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.keeper.hang = make(chan struct{})
		g := h.build(5)
		g.attach(nil)
		settle()
		h.must(h.toolstack.Write(g.back("state"), "5"))
		settle()
		g.state("6")
		if h.keeper.givenUp != 1 {
			t.Error("the keeper is still asked for what nobody wants any more")
		}
		g.remove()
		settle()
		if strings.Contains(h.log.String(), "ERROR") {
			t.Errorf("the log: %s", &h.log)
		}
	})
}
