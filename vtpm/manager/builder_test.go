package manager_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/fdstore"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// run is a guest that was measured, and its builder, who lives until he is closed.
func (m *mortal) run() (g *remote, builder *os.File) {
	m.t.Helper()
	path := filepath.Join(m.dir, "builder")
	must(m.t, unix.Mkfifo(path, 0o600))
	builder, err := os.OpenFile(path, os.O_RDWR, 0)
	must(m.t, err)
	m.t.Cleanup(func() { builder.Close() })
	g = &remote{mortal: m, who: vtpm.Guest{UUID: vtpm.NewUUID(), Domain: "xen:1", Birth: "1", Returns: true}}
	m.do(order{Do: "create", Guest: g.who, Version: tpm.V20})
	m.do(order{Do: "prepare", Guest: g.who, Builder: path})
	m.do(order{Do: "attach", Guest: g.who})
	return g, builder
}

// reboot has the guest built anew.
func (g *remote) reboot() {
	g.t.Helper()
	g.do(order{Do: "end", Guest: g.who})
	g.who.Birth += "+1"
	g.do(order{Do: "attach", Guest: g.who})
}

func (g *remote) counts(as measure.Start) {
	g.t.Helper()
	if got := g.do(order{Do: "start", Guest: g.who}).Text; got != as.String() {
		g.t.Errorf("the guest counts as %s, and should as %s", got, as)
	}
}

// A measured guest that restarts after its manager was killed is measured, and finds the PCRs of its first start;
// so it is after the next death, and where the manager died before the first guest came.
func TestRestartAfterTheManagersDeathIsMeasured(t *testing.T) {
	m := newMortal(t)
	g, _ := m.run()
	g.counts(measure.Measured)
	want, held := g.pcrs(tpm.V20), m.keeper.Names()
	g.extend(tpm.V20, 8, "before")
	for range 2 {
		m.restart()
		g.back()
		g.reboot()
		g.counts(measure.Measured)
		if got := g.pcrs(tpm.V20); got != want {
			t.Errorf("the PCRs are %s in place of %s", got, want)
		}
		if got := m.keeper.Names(); !slices.Equal(got, held) {
			t.Errorf("these are held: %q, and at first %q", got, held)
		}
	}
	g.do(order{Do: "end", Guest: g.who})
	m.restart()
	g.who.Birth = "later"
	m.do(order{Do: "attach", Guest: g.who})
	g.counts(measure.Measured)
	if _, err := m.try(order{Do: "prepare", Guest: g.who}); err == nil {
		t.Error("another start could be prepared")
	}
}

// A manager that is told to end, and started anew, knows as well who builds what: systemctl restart.
func TestRestartAfterTheManagersEndIsMeasured(t *testing.T) {
	m := newMortal(t)
	g, _ := m.run()
	m.stop()
	m.start()
	g.who.Birth = "2"
	m.do(order{Do: "attach", Guest: g.who})
	g.counts(measure.Measured)
}

// Once its builder is gone nobody is taken for the measured guest any more, whoever died first, and however soon he comes.
func TestPreparationEndsWithItsBuilder(t *testing.T) {
	for name, end := range map[string]func(m *mortal, builder *os.File){
		"under the first manager": func(m *mortal, builder *os.File) { builder.Close() },
		"while there is none":     func(m *mortal, builder *os.File) { m.kill(); builder.Close(); m.start() },
		"under the next one":      func(m *mortal, builder *os.File) { m.restart(); builder.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMortal(t)
			g, builder := m.run()
			m.do(order{Do: "end", Guest: g.who})
			end(m, builder)
			g.who.Birth = "2"
			m.do(order{Do: "attach", Guest: g.who})
			g.counts(measure.Unmeasured)
			m.do(order{Do: "end", Guest: g.who})
			m.do(order{Do: "hear", Kind: "unprepared"})
			if got := m.keeper.Names(); len(got) != 0 {
				t.Errorf("these are held: %q", got)
			}
			m.do(order{Do: "prepare", Guest: g.who}) // it is not prepared already
		})
	}
}

// However often managers come and go, a preparation leaves nothing open.
func TestPreparationLeavesNoDescriptors(t *testing.T) {
	m := newMortal(t)
	g, builder := m.run()
	m.do(order{Do: "end", Guest: g.who})
	m.restart()
	first := m.do(order{Do: "descriptors"}).Text
	for range 3 {
		m.restart()
		if now := m.do(order{Do: "descriptors"}).Text; strings.Count(now, "\n") > strings.Count(first, "\n") {
			t.Fatalf("there is more than at first:\n%s", now)
		}
	}
	builder.Close()
	m.do(order{Do: "hear", Kind: "unprepared"})
	if now := m.do(order{Do: "descriptors"}).Text; strings.Contains(now, "builder") {
		t.Errorf("the builder's pipe is still open:\n%s", now)
	}
}

// handed is what the next manager would get.
func handed(t *testing.T, k *fdstore.Keeper) map[string][]*os.File {
	t.Helper()
	c := exec.Command("true")
	must(t, k.Hand(c))
	i := slices.IndexFunc(c.Env, func(v string) bool { return strings.HasPrefix(v, "LISTEN_FDNAMES=") })
	held := map[string][]*os.File{}
	for i, name := range strings.Split(strings.TrimPrefix(c.Env[i], "LISTEN_FDNAMES="), ":") {
		fd, err := unix.FcntlInt(c.ExtraFiles[i].Fd(), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		held[name] = append(held[name], os.NewFile(uintptr(fd), name))
	}
	return held
}

// What was not kept whole, or can't be understood, is no preparation, and is not kept on.
func TestPreparationThatWasNotKept(t *testing.T) {
	other := vtpm.NewUUID()
	edit := func(old, new string) func(*testing.T, map[string][]*os.File, string, string) {
		return func(t *testing.T, held map[string][]*os.File, start, _ string) {
			t.Helper()
			b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", held[start][0].Fd()))
			must(t, err)
			changed := bytes.Replace(b, []byte(old), []byte(new), 1)
			if bytes.Equal(b, changed) {
				t.Fatalf("%q is not in %q", old, b)
			}
			_, err = held[start][0].WriteAt(changed, 0)
			must(t, err)
		}
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, held map[string][]*os.File, start, builder string)
		says  string // where it can't be taken over
	}{
		"as it was": {func(*testing.T, map[string][]*os.File, string, string) {}, ""},
		"no start":  {func(_ *testing.T, held map[string][]*os.File, start, _ string) { delete(held, start) }, "while it was being kept"},
		"no builder": {func(_ *testing.T, held map[string][]*os.File, _, builder string) { delete(held, builder) },
			"while it was being kept"},
		"two builders": {func(t *testing.T, held map[string][]*os.File, _, builder string) {
			r, w, err := os.Pipe()
			must(t, err)
			t.Cleanup(func() { w.Close() })
			held[builder] = append(held[builder], r)
		}, "while it was being kept"},
		"another vTPM's": {func(_ *testing.T, held map[string][]*os.File, start, builder string) {
			held["vtpm-"+other.String()+"-start"], held["vtpm-"+other.String()+"-builder"] = held[start], held[builder]
			delete(held, start)
			delete(held, builder)
		}, "another vTPM's"},
		"a later format":      {edit(`"Format":1`, `"Format":2`), "its format is 2"},
		"something not known": {edit(`"Format":1`, `"Formel":1`), "unknown field"},
		"no words":            {edit(`{"Format"`, "\x00\x01\x02\x03\x04"), "invalid character"},
		"a file of zeros":     {edit(`{"Format":1`, "          "), "invalid character"},
		"a builder's other end": {func(t *testing.T, held map[string][]*os.File, _, builder string) {
			r, w, err := os.Pipe()
			must(t, err)
			r.Close()
			held[builder][0] = w
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := fdstore.NewKeeper()
			must(t, err)
			defer k.Close()
			h := newHost(t)
			h.Held = k.Store()
			u := h.create(tpm.V20, manager.Policy{})
			p, err := h.Prepare(u, material("kernel"))
			must(t, err)
			ours, builder, err := os.Pipe()
			must(t, err)
			defer builder.Close()
			p.While(ours)
			held := handed(t, k)
			c.spoil(t, held, "vtpm-"+u.String()+"-start", "vtpm-"+u.String()+"-builder")

			var said []string
			config := h.Config
			config.FirstUser += 100
			config.Tell = func(x manager.Happening) { said = append(said, x.Kind+": "+x.Text) }
			next := manager.New(config)
			defer next.Close()
			next.Adopt(t.Context(), held)
			if got := strings.Join(said, "\n"); !strings.Contains(got, c.says) || (c.says == "") != (got == "") {
				t.Errorf("it was said %q; want %q", got, c.says)
			}
			want := measure.Unmeasured
			if name == "as it was" {
				want = measure.Measured
			}
			if _, there := held["vtpm-"+other.String()+"-start"]; there {
				t.Error("it was left to the caller")
			}
			_, err = next.Attach(t.Context(), vtpm.Guest{UUID: u, Domain: "xen:2", Birth: "2"})
			must(t, err)
			if got := next.Running()[u].Start; got != want {
				t.Errorf("the guest counts as %s; want %s", got, want)
			}
			if got := k.Names(); c.says != "" && name != "another vTPM's" && len(got) > 0 {
				t.Errorf("these are still held: %q", got)
			}
		})
	}
}
