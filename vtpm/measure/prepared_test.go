package measure_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// guestFiles writes a guest, and returns the path of each of its files.
func guestFiles(t *testing.T) (dir, cfg string) {
	t.Helper()
	dir = t.TempDir()
	cfg = fmt.Sprintf("# mine\nname='a'\nkernel='%s/vmlinuz'\nextra='quiet'\nramdisk = \"%s/initrd\"\nmemory=96\n", dir, dir)
	for name, content := range map[string]string{"guest.cfg": cfg, "vmlinuz": "good kernel", "initrd": "good initrd"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, cfg
}

// toolstack does what xl does: another program opens the configuration, and what it names. It
// builds the guest twice, as for a restart.
const toolstack = `
test $# = 2 && test "$1" = create && shift
kernel=$(sed -n "s/^kernel=\"\(.*\)\"/\1/p" "$1")
ramdisk=$(sed -n "s/^ramdisk = \"\(.*\)\"/\1/p" "$1")
cat "$kernel" > /dev/null
cat "$kernel"; echo; cat "$ramdisk"; echo; grep -v -e kernel -e ramdisk "$1"`

// All files are swapped between the measurement and the start. The toolstack starts what
// was measured, and starts it again.
func TestTheBytesMeasuredAreTheBytesStarted(t *testing.T) {
	dir, cfg := guestFiles(t)
	p, err := measure.Prepare(filepath.Join(dir, "guest.cfg"), allAlgs, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, name := range []string{"guest.cfg", "vmlinuz", "initrd"} {
		evil := filepath.Join(dir, "evil")
		if err := os.WriteFile(evil, []byte("kernel=\"/evil\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(evil, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	want := "good kernel\ngood initrd\n# mine\nname='a'\nextra='quiet'\nmemory=96\n"
	for range 2 {
		xl := exec.Command("sh", "-e", "-c", toolstack, "xl", "create")
		path, err := p.Hand(xl)
		if err != nil {
			t.Fatal(err)
		}
		xl.Args = append(xl.Args, path)
		out, err := xl.Output()
		if err != nil || string(out) != want {
			t.Errorf("%q, %v; want %q", out, err, want)
		}
		if _, err := p.Hand(xl); err == nil {
			t.Error("a command that inherits files already was given more")
		}
	}
	digests := func(s string) []tpm.TaggedDigest { return tpm.SumAll(allAlgs, []byte(s)) }
	l := p.Launch()
	if diff := cmp.Diff([][]tpm.TaggedDigest{digests(cfg), digests("good kernel"), digests("good initrd")},
		[][]tpm.TaggedDigest{l.Configuration.Digests, l.Kernel.Digests, l.Initrd.Digests}); diff != "" {
		t.Errorf("(-started +measured)\n%s", diff)
	}
	l.Guest, l.Host = vtpm.Guest{UUID: vtpm.NewUUID()}, measure.Host{Grade: measure.Insecure}
	if _, err := l.Predict(allAlgs); err != nil || l.CommandLine != "quiet" {
		t.Errorf("%q, %v", l.CommandLine, err)
	}
}

// The configuration has another number where there is no initramfs.
func TestAGuestWithoutInitrdIsPrepared(t *testing.T) {
	dir, _ := guestFiles(t)
	path := filepath.Join(dir, "guest.cfg")
	if err := os.WriteFile(path, []byte("name='a'\nkernel='"+dir+"/vmlinuz'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := measure.Prepare(path, allAlgs, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	cat := exec.Command("cat")
	handed, err := p.Hand(cat)
	if err != nil {
		t.Fatal(err)
	}
	cat.Args = append(cat.Args, handed, "/proc/self/fd/3")
	out, err := cat.Output()
	if want := "name='a'\nkernel=\"/proc/self/fd/3\"\ngood kernel"; err != nil || string(out) != want {
		t.Errorf("%q, %v; want %q", out, err, want)
	}
	if l := p.Launch(); l.Initrd != nil {
		t.Errorf("an initramfs was measured: %+v", l.Initrd)
	}
}

// A guest of which one part is missing is not started with the others, and nothing stays
// in memory of it.
func TestAGuestWithoutOneOfItsFilesIsRefused(t *testing.T) {
	for _, name := range []string{"guest.cfg", "vmlinuz", "initrd"} {
		dir, _ := guestFiles(t)
		before := inMemory(t)
		gone := filepath.Join(dir, name)
		if err := os.Remove(gone); err != nil {
			t.Fatal(err)
		}
		p, err := measure.Prepare(filepath.Join(dir, "guest.cfg"), allAlgs, nil)
		if err == nil || p != nil || !strings.Contains(err.Error(), gone) {
			t.Errorf("without %s: %v", name, err)
		}
		if after := inMemory(t); after != before {
			t.Errorf("without %s: %d files in memory are open; before there were %d", name, after, before)
		}
	}
	dir, _ := guestFiles(t)
	path := filepath.Join(dir, "guest.cfg")
	if err := os.WriteFile(path, []byte("name='a'\nbootloader='pygrub'\nkernel='/k'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := measure.Prepare(path, allAlgs, nil); err == nil || !strings.Contains(err.Error(), path+": line 2: ") {
		t.Errorf("%v", err)
	}
}
