package packages_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/packages"
)

const fedora = "6.12.8-200.fc41.x86_64"

// The outputs in testdata/rpm are of rpm 4.18 and packages with the shape of Fedora's:
// two kernels, of which the package has /boot/vmlinuz and the initramfs as ghosts, and
// bash, which was upgraded. Both 6.12.8 and bash were installed on 2026-11-21 09:16:44.
func fedoraRoot(t testing.TB) (root, packages.Database) {
	r := root{t, t.TempDir()}
	r.write("usr/lib/modules/"+fedora+"/vmlinuz", "KERNEL 8")
	r.link("lib", "usr/lib")
	r.write("boot/vmlinuz-"+fedora, "KERNEL 8")
	r.write("boot/initramfs-"+fedora+".img", "INITRD")
	r.write("usr/bin/bash", "BASH 2")
	r.write("etc/x", "X")
	d, err := packages.OpenRPM(r.dir, recorded)
	if err != nil {
		t.Fatal(err)
	}
	return r, d
}

var errExit = errors.New("exit status 1")

func recorded(args ...string) ([]byte, error) {
	name, err := "nobody", errExit
	switch file := args[len(args)-1]; {
	case args[0] == "-qa":
		name, err = "all", nil
	case args[0] == "-qf" && strings.Contains(file, fedora):
		name, err = "kernel", nil
	case args[0] == "-qf" && file == "/usr/bin/bash":
		name, err = "bash", nil
	case file == "/usr/bin/missing": // and on the other stream, that there is no such file
		return nil, errExit
	}
	b, e := os.ReadFile("testdata/rpm/" + name + ".txt")
	return b, errors.Join(err, e)
}

func TestFilesOfRPM(t *testing.T) {
	r, d := fedoraRoot(t)
	r.write("etc/evil", "EVIL")
	r.write("usr/lib/modules/"+fedora+"/config", "EVIL")
	for _, c := range []struct {
		file          string
		verified      bool
		pkg, previous string
		word          string
	}{
		{"/usr/bin/bash", true, "bash", "", "is as its package has it"},
		{"/lib/modules/" + fedora + "/vmlinuz", true, "kernel-core", "6.12.7-200.fc41", "is as its package has it"},
		{"/boot/vmlinuz-" + fedora, true, "kernel-core", "6.12.7-200.fc41", "is a copy of /lib/modules/" + fedora + "/vmlinuz"},
		{"/lib/modules/" + fedora + "/config", false, "kernel-core", "6.12.7-200.fc41", "was changed"},
		{"/etc/evil", false, "", "", "no package has"},
		{"/usr/bin/missing", false, "", "", "no package has"},
	} {
		e, err := d.Explain(c.file, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if e.Verified != c.verified || e.Package != c.pkg || e.PreviousVersion != c.previous || !strings.Contains(e.Why, c.word) {
			t.Errorf("%s: %+v", c.file, e)
		}
		if c.pkg != "" && !e.When.Equal(at("2026-11-21 09:16:44")) {
			t.Errorf("%s was changed on %v", c.file, e.When)
		}
	}
	for content, word := range map[string]string{"EVIL": "nobody recorded", "CONFIG": "nobody recorded", "": "nobody recorded"} {
		e, err := d.ExplainContent("/boot/vmlinuz-"+fedora, strings.NewReader(content), time.Time{})
		if err != nil || e.Verified || !strings.Contains(e.Why, word) {
			t.Errorf("a kernel with the content %q: %+v (%v)", content, e, err)
		}
	}
	if err := os.Remove(r.path("boot/vmlinuz-" + fedora)); err != nil {
		t.Fatal(err)
	}
	if e, err := d.Explain("/boot/vmlinuz-"+fedora, time.Time{}); err != nil || e.Verified || !strings.Contains(e.Why, "is not there") {
		t.Errorf("a kernel that is gone: %+v (%v)", e, err)
	}
}

// A package may have two files of one name; the record of the other one says nothing.
func TestOtherFileOfTheSameName(t *testing.T) {
	r := root{t, t.TempDir()}
	r.write("etc/config", "EVIL")
	d, err := packages.OpenRPM(r.dir, func(args ...string) ([]byte, error) {
		answer := "P\tx\t1\tnoarch\t1795252604\t1\n"
		if args[0] == "-qf" {
			answer += fmt.Sprintf("F\t%x\t/opt/config\nF\t%x\t/etc/config\n", sha256.Sum256([]byte("EVIL")), sha256.Sum256([]byte("GOOD")))
		}
		return []byte(answer), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if e, err := d.Explain("/etc/config", time.Time{}); err != nil || e.Verified || !strings.Contains(e.Why, "was changed") {
		t.Errorf("%+v (%v)", e, err)
	}
}

// MD5 was rpm's checksum once, and a digest of it can't be compared here.
func TestOldChecksumOfRPM(t *testing.T) {
	r := root{t, t.TempDir()}
	r.write("etc/x", "X")
	d, err := packages.OpenRPM(r.dir, func(args ...string) ([]byte, error) {
		return []byte("P\tx\t1\tnoarch\t1795252604\t1\nF\t" + sum("X") + "\t/etc/x\n"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if e, err := d.Explain("/etc/x", time.Time{}); err != nil || e.Verified || !strings.Contains(e.Why, "none of SHA-256 or SHA-512") {
		t.Errorf("%+v (%v)", e, err)
	}
}

func TestInitrdOfRPM(t *testing.T) {
	r, d := fedoraRoot(t)
	initrd := "boot/initramfs-" + fedora + ".img"
	for _, c := range []struct {
		written, since string
		want           bool
		word           string
	}{
		{"2026-11-21 09:17:30", "2026-11-21 09:00:00", true, "after kernel-core 6.12.8-200.fc41 was installed"},
		{"2026-11-21 09:16:30", "2026-11-21 09:00:00", false, "when no kernel was installed"},
		{"2026-11-21 11:17:30", "2026-11-21 09:00:00", false, "when no kernel was installed"},
		{"2026-11-21 09:17:30", "2026-11-21 09:20:00", false, "was not made by packages"},
	} {
		r.age(initrd, at(c.written))
		e, err := d.Explain("/"+initrd, at(c.since))
		if err != nil {
			t.Fatal(err)
		}
		if e.Generated != c.want || e.Verified || !strings.Contains(e.Why, c.word) {
			t.Errorf("written %s: %+v", c.written, e)
		}
		if c.want {
			want := []packages.Change{
				{Package: "kernel-core", To: "6.12.8-200.fc41", When: at("2026-11-21 09:16:44"), Reason: "it is the kernel of this initrd"},
				{Package: "kernel-core", To: "6.12.7-200.fc41", When: at("2026-11-21 09:16:41")},
				{Package: "bash", To: "1:5.2-1.fc41", When: at("2026-11-21 09:16:44")},
			}
			if diff := cmp.Diff(want, e.Changes); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		}
	}
}

func TestChangesOfRPM(t *testing.T) {
	_, d := fedoraRoot(t)
	got, err := d.Changes(at("2026-11-21 09:16:42"))
	if err != nil {
		t.Fatal(err)
	}
	want := []packages.Change{
		{Package: "kernel-core", To: "6.12.8-200.fc41", When: at("2026-11-21 09:16:44")},
		{Package: "bash", To: "1:5.2-1.fc41", When: at("2026-11-21 09:16:44")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// An rpm that does not answer is not an rpm that knows nothing.
func TestRPMThatFails(t *testing.T) {
	r, _ := fedoraRoot(t)
	broken := errors.New("rpmdb: damaged header")
	d, err := packages.OpenRPM(r.dir, func(args ...string) ([]byte, error) {
		if args[0] == "-qa" {
			return recorded(args...)
		}
		return nil, broken
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Explain("/usr/bin/bash", time.Time{}); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if _, err := packages.OpenRPM(r.dir, func(...string) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if _, err := packages.OpenRPM(r.dir, func(...string) ([]byte, error) { return nil, nil }); err == nil {
		t.Error("a database without a package is opened")
	}
}

// A script in rpm's place shows how it is called.
func TestHowRPMIsCalled(t *testing.T) {
	r := root{t, t.TempDir()}
	r.write("var/lib/rpm/rpmdb.sqlite", "")
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	if _, err := packages.Open(r.dir); err == nil || !strings.Contains(err.Error(), "executable file not found") {
		t.Errorf("without rpm: %v", err)
	}
	script := "#!/bin/sh\n[ \"$LC_ALL $1 $2 $3 $4\" = 'C --root " + r.dir + " -qa --qf' ] && printf '%s' \"$5\" && exit 0\necho \"damaged\x1b\" >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(bin, "rpm"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	// What is printed here is the format itself, so its numbers are none.
	if _, err := packages.Open(r.dir); err == nil || !strings.Contains(err.Error(), "knows of no package") {
		t.Errorf("%v", err)
	}
	script = "#!/bin/sh\n[ \"$3\" = -qa ] && printf 'P\\tx\\t1\\tnoarch\\t1795252604\\t1\\n' && exit 0\necho \"damaged\x1b\" >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(bin, "rpm"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	r.write("etc/x", "X")
	if _, err := r.open().Explain("/etc/x", time.Time{}); err == nil || !strings.Contains(err.Error(), `damaged\x1b`) {
		t.Errorf("%v", err)
	}
}

func FuzzParseRPM(f *testing.F) {
	for _, name := range []string{"all", "kernel", "bash", "nobody"} {
		b, err := os.ReadFile("testdata/rpm/" + name + ".txt")
		if err != nil || len(b) == 0 {
			f.Fatalf("%s: %d bytes, %v", name, len(b), err)
		}
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, s string) {
		names, files := packages.ParseRPM(s)
		if len(names)+len(files) > strings.Count(s, "\n")+1 {
			t.Errorf("%d lines have %d packages and %d files", strings.Count(s, "\n"), len(names), len(files))
		}
		if len(files) > 0 && len(names) == 0 {
			t.Error("files have no package")
		}
	})
}
