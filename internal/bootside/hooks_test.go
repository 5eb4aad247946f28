package bootside_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/bootside"
	"github.com/antievilmaid/aem/internal/testbed"
)

// system is a folder in which the hooks for some programs were installed, with a
// stand-in for aem-setup that writes down how it was called.
type system struct {
	t    *testing.T
	root string
	exit string // of the stand-in
}

// newSystem has the folders by which its programs are known.
func newSystem(t *testing.T, folders ...string) *system {
	t.Helper()
	s := &system{t, having(t, initramfsTools), "0"}
	for _, f := range folders {
		if err := os.MkdirAll(filepath.Join(s.root, f), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := bootside.Install(s.root, bootside.Config{Media: []string{"UUID=1"}}); err != nil {
		t.Fatal(err)
	}
	s.write("bin/aem-setup", "#!/bin/sh\necho \"$@\" >>"+s.path("calls")+"\necho said by aem-setup >&2\nexit $STUB_EXIT\n")
	return s
}

func (s *system) path(name string) string { return filepath.Join(s.root, name) }

func (s *system) write(name, content string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(s.path(name)), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.path(name), []byte(content), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// run runs a program as the package manager would, with the stand-in on the PATH, and
// demands that it ends well.
func (s *system) run(env []string, program string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), append([]string{"PATH=" + s.path("bin") + ":/usr/sbin:/usr/bin:/sbin:/bin", "STUB_EXIT=" + s.exit}, env...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Errorf("%s %v: %v\n%s", program, args, err, out)
	}
	return string(out)
}

// calls are how the stand-in was called since the last time.
func (s *system) calls() []string {
	s.t.Helper()
	b, err := os.ReadFile(s.path("calls"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	os.Remove(s.path("calls"))
	return strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' })
}

func (s *system) wantCalls(want ...string) {
	s.t.Helper()
	if got := s.calls(); !slices.Equal(got, want) {
		s.t.Errorf("aem-setup was called with %q; want %q", got, want)
	}
}

const fedora, apt, dpkg = "usr/lib/sysimage/rpm", "etc/apt/apt.conf.d", "etc/dpkg/dpkg.cfg.d"

const auto = "approve --auto"

// Whatever comes of it, what was said is shown, and a package manager goes on.
func TestTheHookNeverFails(t *testing.T) {
	for _, hook := range []string{"etc/aem/after-packages", "etc/kernel/install.d/99-zz-aem.install"} {
		s := newSystem(t, fedora, apt)
		if out, err := exec.Command("sh", "-n", s.path(hook)).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		for exit, word := range map[string]string{"0": "", "4": "", "1": "exit code 1", "3": "exit code 3", "9": "exit code 9"} {
			s.exit = exit
			out := s.run(nil, s.path(hook), "add", "6.1.0", "/boot/x")
			s.wantCalls(auto)
			if !strings.Contains(out, "said by aem-setup") || !strings.Contains(out, word) || word == "" && strings.Contains(out, "exit code") {
				t.Errorf("exit code %s: %q", exit, out)
			}
		}
		// Without the program, as after its package was removed.
		if err := os.Remove(s.path("bin/aem-setup")); err != nil {
			t.Fatal(err)
		}
		if out := s.run(nil, s.path(hook)); out != "" {
			t.Errorf("without aem-setup it says %q", out)
		}
	}
}

// The store of guests' TPMs follows an approval, and nothing else. Where it can't, that is said.
func TestTheHookHasGuestsTPMsFollow(t *testing.T) {
	s := newSystem(t, apt)
	s.write("bin/vtpmctl", "#!/bin/sh\necho vtpmctl \"$@\" >>"+s.path("calls")+"\necho said by vtpmctl >&2\nexit $VTPM_EXIT\n")
	follow := "vtpmctl approve"
	for _, c := range []struct {
		approved, followed string // exit codes
		calls              []string
		says               bool
	}{
		{"0", "0", []string{auto, follow}, false},
		{"0", "3", []string{auto, follow}, false}, // vtpmd does not run
		{"0", "1", []string{auto, follow}, true},
		{"4", "0", []string{auto}, false},
		{"1", "0", []string{auto}, false},
	} {
		s.exit = c.approved
		out := s.run([]string{"VTPM_EXIT=" + c.followed}, s.path("etc/aem/after-packages"))
		s.wantCalls(c.calls...)
		if strings.Contains(out, "said by vtpmctl\naem: before you restart, run vtpmctl approve") != c.says || !c.says && strings.Contains(out, "vtpmctl") {
			t.Errorf("approved with %s, followed with %s: %q", c.approved, c.followed, out)
		}
	}
}

// A hand-run update-initramfs reminds and approves nothing; in a package's script it
// is silent, since the package manager's hook follows.
func TestAnInitramfsMadeByHandIsNotApproved(t *testing.T) {
	s := newSystem(t)
	hook := s.path("etc/initramfs/post-update.d/aem")
	if out, err := exec.Command("sh", "-n", hook).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	args := []string{"6.1.0-57-amd64", "/boot/initrd.img-6.1.0-57-amd64"}
	// As update-initramfs 0.142 runs it.
	runParts := append([]string{"--arg=" + args[0], "--arg=" + args[1]}, filepath.Dir(hook))
	if out := s.run(nil, "run-parts", runParts...); !strings.Contains(out, args[1]+" is new. Before you restart") {
		t.Errorf("by hand it says %q", out)
	}
	if out := s.run([]string{"DPKG_MAINTSCRIPT_PACKAGE=initramfs-tools"}, "run-parts", runParts...); out != "" {
		t.Errorf("in a package's script it says %q", out)
	}
	s.wantCalls()
}

// deb makes a package.
func (s *system) deb() string {
	s.t.Helper()
	s.write("deb/DEBIAN/control", "Package: aem-test\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: a test\n")
	s.run(nil, "dpkg-deb", "--root-owner-group", "-b", s.path("deb"), s.path("aem-test.deb"))
	return s.path("aem-test.deb")
}

// moved is a configuration in which the hook has its path in the test's folder.
func (s *system) moved(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.Contains(string(b), " /etc/aem/after-packages") {
		s.t.Errorf("%s does not name the hook: %s", name, b)
	}
	// apt gives dpkg a PATH of its own, on which the stand-in is not.
	s.write("hook", "#!/bin/sh\nPATH="+s.path("bin")+":$PATH STUB_EXIT=0 exec "+s.path("etc/aem/after-packages")+"\n")
	return strings.ReplaceAll(string(b), "/etc/aem/after-packages", s.path("hook"))
}

// The real apt and dpkg read the files and call the hook: once, at the end, whether
// dpkg is run by hand or by apt, which runs it several times.
func TestAptAndDpkgCallTheHookOnce(t *testing.T) {
	testbed.Need(t, "apt-get", "dpkg", "dpkg-deb")
	s := newSystem(t, apt, dpkg)
	deb := s.deb()
	for _, name := range []string{"var/lib/dpkg/status", "var/lib/dpkg/available", "var/lib/dpkg/info/.keep", "var/lib/dpkg/updates/.keep", "var/lib/dpkg/triggers/.keep",
		"lists/partial/.keep", "cache/archives/partial/.keep", "log/.keep"} {
		s.write(name, "")
	}
	os.Remove(s.path("var/lib/dpkg/updates/.keep"))
	// dpkg reads the folder of its system and then this; apt is told of a folder.
	s.write("home/.dpkg.cfg", s.moved("etc/dpkg/dpkg.cfg.d/aem"))
	s.write("parts/95aem", s.moved("etc/apt/apt.conf.d/95aem"))
	s.write("apt.conf", `Dir::Etc::parts "`+s.path("parts")+`"; Dir::Etc::main "/dev/null"; Dir::Etc::sourcelist "/dev/null"; Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "`+s.path("lists")+`"; Dir::State::extended_states "`+s.path("extended")+`"; Dir::State::status "`+s.path("var/lib/dpkg/status")+`";
Dir::Cache "`+s.path("cache")+`"; Dir::Log "`+s.path("log")+`";
DPkg::Options { "--root=`+s.root+`"; "--force-all"; };
`)
	env := []string{"HOME=" + s.path("home"), "APT_CONFIG=" + s.path("apt.conf"), "DEBIAN_FRONTEND=noninteractive"}
	s.run(env, "dpkg", "--root="+s.root, "--force-all", "-i", deb)
	s.wantCalls(auto)
	s.run(env, "apt-get", "-y", "-o", "Debug::NoLocking=1", "--reinstall", "install", deb)
	s.wantCalls(auto)
}

// Nothing is left in folders that were not there.
func TestHooksAreRemoved(t *testing.T) {
	s := newSystem(t, fedora, apt, dpkg)
	for _, name := range []string{"etc/aem/after-packages", "etc/apt/apt.conf.d/95aem", "etc/dpkg/dpkg.cfg.d/aem", "etc/initramfs/post-update.d/aem", "etc/kernel/install.d/99-zz-aem.install"} {
		if _, err := os.Stat(s.path(name)); err != nil {
			t.Error(err)
		}
	}
	if err := bootside.Remove(s.root); err != nil {
		t.Fatal(err)
	}
	if left := files(t, s.root); !slices.Equal(left, []string{"/bin/aem-setup", "/" + initramfsTools}) {
		t.Errorf("left are %v", left)
	}
	for _, name := range []string{"etc/aem", "etc/initramfs"} {
		if _, err := os.Stat(s.path(name)); err == nil {
			t.Errorf("the folder %s is left", name)
		}
	}
}
