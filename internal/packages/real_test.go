package packages_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/packages"
	"github.com/antievilmaid/aem/internal/testbed"
)

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// What this machine's records say must be what dpkg says about them.
func TestThisMachine(t *testing.T) {
	testbed.Need(t, "dpkg", "dpkg-query")
	d, err := packages.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	for file, pkg := range map[string]string{"/bin/ls": "coreutils", "/usr/bin/ls": "coreutils", "/bin/sh": "dash", "/usr/bin/dpkg": "dpkg"} {
		e, err := d.Explain(file, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		version := run(t, "dpkg-query", "-W", "-f", "${Version}", pkg)
		if !e.Verified || e.Package != pkg || e.Version != version {
			t.Errorf("%s: %+v", file, e)
		}
		if e.When.IsZero() || e.When.After(time.Now()) {
			t.Errorf("%s was changed on %v", file, e.When)
		}
	}
	if e, err := d.Explain("/proc/self/../1/../../etc/hostname", time.Time{}); err != nil || e.Verified || e.Package != "" {
		t.Errorf("/etc/hostname: %+v (%v)", e, err)
	}
}

// dpkg --verify is another program that reads the same records.
func TestThisMachineAgainstVerify(t *testing.T) {
	testbed.Need(t, "dpkg", "dpkg-query")
	d, err := packages.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, pkg := range []string{"coreutils", "dash", "libc6", "base-files", "login"} {
		wrong := map[string]bool{}
		out, _ := exec.Command("dpkg", "--verify", pkg).Output() // its status says that there is something
		for line := range strings.Lines(string(out)) {
			wrong[strings.TrimSpace(line[strings.Index(line, "/"):])] = true
		}
		for file := range strings.Lines(run(t, "dpkg-query", "-L", pkg)) {
			file = strings.TrimSpace(file)
			info, err := os.Lstat(file)
			if !strings.HasPrefix(file, "/") || err != nil || !info.Mode().IsRegular() {
				continue
			}
			e, err := d.Explain(file, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if e.Verified == wrong[file] || e.Package != pkg {
				t.Errorf("%s: dpkg --verify says wrong: %v, we say: %s", file, wrong[file], e.Why)
			}
			compared++
		}
	}
	if compared < 100 {
		t.Errorf("only %d files were compared", compared)
	}
}

// system is a root folder that dpkg itself manages.
type system struct{ root }

func newSystem(t *testing.T) system {
	testbed.Need(t, "dpkg", "dpkg-deb", "dpkg-divert")
	s := system{root{t, t.TempDir()}}
	for _, dir := range []string{"info", "updates", "triggers", "parts", "alternatives"} {
		if err := os.MkdirAll(s.path("var/lib/dpkg/"+dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"var/lib/dpkg/status", "var/lib/dpkg/available", "var/log/dpkg.log"} {
		s.write(file, "")
	}
	s.write("usr/lib/.keep", "")
	s.link("lib", "usr/lib")
	return s
}

// dpkg builds a package and installs it.
func (s system) dpkg(name, version, control string, files map[string]string) {
	s.t.Helper()
	src := root{s.t, s.t.TempDir()}
	src.write("DEBIAN/control", fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n", name, version))
	if control != "" {
		src.write("DEBIAN/triggers", control+"\n")
	}
	sums := ""
	for file, content := range files {
		src.write(file, content)
		sums += sum(content) + "  " + file + "\n"
	}
	src.write("DEBIAN/md5sums", sums)
	deb := filepath.Join(s.t.TempDir(), "x.deb")
	run(s.t, "dpkg-deb", "--root-owner-group", "-b", src.dir, deb)
	run(s.t, "dpkg", s.options("-i", deb)...)
}

func (s system) options(args ...string) []string {
	return append([]string{"--root=" + s.dir, "--log=" + s.path("var/log/dpkg.log"), "--force-not-root", "--force-bad-path"}, args...)
}

// lastLog is the time of the last line of the log.
func (s system) lastLog() time.Time {
	s.t.Helper()
	b, err := os.ReadFile(s.path("var/log/dpkg.log"))
	if err != nil {
		s.t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return at(lines[len(lines)-1][:len(time.DateTime)])
}

// dpkg itself writes what is read here: a kernel that is upgraded, an initrd for it, a
// diversion, a package that is removed.
func TestRecordsThatDpkgWrites(t *testing.T) {
	s := newSystem(t)
	s.dpkg("initramfs-tools", "1", "interest-await update-initramfs", nil)
	s.dpkg("linux-image", "1", "", map[string]string{"boot/vmlinuz-1": "KERNEL 1", "lib/modules/1/x.ko": "MODULE"})
	s.dpkg("linux-image", "2", "", map[string]string{"boot/vmlinuz-1": "KERNEL 2", "lib/modules/1/x.ko": "MODULE"})
	s.dpkg("other", "1", "", map[string]string{"usr/share/x": "X"})

	e := s.explain("/boot/vmlinuz-1", time.Time{})
	want := packages.Explanation{Package: "linux-image", Version: "2", When: e.When, Verified: true, Why: e.Why}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("kernel: -want +got\n%s", diff)
	}
	if !strings.Contains(e.Why, "which replaced 1 on") || e.When.IsZero() {
		t.Errorf("kernel: %s", e.Why)
	}
	s.verified("/usr/lib/modules/1/x.ko", true, "linux-image", "")

	s.dpkg("cryptsetup", "1", "activate-noawait update-initramfs", map[string]string{"usr/share/y": "Y"})
	s.write("boot/initrd.img-1", "INITRD")
	s.age("boot/initrd.img-1", s.lastLog())
	e = s.explain("/boot/initrd.img-1", time.Time{})
	if !e.Generated || e.Package != "initramfs-tools" || !strings.Contains(e.Why, "cryptsetup 1 was installed: it asks for a new initrd") {
		t.Errorf("initrd: %+v", e)
	}

	run(t, "dpkg-divert", "--root="+s.dir, "--admindir="+s.path("var/lib/dpkg"), "--local", "--rename", "--divert", "/usr/share/x.packaged", "--add", "/usr/share/x")
	s.write("usr/share/x", "X")
	s.verified("/usr/share/x.packaged", true, "other", "")
	s.verified("/usr/share/x", false, "", "no package")

	run(t, "dpkg", s.options("-P", "cryptsetup")...)
	changes, err := s.open().Changes(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	last := changes[len(changes)-1]
	if diff := cmp.Diff(packages.Change{Package: "cryptsetup", From: "1", When: last.When}, last); diff != "" {
		t.Errorf("last change: -want +got\n%s", diff)
	}
}
