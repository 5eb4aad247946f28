package xl_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/fdstore"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/measure"
	"github.com/antievilmaid/aem/vtpm/xl"
)

func file() *measure.File {
	return &measure.File{Name: "a file", Size: 1, Digests: tpm.SumAll(manager.Banks(tpm.V20), []byte("x"))}
}

// loader are the lines of a configuration by which libxl asks us.
var loader = []string{`bootloader="/usr/lib/vtpmd/vtpm-bootloader"`, `bootloader_args=["/etc/xen/web.cfg"]`}

func (h *host) wanted() xl.Loading {
	return xl.Loading{Configuration: h.cfg, Kernel: h.dir + "/kernel", Ramdisk: h.dir + "/initrd", CommandLine: "quiet"}
}

// builder is a process with a child, as libxl is when its boot loader runs.
func builder(t *testing.T) (child int, end func()) {
	t.Helper()
	c := exec.Command("sh", "-c", "sleep 1000 & echo $!; read x; kill $!")
	in, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	b := make([]byte, 32)
	n, err := out.Read(b)
	must(t, err)
	for _, digit := range strings.TrimSpace(string(b[:n])) {
		child = child*10 + int(digit-'0')
	}
	done := false
	end = func() {
		if !done {
			done = true
			in.Close()
			c.Wait()
		}
	}
	t.Cleanup(end)
	return child, end
}

// libxl maps the files that it is told of, and asks for nothing more; the guest that it builds counts as measured.
func TestBoot(t *testing.T) {
	h := newHost(t, "", loader...)
	child, _ := builder(t)
	got, err := h.Boot(child, h.wanted())
	must(t, err)
	h.write("kernel", "another kernel")
	for path, want := range map[string]string{got.Kernel: "the kernel", got.Ramdisk: "the initrd"} {
		f, err := os.Open(path) // as libxl does: for reading
		must(t, err)
		m, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
		must(t, err)
		if string(m) != want {
			t.Errorf("%s has %q", path, m)
		}
		must(t, unix.Munmap(m))
		f.Close()
		if err := os.Remove(path); err == nil {
			t.Error("libxl could remove the file")
		}
	}
	s, err := h.guest("1")
	must(t, err)
	if h.start() != measure.Measured {
		t.Errorf("the guest counts as %s", h.start())
	}
	must(t, s.End())
	h.unprepared()
	if _, err := h.guest("2"); err == nil {
		t.Error("the next guest counts as measured, too")
	}
}

// A vtpmd that dies takes a measurement with it that no guest came for yet, and no more: libxl asks the next one at the
// guest's next start, and gets what that measures.
func TestBootHasNothingToKeep(t *testing.T) {
	h := newHost(t, "", loader...)
	k, err := fdstore.NewKeeper()
	must(t, err)
	defer k.Close()
	h.Manager.Held = k.Store()
	child, _ := builder(t)
	_, err = h.Boot(child, h.wanted())
	must(t, err)
	if got := k.Names(); len(got) != 0 {
		t.Errorf("these are held: %q", got)
	}
	config := h.Manager.Config
	config.FirstUser += 100
	next := manager.New(config)
	defer next.Close()
	h.Starter = &xl.Starter{Manager: next, Program: h.Program, Log: h.Log}
	if _, err := h.guest("1"); !errors.Is(err, manager.ErrUnmeasured) {
		t.Errorf("a guest that came too late: %v", err)
	}
	h.write("kernel", "another kernel")
	got, err := h.Boot(child, h.wanted())
	must(t, err)
	if b, err := os.ReadFile(got.Kernel); err != nil || string(b) != "another kernel" {
		t.Errorf("%q, %v", b, err)
	}
	_, err = h.guest("2")
	must(t, err)
	if h.start() != measure.Measured {
		t.Errorf("the guest counts as %s", h.start())
	}
}

// With libxl gone, nobody gets what it was told of.
func TestBootWhoseBuilderEnds(t *testing.T) {
	h := newHost(t, "", loader...)
	child, end := builder(t)
	_, err := h.Boot(child, h.wanted())
	must(t, err)
	end()
	h.unprepared()
}

// What libxl would start, or would understand, otherwise than it was measured is refused.
func TestBootRefuses(t *testing.T) {
	for _, c := range []struct {
		name, words string
		lines       []string
		change      func(*xl.Loading)
	}{
		{"another kernel", "kernel", nil, func(l *xl.Loading) { l.Kernel = "/boot/other" }},
		{"no initrd", "ramdisk", nil, func(l *xl.Loading) { l.Ramdisk = "" }},
		{"another command line", "command line", nil, func(l *xl.Loading) { l.CommandLine += " init=/bin/sh" }},
		{"another boot loader", "bootloader", []string{`bootloader="pygrub"`}, func(*xl.Loading) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := c.lines
			if lines == nil {
				lines = loader
			}
			h := newHost(t, "", lines...)
			child, _ := builder(t)
			want := h.wanted()
			c.change(&want)
			if got, err := h.Boot(child, want); err == nil || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%+v, %v", got, err)
			}
			h.unprepared()
		})
	}
	for line, words := range map[string]string{" quiet": "begins with a space", strings.Repeat("x", 8187): "libxl takes"} {
		h := newHost(t, "", loader...)
		h.write("guest.cfg", strings.Replace(h.read("guest.cfg"), `cmdline="quiet"`, `cmdline="`+line+`"`, 1))
		child, _ := builder(t)
		want := h.wanted()
		want.CommandLine = line
		if _, err := h.Boot(child, want); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%.20q: %v", line, err)
		}
		h.unprepared()
	}
}

// libxl_bootloader.c reads items that end in a zero byte: a word, white space, the rest.
func TestSimple0(t *testing.T) {
	for want, l := range map[string]xl.Loading{
		"kernel /proc/1/fd/7\x00ramdisk /proc/1/fd/8\x00args root=/dev/xvda quiet\x00": {Kernel: "/proc/1/fd/7", Ramdisk: "/proc/1/fd/8", CommandLine: "root=/dev/xvda quiet"},
		"kernel /k\x00args \x00": {Kernel: "/k"},
	} {
		if got := string(l.Simple0()); got != want {
			t.Errorf("%q; want %q", got, want)
		}
	}
}
