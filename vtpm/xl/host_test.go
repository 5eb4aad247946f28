package xl_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/measure"
	"github.com/antievilmaid/aem/vtpm/store"
	"github.com/antievilmaid/aem/vtpm/xl"
)

// counter is a store's root in memory.
type counter struct{ value uint64 }

func (c *counter) Key() ([]byte, error)   { return bytes.Repeat([]byte{7}, store.KeySize), nil }
func (c *counter) Epoch() (uint64, error) { return c.value, nil }
func (c *counter) Advance(uint64) error   { c.value++; return nil }

// host is a machine with a vTPM for one guest, and a script in the place of xl.
type host struct {
	t testing.TB
	*xl.Starter
	dir  string
	uuid vtpm.UUID
	cfg  string // the guest's configuration
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newHost has a guest whose kernel and initrd are small files. script is what xl does.
func newHost(t testing.TB, script string, more ...string) *host {
	t.Helper()
	testbed.Need(t, "swtpm")
	dir, err := os.MkdirTemp("", "vtpm-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	root := &counter{}
	must(t, store.Create(filepath.Join(dir, "vtpms"), root))
	s, err := store.Open(filepath.Join(dir, "vtpms"), root)
	must(t, err)
	emulators, err := emulator.NewHost(dir)
	must(t, err)
	t.Cleanup(func() { emulators.Close() })
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	m := manager.New(manager.Config{Store: s, Emulators: emulators, Host: measure.Host{Grade: measure.Insecure}, FirstUser: 70000, Users: 8})
	t.Cleanup(func() { m.Close(); s.Close() })
	h := &host{t: t, Starter: &xl.Starter{Manager: m, Program: filepath.Join(dir, "xl"), Log: log}, dir: dir, uuid: vtpm.NewUUID(), cfg: filepath.Join(dir, "guest.cfg")}
	must(t, m.Create(t.Context(), h.uuid, "a guest", tpm.V20, manager.Policy{OnlyMeasured: true}))
	h.write("xl", "#!/bin/sh\ncd "+dir+"\n"+script)
	h.write("kernel", "the kernel")
	h.write("initrd", "the initrd")
	h.configure(more...)
	for _, pipe := range []string{"begun", "go", "monitor"} {
		must(t, unix.Mkfifo(filepath.Join(dir, pipe), 0o600))
	}
	return h
}

func (h *host) write(name, content string) {
	h.t.Helper()
	must(h.t, os.WriteFile(filepath.Join(h.dir, name), []byte(content), 0o700))
}

func (h *host) read(name string) string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, name))
	must(h.t, err)
	return string(b)
}

// configure writes the guest's configuration, with further lines.
func (h *host) configure(more ...string) {
	text := fmt.Sprintf("name=\"web\"\ntype=\"pvh\"\nkernel=\"%s/kernel\"\nramdisk=\"%s/initrd\"\ncmdline=\"quiet\"\nvtpm=[\"backend=Domain-0,uuid=%s\"]\n", h.dir, h.dir, h.uuid)
	for _, line := range more {
		text += line + "\n"
	}
	h.write("guest.cfg", text)
}

// guest asks for the vTPM, as one that was built just now.
func (h *host) guest(birth string) (vtpm.Session, error) {
	return h.Manager.Attach(h.t.Context(), vtpm.Guest{UUID: h.uuid, Domain: "xen:" + birth, Birth: birth})
}

// start is how the guest that has the vTPM counts.
func (h *host) start() measure.Start { return h.Manager.Running()[h.uuid].Start }

// signal goes on where the script waits, or waits for the script.
func (h *host) signal(pipe string, write bool) {
	h.t.Helper()
	flags := os.O_RDONLY
	if write {
		flags = os.O_WRONLY
	}
	f, err := os.OpenFile(filepath.Join(h.dir, pipe), flags, 0)
	must(h.t, err)
	defer f.Close()
	if write {
		_, err = f.Write([]byte("\n"))
	} else {
		_, err = f.Read(make([]byte, 1))
	}
	must(h.t, err)
}
