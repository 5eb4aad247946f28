package xl_test

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/fdstore"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/measure"
	"github.com/antievilmaid/aem/vtpm/store"
	"github.com/antievilmaid/aem/vtpm/xl"
)

// builds is what xl does with a guest: it reads all that it was given, builds, and leaves a
// process behind that has the same descriptors.
const builds = `
echo "$@" >arguments
cat /proc/self/fd/3 >configuration
cat $(sed -n 's/^kernel="\(.*\)"/\1/p' configuration) >built-kernel
cat $(sed -n 's/^ramdisk="\(.*\)"/\1/p' configuration) >built-initrd
echo >begun
read x <go
( read x <monitor ) >/dev/null 2>&1 </dev/null &
`

// What xl starts is what was measured, though the files changed in between; each guest that xl builds of
// it counts as measured, until xl is gone.
func TestRun(t *testing.T) {
	h := newHost(t, builds)
	k, err := fdstore.NewKeeper()
	must(t, err)
	defer k.Close()
	h.Manager.Held = k.Store()
	done := make(chan error, 1)
	go func() { done <- h.Run(h.cfg, func(string) {}) }()
	h.signal("begun", false)
	if got := h.read("built-kernel") + ", " + h.read("built-initrd"); got != "the kernel, the initrd" {
		t.Errorf("xl was given %q", got)
	}
	if got := h.read("arguments"); got != "create -q /proc/self/fd/3\n" {
		t.Errorf("xl was called with %q", got)
	}
	if !strings.Contains(h.read("configuration"), `cmdline="quiet"`) {
		t.Error("the configuration is another one")
	}
	s, err := h.guest("1")
	must(t, err)
	if h.start() != measure.Measured {
		t.Errorf("the guest counts as %s", h.start())
	}
	h.signal("go", true)
	must(t, <-done)
	must(t, s.End())
	s, err = h.guest("2") // it rebooted
	must(t, err)
	if h.start() != measure.Measured {
		t.Errorf("after a reboot the guest counts as %s", h.start())
	}
	must(t, s.End())
	if got, id := k.Names(), h.uuid.String(); !slices.Equal(got, []string{"vtpm-" + id + "-builder", "vtpm-" + id + "-start"}) {
		t.Errorf("these are held for the next vtpmd: %q", got)
	}
	h.signal("monitor", true)
	h.unprepared()
	if got := k.Names(); len(got) != 0 {
		t.Errorf("these are still held: %q", got)
	}
}

// unprepared waits until a guest would not be taken for a measured one any more.
func (h *host) unprepared() {
	h.t.Helper()
	for ; ; runtime.Gosched() { // for ever where it stays: the test's own end shows it then
		p, err := h.Manager.Prepare(h.uuid, manager.Material{})
		if err == nil {
			p.Cancel()
			return
		}
		if !errors.Is(err, manager.ErrPrepared) {
			h.t.Fatal(err)
		}
	}
}

// Where a guest is not started, why is said in one sentence, and nothing of it remains.
func TestRunThatFails(t *testing.T) {
	for _, c := range []struct{ name, script, words string }{
		{"xl fails", "echo parsing config\necho libxl: error: there is no memory\necho more\nexit 3", "xl create: exit status 3: libxl: error: there is no memory"},
		{"xl is silent", "exit 1", "it said nothing"},
		{"the guest has no vTPM", "exit 0", "never asked for the vTPM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, c.script)
			if err := h.Run(h.cfg, func(string) {}); err == nil || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v; want %q", err, c.words)
			}
			h.unprepared()
		})
	}
	t.Run("there is no xl", func(t *testing.T) {
		h := newHost(t, "")
		h.Program = "there-is-no-such-xl"
		if err := h.Run(h.cfg, func(string) {}); !errors.Is(err, xl.ErrNoXL) {
			t.Error(err)
		}
		h.unprepared()
	})
	t.Run("the vTPM is unknown", func(t *testing.T) {
		h := newHost(t, "echo >ran")
		must(t, h.Manager.Remove(h.uuid))
		if err := h.Run(h.cfg, func(string) {}); !errors.Is(err, store.ErrUnknown) {
			t.Error(err)
		}
	})
	t.Run("there is no vTPM in the configuration", func(t *testing.T) {
		h := newHost(t, "")
		h.write("guest.cfg", strings.ReplaceAll(h.read("guest.cfg"), "vtpm=", "vif="))
		if err := h.Run(h.cfg, func(string) {}); !errors.Is(err, xl.ErrNoVTPM) {
			t.Error(err)
		}
	})
	t.Run("another boot loader", func(t *testing.T) {
		h := newHost(t, "", `bootloader="pygrub"`)
		var c *measure.ConfigurationError
		if err := h.Run(h.cfg, func(string) {}); !errors.As(err, &c) {
			t.Error(err)
		}
	})
}

// A guest that does not shut down has its power cut; both end when its vTPM is shut down.
func TestStop(t *testing.T) {
	for _, c := range []struct{ name, script, calls string }{
		{"it shuts down", `echo "$@" >>calls; echo >begun`, "shutdown -w 7\n"},
		{"it does not", `echo "$@" >>calls; if [ $1 = shutdown ]; then read x <go; else echo >begun; echo >go; fi`, "destroy 7\nshutdown -w 7\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, c.script)
			p, err := h.Manager.Prepare(h.uuid, manager.Material{Kernel: file(), Configuration: file()})
			must(t, err)
			s, err := h.guest("7")
			must(t, err)
			p.Cancel()
			done := make(chan error, 1)
			patience := time.Hour
			if strings.Contains(c.calls, "destroy") {
				patience = time.Millisecond
			}
			go func() { done <- h.Stop(t.Context(), h.uuid.String(), patience, func(string) {}) }()
			h.signal("begun", false)
			select {
			case err := <-done:
				t.Errorf("it did not wait for the vTPM: %v", err)
			default:
			}
			must(t, s.End())
			must(t, <-done)
			calls := strings.SplitAfter(h.read("calls"), "\n") // xl was called twice at once
			slices.Sort(calls)
			if got := strings.Join(calls, ""); got != c.calls {
				t.Errorf("xl was called with %q", got)
			}
		})
	}
	h := newHost(t, "exit 1")
	for _, bad := range []string{"", "-f", h.uuid.String()} {
		if err := h.Stop(t.Context(), bad, time.Minute, func(string) {}); err == nil || strings.Contains(err.Error(), "exit status") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
