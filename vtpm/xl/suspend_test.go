package xl_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
)

// saves is what xl does when a guest, whose number is 1 and then 2, is suspended and resumed. To build a guest takes
// until the test has had its device ask.
const saves = `
echo "$@" >>calls
case "$1" in
domname) echo web ;;
domid) cat domid ;;
save) echo "a header, " >$4; cat memory >$4; test ! -e fail-save ;;
restore) cat $3 >built; echo >begun; read x <go; test ! -e fail-restore ;;
*) test ! -e fail-$1 ;;
esac
`

// suspending is a host with a guest that was measured and runs as domain 1.
func suspending(t *testing.T) (*host, vtpm.Session) {
	t.Helper()
	h := newHost(t, saves)
	h.write("memory", strings.Repeat("the guest's memory, ", 50000))
	h.write("domid", "1\n")
	p, err := h.Manager.Prepare(h.uuid, manager.Material{Kernel: file(), Configuration: file()})
	must(t, err)
	s, err := h.guest("1")
	must(t, err)
	p.Cancel()
	must(t, tpm2.New(channel{t, s}).Extend(8, tpm.SumAll([]tpm.Alg{tpm.SHA256}, []byte("x"))))
	return h, s
}

type channel struct {
	t *testing.T
	vtpm.Session
}

func (c channel) Send(command []byte) ([]byte, error) {
	return c.Execute(c.t.Context(), 0, command)
}

func (h *host) pcrs(s vtpm.Session) string {
	h.t.Helper()
	banks, err := tpm2.New(channel{h.t.(*testing.T), s}).ReadPCRs(tpm.PCRSet(4, 8, 17, 18))
	must(h.t, err)
	return fmt.Sprint(banks)
}

func (h *host) image() string { return filepath.Join(h.dir, "image") }

// calls are xl's since the last time.
func (h *host) calls() string {
	h.t.Helper()
	all := h.read("calls")
	must(h.t, os.Remove(filepath.Join(h.dir, "calls")))
	return all
}

// resume resumes the guest, which asks for its vTPM as the domain 2.
func (h *host) resume() (s vtpm.Session, err error) {
	h.t.Helper()
	done := make(chan error, 1)
	go func() { done <- h.Resume(h.uuid, h.image(), func(string) {}) }()
	h.signal("begun", false)
	s, err = h.guest("2")
	must(h.t, err)
	h.signal("go", true)
	return s, <-done
}

// A guest goes through a file and goes on with its PCRs. It is held until both are sure of it.
func TestSuspendAndResume(t *testing.T) {
	h, s := suspending(t)
	want := h.pcrs(s)
	must(t, h.Suspend("web", h.image(), func(string) {}))
	must(t, s.End())
	if diff := cmp.Diff("domid web\ndomname 1\nsave -p 1 /proc/self/fd/3\ndestroy 1\n", h.calls()); diff != "" {
		t.Error(diff)
	}
	if got := h.read("image"); got != "a header, \n"+h.read("memory") {
		t.Errorf("the image has %d bytes", len(got))
	}
	if i, err := os.Stat(h.image()); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("everybody may read the guest's memory: %v, %v", i, err)
	}
	h.write("domid", "2\n")
	s, err := h.resume()
	must(t, err)
	if diff := cmp.Diff("restore -p /proc/self/fd/3\ndomid web\nunpause 2\n", h.calls()); diff != "" {
		t.Error(diff)
	}
	if h.read("built") != h.read("image") {
		t.Error("xl was given another image")
	}
	if diff := cmp.Diff(want, h.pcrs(s)); diff != "" {
		t.Errorf("its PCRs are other ones:\n%s", diff)
	}
}

// Where a guest can't be suspended it goes on, and no image is left.
func TestSuspendThatFails(t *testing.T) {
	for _, c := range []struct {
		name, words, calls string
		prepare            func(*host)
	}{
		{"xl fails", "xl save: exit status 1", "", func(h *host) { h.write("fail-save", "") }},
		{"its state can't be stored", "store is closed", "unpause 1\n", func(h *host) { must(h.t, h.Manager.Store.Close()) }},
		{"there is a file already", "file exists", "", func(h *host) { h.write("image", "another guest") }},
		{"no guest has this vTPM", "has 0 vTPMs", "", func(h *host) { h.write("domid", "7") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, s := suspending(t)
			c.prepare(h)
			err := h.Suspend("web", h.image(), func(string) {})
			if err == nil || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v; want %q", err, c.words)
			}
			if calls := h.calls(); strings.Contains(calls, "destroy") || !strings.HasSuffix(calls, c.calls) {
				t.Errorf("xl was called with %q", calls)
			}
			if _, err := os.Stat(h.image()); err == nil && c.words != "file exists" {
				t.Error("an image is left")
			}
			h.pcrs(s)
		})
	}
	h := newHost(t, "exit 1")
	for _, bad := range []string{"", "-f", h.uuid.String()} {
		if err := h.Suspend(bad, h.image(), func(string) {}); err == nil || strings.Contains(err.Error(), "exit status") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A guest that is not the one that was suspended never runs; and the one that was can be resumed afterwards.
func TestResumeThatFails(t *testing.T) {
	h, s := suspending(t)
	want := h.pcrs(s)
	must(t, h.Suspend(h.uuid.String(), h.image(), func(string) {}))
	must(t, s.End())
	h.calls()
	h.write("domid", "2\n")
	change := func() {
		b := []byte(h.read("image"))
		b[len(b)/2] ^= 1
		h.write("image", string(b))
	}

	change()
	if err := h.Resume(h.uuid, h.image(), func(string) {}); !errors.Is(err, manager.ErrOtherImage) {
		t.Errorf("an image with one bit changed: %v", err)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "calls")); err == nil {
		t.Errorf("xl was called for it: %q", h.calls())
	}
	change()

	refused := func(name, words, calls string) {
		t.Helper()
		s, err := h.resume()
		if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %q", name, err, words)
		}
		if _, err := s.Execute(t.Context(), 0, nil); !errors.Is(err, manager.ErrGone) {
			t.Errorf("%s: it has a vTPM: %v", name, err)
		}
		must(t, s.End())
		if got := h.calls(); !strings.HasSuffix(got, calls) || strings.Contains(got, "unpause") {
			t.Errorf("%s: xl was called with %q", name, got)
		}
	}
	h.write("domid", "3\n")
	refused("a guest that only asked in the right moment", "another guest", "domid web\ndestroy 3\n")
	h.write("domid", "2\n")
	h.write("fail-restore", "")
	refused("xl fails", "xl restore: exit status 1", "destroy 2\n")
	must(t, os.Remove(filepath.Join(h.dir, "fail-restore")))

	// The image is changed when it was looked at already, and before xl has read it.
	image, xl := h.read("image"), h.read("xl")
	h.write("xl", strings.Replace(xl, "restore) ", "restore) echo changed | dd of=image bs=1 seek=900000 conv=notrunc 2>/dev/null; ", 1))
	refused("an image that changes under xl", manager.ErrOtherImage.Error(), "destroy 2\n")
	h.write("image", image)
	h.write("xl", xl)

	s, err := h.resume()
	must(t, err)
	if diff := cmp.Diff(want, h.pcrs(s)); diff != "" {
		t.Errorf("after all that its PCRs are other ones:\n%s", diff)
	}
	if err := h.Resume(h.uuid, h.image(), func(string) {}); !errors.Is(err, manager.ErrRunning) {
		t.Errorf("a second time: %v", err)
	}
}
