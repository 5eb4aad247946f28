package packages_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/packages"
)

const initrd = "boot/initrd.img-" + release

// withInitrd adds initramfs-tools, which made an initrd on 2026-03-01 at 09:14:05 when
// the kernel was configured, and from 10:00:07 to 10:00:15 for cryptsetup.
func withInitrd(t testing.TB) root {
	r := kernels(t)
	r.write(initrd, "INITRD")
	r.write("var/lib/dpkg/triggers/update-initramfs", "initramfs-tools\n")
	r.install(deb{name: "initramfs-tools", arch: "all", version: "0.142", info: map[string]string{"triggers": "interest-await update-initramfs\n"}})
	r.install(deb{name: "cryptsetup-initramfs", arch: "all", version: "2:2.6.1-5", info: map[string]string{"triggers": "# Triggers\nactivate-noawait update-initramfs\n"}})
	r.install(deb{name: "plymouth", arch: "amd64", version: "22", info: map[string]string{"postinst": "#!/bin/sh\nupdate-initramfs -u\n"}})
	r.install(deb{name: "nano", arch: "amd64", version: "7.2"})
	r.add("var/log/dpkg.log", `2026-03-01 10:00:00 startup archives unpack
2026-03-01 10:00:00 upgrade nano:amd64 7.1 7.2
2026-03-01 10:00:01 upgrade cryptsetup-initramfs:all 2:2.6.1-4 2:2.6.1-5
2026-03-01 10:00:02 upgrade plymouth:amd64 21 22
2026-03-01 10:00:03 startup packages configure
2026-03-01 10:00:04 configure cryptsetup-initramfs:all 2:2.6.1-5 <none>
2026-03-01 10:00:04 status triggers-pending initramfs-tools:all 0.142
2026-03-01 10:00:04 status installed cryptsetup-initramfs:all 2:2.6.1-5
2026-03-01 10:00:07 trigproc initramfs-tools:all 0.142 <none>
2026-03-01 10:00:07 status half-configured initramfs-tools:all 0.142
2026-03-01 10:00:15 status installed initramfs-tools:all 0.142
`)
	return r
}

func TestInitrdMadeByATrigger(t *testing.T) {
	r := withInitrd(t)
	r.age(initrd, at("2026-03-01 10:00:14"))
	got := r.explain("/"+initrd, at("2026-03-01 09:30:00"))
	want := packages.Explanation{
		Package: "initramfs-tools", Version: "0.142", When: at("2026-03-01 10:00:14"), Generated: true,
		Changes: []packages.Change{
			{Package: "cryptsetup-initramfs", From: "2:2.6.1-4", To: "2:2.6.1-5", When: at("2026-03-01 10:00:01"), Reason: "it asks for a new initrd"},
			{Package: "plymouth", From: "21", To: "22", When: at("2026-03-01 10:00:02"), Reason: "its script asks for a new initrd"},
			{Package: "nano", From: "7.1", To: "7.2", When: at("2026-03-01 10:00:00")},
		},
		Why: "/" + initrd + " was written on 2026-03-01 10:00:14 +0000, while initramfs-tools 0.142 made it; its content was recorded nowhere. " +
			"Changed were: cryptsetup-initramfs went from 2:2.6.1-4 to 2:2.6.1-5: it asks for a new initrd; plymouth went from 21 to 22: its script asks for a new initrd; and 1 more.",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestInitrdMadeForAKernel(t *testing.T) {
	r := withInitrd(t)
	r.age(initrd, at("2026-03-01 09:14:05"))
	e := r.explain("/"+initrd, at("2026-03-01 09:00:00"))
	// What changed after it was written is no reason.
	if !e.Generated || e.Package != kernel || len(e.Changes) != 2 || e.Changes[0].Reason != "it is the kernel of this initrd" || e.Changes[0].Package != kernel {
		t.Errorf("%+v", e)
	}
}

// The time of change must fit a run of the package manager that came after since.
func TestInitrdAtOtherTimes(t *testing.T) {
	for _, c := range []struct {
		name, written, since string
		want                 bool
		word                 string
	}{
		{"begin", "2026-03-01 10:00:07", "2026-03-01 09:30:00", true, "while initramfs-tools"},
		{"end", "2026-03-01 10:00:15", "2026-03-01 09:30:00", true, "while initramfs-tools"},
		{"logs round, begin", "2026-03-01 10:00:05", "2026-03-01 09:30:00", true, "while initramfs-tools"},
		{"logs round, end", "2026-03-01 10:00:17", "2026-03-01 09:30:00", true, "while initramfs-tools"},
		{"later", "2026-03-01 10:00:18", "2026-03-01 09:30:00", false, "when no package made an initrd"},
		{"earlier", "2026-03-01 10:00:04", "2026-03-01 09:30:00", false, "when no package made an initrd"},
		{"in the future", "2027-03-01 10:00:14", "2026-03-01 09:30:00", false, "when no package made an initrd"},
		{"before since", "2026-03-01 10:00:14", "2026-03-01 11:00:00", false, "was not made by packages"},
	} {
		r := withInitrd(t)
		r.age(initrd, at(c.written))
		e := r.explain("/"+initrd, at(c.since))
		if e.Generated != c.want || e.Verified || !strings.Contains(e.Why, c.word) {
			t.Errorf("%s: %v: %s", c.name, e.Generated, e.Why)
		}
		if !c.want && e.Changes != nil {
			t.Errorf("%s: not explained, and yet changes are named: %v", c.name, e.Changes)
		}
	}
}

// A script that the package manager calls may ask before it has ended; and a package
// manager that was interrupted has not made what is written an hour later.
func TestInitrdBeingMade(t *testing.T) {
	r := withInitrd(t)
	r.add("var/log/dpkg.log", "2026-03-01 12:00:00 startup packages configure\n2026-03-01 12:00:01 trigproc initramfs-tools:all 0.142 <none>\n")
	generated := func(written string) bool {
		r.age(initrd, at(written))
		return r.explain("/"+initrd, at("2026-03-01 11:00:00")).Generated
	}
	if !generated("2026-03-01 12:00:30") {
		t.Error("it is made, and not explained")
	}
	if generated("2026-03-01 13:30:00") {
		t.Error("the making never ends")
	}
	r.add("var/log/dpkg.log", "2026-03-01 12:00:20 startup packages configure\n")
	if generated("2026-03-01 12:00:30") {
		t.Error("another run of dpkg did not end it")
	}
}

// Without something that makes initrds nothing is explained, whatever its name and time.
func TestInitrdWithoutAMaker(t *testing.T) {
	r := newRoot(t)
	r.install(deb{name: "x", arch: "all", version: "1"})
	r.write(initrd, "INITRD")
	if e := r.explain("/"+initrd, time.Time{}); e.Generated || !strings.Contains(e.Why, "no package is installed that would make it") {
		t.Errorf("%+v", e)
	}
	if e := r.explain("/boot/initrd.img-0", time.Time{}); e.Generated || !strings.Contains(e.Why, "no package has") {
		t.Errorf("an initrd that is not there: %+v", e)
	}
}

// A package that was removed makes no initrd.
func TestInitrdOfAMakerThatIsGone(t *testing.T) {
	r := withInitrd(t)
	r.write("var/lib/dpkg/updates/0000", "Package: initramfs-tools\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 0.142\n")
	r.age(initrd, at("2026-03-01 10:00:14"))
	if e := r.explain("/"+initrd, at("2026-03-01 09:30:00")); e.Generated {
		t.Errorf("%+v", e)
	}
}

func TestNamesOfInitrds(t *testing.T) {
	for name, want := range map[string]bool{
		"boot/initrd.img-" + release:               true,
		"boot/initrd-" + release:                   true,
		"boot/initramfs-" + release + ".img":       true,
		"boot/1234/" + release + "/initrd":         true,
		"boot/initrd.img-6.1.0-99-amd64":           false,
		"boot/" + release + "/initrd.img-other":    false,
		"boot/initrd.img-" + release + ".dpkg-bak": false,
		"boot/grub/grub.cfg":                       false,
	} {
		r := kernels(t) // whose configuring is the only thing that makes one
		r.write(name, "INITRD")
		r.age(name, at("2026-03-01 09:14:05"))
		if e := r.explain("/"+name, at("2026-03-01 09:00:00")); e.Generated != want {
			t.Errorf("%s: %s", name, e.Why)
		}
	}
}

// A sentence for a person names a few of hundreds of packages.
func TestManyChanges(t *testing.T) {
	r := withInitrd(t)
	for i := range 9 {
		name := fmt.Sprintf("hook%d", i)
		r.install(deb{name: name, arch: "all", version: "2", info: map[string]string{"triggers": "activate update-initramfs\n"}})
		r.add("var/log/dpkg.log", "2026-03-01 10:00:01 upgrade "+name+":all 1 2\n")
	}
	r.age(initrd, at("2026-03-01 10:00:14"))
	e := r.explain("/"+initrd, at("2026-03-01 09:30:00"))
	if len(e.Changes) != 12 || strings.Count(e.Why, "went from") != 5 || !strings.HasSuffix(e.Why, "; and 7 more.") {
		t.Errorf("%d changes: %s", len(e.Changes), e.Why)
	}
}
