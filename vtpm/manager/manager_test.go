package manager_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/measure"
	"github.com/antievilmaid/aem/vtpm/store"
)

// counter is a store's root in memory.
type counter struct{ value uint64 }

func (c *counter) Key() ([]byte, error)   { return bytes.Repeat([]byte{7}, store.KeySize), nil }
func (c *counter) Epoch() (uint64, error) { return c.value, nil }
func (c *counter) Advance(uint64) error   { c.value++; return nil }

// host is a manager with real emulators.
type host struct {
	t testing.TB
	*manager.Manager
	path string
	root counter

	mu       sync.Mutex
	more     *sync.Cond
	happened []string // kinds
}

// until waits for something to happen.
func (h *host) until(kind string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for !slices.Contains(h.happened, kind) {
		h.more.Wait()
	}
}

func newHost(t testing.TB) *host {
	t.Helper()
	testbed.Need(t, "swtpm")
	dir, err := os.MkdirTemp("", "vtpm-") // a socket's path must be short
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &host{t: t, path: filepath.Join(dir, "vtpms")}
	h.more = sync.NewCond(&h.mu)
	must(t, store.Create(h.path, &h.root))
	h.open(dir)
	t.Cleanup(func() { h.Close(); h.Store.Close(); h.Emulators.Close() })
	return h
}

// open begins as a manager does that was started anew.
func (h *host) open(dir string) {
	h.t.Helper()
	emulators, err := emulator.NewHost(dir)
	must(h.t, err)
	s, err := store.Open(h.path, &h.root)
	must(h.t, err)
	h.Manager = manager.New(manager.Config{Store: s, Emulators: emulators, Host: approved(), FirstUser: 70000, Users: 8, Tell: func(x manager.Happening) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.happened = append(h.happened, x.Kind)
		h.more.Broadcast()
	}})
}

// approved is a host whose launch was approved.
func approved() measure.Host {
	banks := tpm.Banks{{Alg: tpm.SHA256}}
	for _, p := range []tpm.PCR{17, 18} {
		banks[0].Values[p] = tpm.SHA256.Sum([]byte{byte(p)})
	}
	return measure.Host{Grade: measure.Launched, PCRs: banks}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *host) create(v tpm.Version, p manager.Policy) vtpm.UUID {
	h.t.Helper()
	u := vtpm.NewUUID()
	must(h.t, h.Create(h.t.Context(), u, "a guest", v, p))
	return u
}

func (h *host) attach(g vtpm.Guest) *guest {
	h.t.Helper()
	s, err := h.Attach(h.t.Context(), g)
	must(h.t, err)
	return &guest{h.t, s}
}

// guest is one at its vTPM, at locality 0.
type guest struct {
	t testing.TB
	vtpm.Session
}

func (g *guest) Send(command []byte) ([]byte, error) {
	return g.Execute(g.t.Context(), 0, command)
}

var all = tpm.PCRs(1<<tpm.NumPCRs - 1)

func (g *guest) pcrs() tpm.Banks {
	g.t.Helper()
	var banks tpm.Banks
	var err error
	if g.Version() == tpm.V12 {
		banks, err = tpm12.New(g).ReadPCRs(all)
	} else {
		banks, err = tpm2.New(g).ReadPCRs(all)
	}
	must(g.t, err)
	return banks
}

// extend is what a guest does at any time.
func (g *guest) extend(p tpm.PCR) {
	g.t.Helper()
	if g.Version() == tpm.V12 {
		must(g.t, tpm12.New(g).Extend(p, tpm.SumAll([]tpm.Alg{tpm.SHA1}, []byte("x"))))
		return
	}
	must(g.t, tpm2.New(g).Extend(p, tpm.SumAll([]tpm.Alg{tpm.SHA256}, []byte("x"))))
}

func material(kernel string) manager.Material {
	file := func(name, content string) *measure.File {
		return &measure.File{Name: name, Size: int64(len(content)), Digests: tpm.SumAll([]tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512}, []byte(content))}
	}
	return manager.Material{Kernel: file("vmlinuz", kernel), Initrd: file("initrd", "initrd"), Configuration: file("guest.cfg", "memory=96"), CommandLine: "quiet"}
}

// What was prepared is for who is built of it, and not for a QEMU that comes in that moment.
func TestAGuestWithAFirmwareIsNotThePreparedOne(t *testing.T) {
	h := newHost(t)
	u := h.create(tpm.V20, manager.Policy{OnlyMeasured: true})
	p, err := h.Prepare(u, material("kernel"))
	must(t, err)
	if _, err := h.Attach(t.Context(), vtpm.Guest{UUID: u, Domain: "qemu:1", Birth: "1", Firmware: true}); !errors.Is(err, manager.ErrUnmeasured) {
		t.Errorf("it was let in: %v", err)
	}
	select {
	case <-p.Used():
		t.Error("the preparation counts as used")
	default:
	}
	h.attach(vtpm.Guest{UUID: u, Domain: "xen:1", Birth: "1"})
}

// A measured guest finds in its PCRs what can be computed beforehand, in every bank, and a
// log that leads there.
func TestFreshGuestIsMeasured(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			h := newHost(t)
			u := h.create(v, manager.Policy{OnlyMeasured: true})
			_, err := h.Prepare(u, material("kernel"))
			must(t, err)
			who := vtpm.Guest{UUID: u, Domain: "xen:1", Birth: "1"}
			g := h.attach(who)
			m := material("kernel")
			l := measure.Launch{Guest: who, Start: measure.Measured, Kernel: m.Kernel, Initrd: m.Initrd, Configuration: m.Configuration, CommandLine: m.CommandLine, Host: approved()}
			got := g.pcrs()
			want, err := l.Predict(got.Algs())
			must(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the vTPM's PCRs are not the predicted ones:\n%s", diff)
			}
			b, err := h.Log(u)
			must(t, err)
			log, err := eventlog.Parse(b)
			must(t, err)
			if len(log.Events) < 5 {
				t.Errorf("the log has %d events", len(log.Events))
			}
			must(t, g.End())
			who.Birth = "2"
			if again := h.attach(who); !cmp.Equal(again.pcrs(), got) {
				t.Error("the guest that was built of the same bytes again has other PCRs")
			}
		})
	}
}

// Rule: fresh PCRs if and only if the guest is fresh.
func TestFreshPCRsForFreshGuestsOnly(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			h := newHost(t)
			u := h.create(v, manager.Policy{})
			who := vtpm.Guest{UUID: u, Domain: "xen:1", Birth: "1"}
			g := h.attach(who)
			fresh := g.pcrs()
			g.extend(8)
			used := g.pcrs()
			if cmp.Equal(fresh, used) {
				t.Fatal("the extend had no effect")
			}
			must(t, g.Close())
			if back := h.attach(who); !cmp.Equal(back.pcrs(), used) {
				t.Error("the same guest did not find its PCRs as it left them")
			} else {
				must(t, back.End())
			}
			who.Birth = "2"
			next := h.attach(who)
			if !cmp.Equal(next.pcrs(), fresh) {
				t.Error("the next guest did not get fresh PCRs")
			}
			next.extend(8)
			must(t, next.Reset(t.Context()))
			if !cmp.Equal(next.pcrs(), fresh) {
				t.Error("a machine's reset did not give fresh PCRs")
			}
		})
	}
}

// However often another guest asks, it gets nothing, and the one that has the vTPM is not
// disturbed.
func TestOneGuestAtATime(t *testing.T) {
	h := newHost(t)
	u := h.create(tpm.V20, manager.Policy{})
	who := vtpm.Guest{UUID: u, Domain: "xen:1", Birth: "1"}
	g := h.attach(who)
	before := g.pcrs()
	for i := range 100 {
		other := vtpm.Guest{UUID: u, Domain: fmt.Sprintf("xen:%d", i+2), Birth: "x"}
		if _, err := h.Attach(t.Context(), other); !errors.Is(err, manager.ErrTaken) {
			t.Fatalf("another guest was answered %v", err)
		}
	}
	if _, err := h.Attach(t.Context(), who); !errors.Is(err, manager.ErrConnected) {
		t.Errorf("the same guest a second time was answered %v", err)
	}
	if err := h.Remove(u); !errors.Is(err, manager.ErrRunning) {
		t.Errorf("removing a vTPM in use was answered %v", err)
	}
	if !cmp.Equal(g.pcrs(), before) {
		t.Error("the vTPM changed")
	}
	old := g.Session
	must(t, g.Close())
	again := h.attach(who)
	if _, err := old.Execute(t.Context(), 0, nil); !errors.Is(err, manager.ErrGone) {
		t.Errorf("a session that was closed still works: %v", err)
	}
	must(t, again.End())
	if _, err := again.Execute(t.Context(), 0, nil); !errors.Is(err, manager.ErrGone) {
		t.Errorf("a session that has ended still works: %v", err)
	}
}

// Nobody gets a vTPM that was not made for him.
func TestAttachRefuses(t *testing.T) {
	h := newHost(t)
	if _, err := h.Attach(t.Context(), vtpm.Guest{UUID: vtpm.NewUUID(), Domain: "xen:1"}); !errors.Is(err, store.ErrUnknown) {
		t.Errorf("an unknown vTPM: %v", err)
	}
	u := h.create(tpm.V20, manager.Policy{OnlyMeasured: true})
	for _, g := range []vtpm.Guest{{UUID: u, Domain: "xen:1"}, {UUID: u, Domain: "qemu:1", Firmware: true}} {
		if _, err := h.Attach(t.Context(), g); !errors.Is(err, manager.ErrUnmeasured) {
			t.Errorf("%+v: %v", g, err)
		}
	}
	p, err := h.Prepare(u, material("kernel"))
	must(t, err)
	if _, err := h.Prepare(u, material("other")); !errors.Is(err, manager.ErrPrepared) {
		t.Errorf("a second preparation: %v", err)
	}
	if _, err := h.Attach(t.Context(), vtpm.Guest{UUID: u, Domain: "xen:1", Late: true}); !errors.Is(err, manager.ErrUnmeasured) {
		t.Errorf("a late guest in the place of the prepared one: %v", err)
	}
	p.Cancel()
	if _, err := h.Attach(t.Context(), vtpm.Guest{UUID: u, Domain: "xen:2"}); !errors.Is(err, manager.ErrUnmeasured) {
		t.Errorf("after the preparation was cancelled: %v", err)
	}
	must(t, h.Remove(u))
	if _, err := h.Attach(t.Context(), vtpm.Guest{UUID: u, Domain: "xen:3"}); !errors.Is(err, store.ErrUnknown) {
		t.Errorf("a removed vTPM: %v", err)
	}
}

// A guest whose state can't be stored gets no answer that its next start would not know of;
// others go on, and it goes on, too, when the store works again.
func TestStateThatCanNotBeStored(t *testing.T) {
	h := newHost(t)
	u := h.create(tpm.V20, manager.Policy{})
	g := h.attach(vtpm.Guest{UUID: u, Domain: "xen:1"})
	must(t, h.Store.Close())
	define := []byte("\x80\x02\x00\x00\x00\x2d\x00\x00\x01\x2a\x40\x00\x00\x01\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00" +
		"\x00\x0e\x01\x80\x00\x01\x00\x0b\x00\x04\x00\x04\x00\x00\x00\x08") // TPM2_NV_DefineSpace of 8 bytes
	if rsp, err := g.Send(define); !errors.Is(err, manager.ErrPaused) || rsp != nil {
		t.Errorf("a state that can't be stored: %x, %v", rsp, err)
	}
	if _, err := g.Send([]byte("\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08")); !errors.Is(err, manager.ErrPaused) {
		t.Errorf("the next command: %v", err)
	}
	if diff := cmp.Diff([]string{"created", "started", "paused"}, h.happened); diff != "" {
		t.Error(diff)
	}
}

// name tells one identity from another: the digest of the endorsement key's public area.
func (g *guest) name() string {
	g.t.Helper()
	rsp, err := g.Send([]byte("\x80\x02\x00\x00\x00\x43\x00\x00\x01\x31\x40\x00\x00\x0b\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00" + // CreatePrimary, endorsement
		"\x00\x04\x00\x00\x00\x00" + // no secret
		"\x00\x1a\x00\x23\x00\x0b\x00\x03\x00\x72\x00\x00\x00\x06\x00\x80\x00\x43\x00\x10\x00\x03\x00\x10\x00\x00\x00\x00" + // ECC, restricted, P-256
		"\x00\x00\x00\x00\x00\x00"))
	must(g.t, err)
	if code := rsp[6:10]; !bytes.Equal(code, make([]byte, 4)) {
		g.t.Fatalf("TPM2_CreatePrimary was answered with %x", code)
	}
	return fmt.Sprintf("%x", rsp[18:18+100])
}

// Whatever ends a vTPM, the next start has the same identity; and a guest whose emulator died
// gets no TPM in its place while it runs.
func TestIdentityOutlivesEverything(t *testing.T) {
	h := newHost(t)
	u := h.create(tpm.V20, manager.Policy{})
	g := h.attach(vtpm.Guest{UUID: u, Domain: "xen:1", Birth: "1"})
	want := g.name()
	must(t, g.End())

	g = h.attach(vtpm.Guest{UUID: u, Domain: "xen:2", Birth: "2"})
	must(t, h.Emulators.Close()) // which ends the emulators, as a power cut does
	h.until("died")
	if _, err := g.Execute(t.Context(), 0, []byte("\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08")); !errors.Is(err, emulator.ErrEnded) {
		t.Errorf("a command after the emulator's end: %v", err)
	}
	must(t, g.Close())
	if s, err := h.Attach(t.Context(), vtpm.Guest{UUID: u, Domain: "xen:2", Birth: "2"}); err == nil {
		if _, err = s.Execute(t.Context(), 0, []byte("\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08")); err == nil {
			t.Error("the same guest got another TPM under its feet")
		}
	}
	// The manager is killed, and starts anew.
	must(t, h.Store.Close())
	h.open(t.TempDir())
	g = h.attach(vtpm.Guest{UUID: u, Domain: "xen:3", Birth: "3"})
	if got := g.name(); got != want {
		t.Errorf("another identity: %s, it was %s", got, want)
	}
	must(t, g.End())
}

// Users are given back, whichever way a vTPM ends.
func TestUsersAreGivenBack(t *testing.T) {
	h := newHost(t)
	u := h.create(tpm.V20, manager.Policy{})
	for i := range 3 * 8 {
		g := h.attach(vtpm.Guest{UUID: u, Domain: "xen:1", Birth: fmt.Sprint(i)})
		must(t, g.End())
	}
	var vtpms []vtpm.UUID // a vTPM that is made has a user, too
	for range 8 {
		vtpms = append(vtpms, h.create(tpm.V20, manager.Policy{}))
	}
	var list []*guest
	for range 8 {
		list = append(list, h.attach(vtpm.Guest{UUID: vtpms[len(list)], Domain: "xen:1", Birth: "1"}))
	}
	if _, err := h.Attach(t.Context(), vtpm.Guest{UUID: u, Domain: "xen:9", Birth: "9"}); err == nil {
		t.Error("a ninth emulator found a user of its own among eight")
	}
	must(t, list[0].End())
	must(t, h.attach(vtpm.Guest{UUID: u, Domain: "xen:9", Birth: "9"}).End())
}
