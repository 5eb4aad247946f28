package packages_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/packages"
)

const (
	release = "6.1.0-56-amd64"
	vmlinuz = "boot/vmlinuz-" + release
	kernel  = "linux-image-" + release
)

// kernels installs a kernel with the logs of its first installation, an upgrade and
// another one.
func kernels(t testing.TB) root {
	r := newRoot(t)
	r.write(vmlinuz, "KERNEL 3")
	r.install(deb{name: kernel, arch: "amd64", version: "6.1.192-3", files: map[string]string{vmlinuz: "KERNEL 3", "boot/config-" + release: "CONFIG"}})
	r.write("var/log/dpkg.log", strings.ReplaceAll(`2026-03-01 09:14:00 startup archives unpack
2026-03-01 09:14:01 upgrade KERNEL:amd64 6.1.192-2 6.1.192-3
2026-03-01 09:14:01 status half-configured KERNEL:amd64 6.1.192-2
2026-03-01 09:14:02 status unpacked KERNEL:amd64 6.1.192-3
2026-03-01 09:14:02 startup packages configure
2026-03-01 09:14:03 configure KERNEL:amd64 6.1.192-3 <none>
2026-03-01 09:14:09 status installed KERNEL:amd64 6.1.192-3
`, "KERNEL", kernel))
	r.write("var/log/dpkg.log.1", strings.ReplaceAll(`2026-02-01 08:00:00 startup archives unpack
2026-02-01 08:00:01 upgrade KERNEL:amd64 6.1.192-1 6.1.192-2
`, "KERNEL", kernel))
	r.write("var/log/dpkg.log.2.gz", gz(t, "2026-01-01 07:00:01 install "+kernel+":amd64 <none> 6.1.192-1\n"))
	r.write("var/log/apt/history.log", "\nStart-Date: 2026-03-01  09:13:58\nCommandline: apt-get upgrade\nUpgrade: "+kernel+":amd64 (6.1.192-2, 6.1.192-3), bash:amd64 (5.1, 5.2)\nEnd-Date: 2026-03-01  09:14:10\n")
	return r
}

func TestKernelOfAPackage(t *testing.T) {
	r := kernels(t)
	const end = ` by "apt-get upgrade"`
	for _, c := range []struct {
		since    string
		previous string
		why      string
	}{
		{"2026-02-20 00:00:00", "6.1.192-2", end},
		{"2026-01-20 00:00:00", "6.1.192-1", end},
		{"2025-12-20 00:00:00", "", end},
		{"2026-03-02 00:00:00", "6.1.192-2", end + ", and was not changed since 2026-03-02 00:00:00 +0000"},
	} {
		want := packages.Explanation{
			Package: kernel, Version: "6.1.192-3", PreviousVersion: c.previous, When: at("2026-03-01 09:14:01"), Verified: true,
			Why: "/" + vmlinuz + " is as its package has it; it belongs to " + kernel + " 6.1.192-3, which replaced 6.1.192-2 on 2026-03-01 09:14:01 +0000" + c.why,
		}
		if diff := cmp.Diff(want, r.explain("/"+vmlinuz, at(c.since))); diff != "" {
			t.Errorf("since %s: -want +got\n%s", c.since, diff)
		}
	}
}

func TestChangedFile(t *testing.T) {
	r := kernels(t)
	r.write(vmlinuz, "EVIL")
	r.verified(vmlinuz, false, kernel, "was changed: its MD5 sum is "+sum("EVIL")+", and "+sum("KERNEL 3")+" was recorded")
}

func TestMissingFile(t *testing.T) {
	r := kernels(t)
	r.verified("/boot/config-"+release, false, kernel, "is not there")
}

func TestFileOfNobody(t *testing.T) {
	r := kernels(t)
	r.write("boot/vmlinuz-evil", "EVIL")
	r.verified("/boot/vmlinuz-evil", false, "", "no package has /boot/vmlinuz-evil")
}

// What is compared is what the caller will measure, not what the disk has later.
func TestContentFromElsewhere(t *testing.T) {
	r := kernels(t)
	for content, want := range map[string]bool{"KERNEL 3": true, "EVIL": false, "": false} {
		e, err := r.open().ExplainContent("/"+vmlinuz, strings.NewReader(content), time.Time{})
		if err != nil || e.Verified != want {
			t.Errorf("%q: %v %v", content, e, err)
		}
	}
}

func TestNoChecksumWasRecorded(t *testing.T) {
	r := newRoot(t)
	r.write("usr/bin/x", "X")
	r.install(deb{name: "local", arch: "all", version: "1", files: map[string]string{"usr/bin/x": "X"}, noSums: true})
	r.verified("/usr/bin/x", false, "local", "nobody recorded")
}

// Between two versions the disk has files of both.
func TestPackageThatIsNotWhole(t *testing.T) {
	for state, want := range map[string]bool{
		"installed": true, "triggers-pending": true, "triggers-awaited": true,
		"unpacked": false, "half-configured": false, "half-installed": false, "config-files": false,
	} {
		r := newRoot(t)
		r.write("usr/bin/x", "X")
		r.install(deb{name: "x", arch: "all", version: "1", state: state, files: map[string]string{"usr/bin/x": "X"}})
		word := state
		if want {
			word = "is as its package has it"
		}
		r.verified("/usr/bin/x", want, "x", word)
	}
}

func TestConfigurationFile(t *testing.T) {
	r := newRoot(t)
	r.write("etc/with space", "AS SHIPPED")
	r.write("etc/changed", "BY THE OWNER")
	r.install(deb{name: "x", arch: "all", version: "1", files: map[string]string{},
		fields: "Conffiles:\n /etc/with space " + sum("AS SHIPPED") + "\n /etc/changed " + sum("AS SHIPPED") + " obsolete\n /etc/new newconffile\n"})
	r.add("var/lib/dpkg/info/x.list", "/etc/with space\n/etc/changed\n")
	r.verified("/etc/with space", true, "x", "")
	r.verified("/etc/changed", false, "x", "was changed")
}

// Packages may say /lib, and the path be asked for with /usr/lib, and the other way
// round; on a system where these are two folders, they are two files.
func TestMergedUsr(t *testing.T) {
	for _, recorded := range []string{"lib/modules/x.ko", "usr/lib/modules/x.ko"} {
		r := newRoot(t)
		r.write("usr/lib/modules/x.ko", "MODULE")
		r.install(deb{name: "m", arch: "all", version: "1", files: map[string]string{recorded: "MODULE"}})
		r.verified("/lib/modules/x.ko", true, "m", "")
		r.verified("/usr/lib/modules/x.ko", true, "m", "")
	}
	r := root{t, t.TempDir()}
	r.write("lib/x", "X")
	r.write("usr/lib/x", "X")
	r.install(deb{name: "m", arch: "all", version: "1", files: map[string]string{"lib/x": "X"}})
	r.verified("/lib/x", true, "m", "")
	r.verified("/usr/lib/x", false, "", "no package")
}

func TestLinksAreFollowed(t *testing.T) {
	r := kernels(t)
	r.link("vmlinuz", "boot/vmlinuz-"+release)
	r.link("absolute", "/boot/../../../boot/vmlinuz-"+release)
	r.link("loop", "loop")
	r.verified("/vmlinuz", true, kernel, "/"+vmlinuz)
	r.verified("/absolute", true, kernel, "/"+vmlinuz)
	if _, err := r.open().Explain("/loop", time.Time{}); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link to itself: %v", err)
	}
}

// A package may have recorded a path in which the machine's owner has put a link.
func TestFolderThatBecameALink(t *testing.T) {
	r := newRoot(t)
	r.write("data/doc/x", "X")
	r.link("usr/share", "/data")
	r.install(deb{name: "x", arch: "all", version: "1", files: map[string]string{"usr/share/doc/x": "X"}})
	r.verified("/usr/share/doc/x", true, "x", "")
}

func TestNothingOutsideTheRootIsRead(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "file"), []byte("X"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRoot(t)
	r.install(deb{name: "x", arch: "all", version: "1", files: map[string]string{"etc/x": "X", "etc/up": "X"}})
	r.link("etc/x", filepath.Join(outside, "file"))
	r.link("etc/up", "../../../../../../.."+filepath.Join(outside, "file"))
	r.verified("/etc/x", false, "x", "is not there")
	r.verified("/etc/up", false, "x", "is not there")
}

func TestDiversions(t *testing.T) {
	r := newRoot(t)
	r.install(deb{name: "dash", arch: "amd64", version: "1", files: map[string]string{"bin/sh": "DASH"}})
	r.install(deb{name: "bash", arch: "amd64", version: "2", files: map[string]string{"bin/sh": "BASH"}})
	r.install(deb{name: "local", arch: "amd64", version: "3", files: map[string]string{"etc/x": "PACKAGED"}})
	r.write("var/lib/dpkg/diversions", "/bin/sh\n/bin/sh.distrib\nbash\n/etc/x\n/etc/x.packaged\n:\n")
	r.write("usr/bin/sh", "BASH")
	r.write("usr/bin/sh.distrib", "DASH")
	r.write("etc/x", "PACKAGED")
	r.write("etc/x.packaged", "PACKAGED")
	r.verified("/bin/sh", true, "bash", "")
	r.verified("/usr/bin/sh.distrib", true, "dash", "")
	r.verified("/etc/x", false, "", "no package")
	r.verified("/etc/x.packaged", true, "local", "")
	r.write("usr/bin/sh", "DASH")
	r.verified("/bin/sh", false, "bash", "was changed")
	r.write("usr/bin/sh.distrib", "BASH")
	r.verified("/bin/sh.distrib", false, "dash", "was changed")
}

// Packages for two architectures share files that are equal.
func TestSeveralArchitectures(t *testing.T) {
	r := newRoot(t)
	for arch, content := range map[string]string{"amd64": "NEW", "i386": "OLD"} {
		r.install(deb{name: "libx", arch: arch, version: "1-" + arch, fields: "Multi-Arch: same\n",
			files: map[string]string{"usr/share/doc/libx/copyright": "TEXT", "usr/lib/" + arch + "/libx.so": content, "usr/share/x": content}})
		r.write("usr/lib/"+arch+"/libx.so", content)
	}
	r.write("usr/share/doc/libx/copyright", "TEXT")
	r.verified("/usr/share/doc/libx/copyright", true, "libx", "")
	for arch := range map[string]bool{"amd64": true, "i386": true} {
		if e := r.explain("/usr/lib/"+arch+"/libx.so", time.Time{}); !e.Verified || e.Version != "1-"+arch {
			t.Errorf("%s: %+v", arch, e)
		}
	}
	for content, version := range map[string]string{"NEW": "1-amd64", "OLD": "1-i386"} {
		r.write("usr/share/x", content)
		if e := r.explain("/usr/share/x", time.Time{}); !e.Verified || e.Version != version {
			t.Errorf("%s: %+v", content, e)
		}
	}
}

// dpkg collects changes of its status file in a folder before it writes them back.
func TestStatusThatWasNotWrittenBack(t *testing.T) {
	r := kernels(t)
	for i := range 10 { // the last one counts
		r.write(fmt.Sprintf("var/lib/dpkg/updates/%04d", i), "Package: "+kernel+"\nStatus: install ok half-configured\nArchitecture: amd64\nVersion: 6.1.192-"+fmt.Sprint(i)+"\n")
	}
	r.write("var/lib/dpkg/updates/tmp.i", "Package: "+kernel+"\nStatus: install ok installed\nArchitecture: amd64\nVersion: 9\n")
	r.verified(vmlinuz, false, kernel, "half-configured; it belongs to "+kernel+" 6.1.192-9")
}

// Logs are rotated away. The list of files still has its time.
func TestLogsThatKnowNothing(t *testing.T) {
	r := kernels(t)
	for _, log := range []string{"var/log/dpkg.log", "var/log/apt/history.log"} {
		r.write(log, "")
	}
	when := at("2026-03-01 09:14:01")
	r.age("var/lib/dpkg/info/"+kernel+".list", when)
	e := r.explain(vmlinuz, time.Time{})
	if !e.When.Equal(when) || e.PreviousVersion != "" || !strings.Contains(e.Why, "the logs know nothing; its list of files is of 2026-03-01 09:14:01") {
		t.Errorf("%+v", e)
	}
}

// The logs are in local time.
func TestTimeZone(t *testing.T) {
	r := kernels(t)
	b, err := os.ReadFile("testdata/berlin.tzif")
	if err != nil {
		t.Fatal(err)
	}
	r.write("usr/share/zoneinfo/Europe/Berlin", string(b))
	r.link("etc/localtime", "/usr/share/zoneinfo/Europe/Berlin")
	if e := r.explain(vmlinuz, time.Time{}); !e.When.Equal(at("2026-03-01 08:14:01")) || !strings.Contains(e.Why, "09:14:01 +0100") {
		t.Errorf("%v: %s", e.When, e.Why)
	}
}

func TestChanges(t *testing.T) {
	r := kernels(t)
	r.install(deb{name: "tzdata", arch: "all", version: "2"})
	r.add("var/log/dpkg.log", `2026-03-02 10:00:00 upgrade tzdata:all 2 2
2026-03-02 10:00:01 remove nano:amd64 7.2 <none>
2026-03-02 10:00:02 purge nano:amd64 7.2 <none>
2026-03-03 00:00:01 remove nano:amd64 7 <none>
2026-03-03 00:00:02 install nano:amd64 <none> 8
2026-03-02 10:00:03 upgrade tzdata:all 2
2026-03-02 25:00:00 upgrade tzdata:all 2 3
not a line
`)
	r.add("var/log/apt/history.log", `
Start-Date: 2026-03-02  09:59:59
Commandline: apt-get --reinstall install tzdata
Requested-By: u (1000)
Reinstall: tzdata:amd64 (2)
End-Date: 2026-03-02  10:00:00

Start-Date: 2026-03-03  00:00:00
Commandline: apt install gone
Install: gone:amd64 (1, automatic), tzdata:amd64 (3)
Remove: nano:amd64 (7)
Error: Sub-process /usr/bin/dpkg returned an error code (1)
`)
	got, err := r.open().Changes(at("2026-03-01 09:13:00"))
	if err != nil {
		t.Fatal(err)
	}
	want := []packages.Change{
		{Package: "bash", From: "5.1", To: "5.2", When: at("2026-03-01 09:13:58"), Command: "apt-get upgrade"},
		{Package: kernel, From: "6.1.192-2", To: "6.1.192-3", When: at("2026-03-01 09:14:01"), Command: "apt-get upgrade"},
		{Package: "tzdata", From: "2", To: "2", When: at("2026-03-02 10:00:00"), Command: "apt-get --reinstall install tzdata"},
		{Package: "nano", From: "7.2", When: at("2026-03-02 10:00:01")},
		{Package: "gone", To: "1", When: at("2026-03-03 00:00:00"), Command: "apt install gone"},
		{Package: "tzdata", To: "3", When: at("2026-03-03 00:00:00"), Command: "apt install gone"},
		{Package: "nano", From: "7", When: at("2026-03-03 00:00:01"), Command: "apt install gone"},
		{Package: "nano", To: "8", When: at("2026-03-03 00:00:02")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// Copies that somebody made of a log, and packings that are not known, are no logs.
func TestFilesThatAreNoLogs(t *testing.T) {
	r := kernels(t)
	for _, name := range []string{"dpkg.log.bak", "dpkg.log.4.xz", "dpkg.log.gz", "dpkg.log.", "my-dpkg.log"} {
		r.write("var/log/"+name, "2026-03-05 00:00:00 install evil:all <none> 1\n")
	}
	if got, err := r.open().Changes(at("2026-03-04 00:00:00")); err != nil || len(got) != 0 {
		t.Errorf("%v (%v)", got, err)
	}
}

func TestNothingFromRecordsReachesTheTerminal(t *testing.T) {
	r := newRoot(t)
	r.write("usr/bin/\x1b[2J", "X")
	r.install(deb{name: "x", arch: "all", version: "1\x1b[2J", files: map[string]string{"usr/bin/\x1b[2J": "X"}})
	r.write("var/log/dpkg.log", "2026-03-01 09:14:01 upgrade x:all 0\x1b[2J 1\x1b[2J\n")
	r.write("var/log/apt/history.log", "Start-Date: 2026-03-01  09:14:00\nCommandline: apt \x1b[2J\nUpgrade: x:amd64 (0, 1\x1b[2J)\n")
	e := r.explain("/usr/bin/\x1b[2J", time.Time{})
	if !e.Verified || strings.Contains(e.Why, "\x1b") || strings.Count(e.Why, `\x1b`) != 3+1 {
		t.Errorf("%q", e.Why)
	}
}

func TestNoDatabase(t *testing.T) {
	if _, err := packages.Open(t.TempDir()); !errors.Is(err, packages.ErrNoDatabase) {
		t.Errorf("%v", err)
	}
	r := newRoot(t)
	r.write("var/lib/dpkg/status", "garbage")
	if _, err := packages.Open(r.dir); err == nil {
		t.Error("a status file without a package is read")
	}
}
