package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// write writes files below a folder.
func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// Entries that launch are tried, installed, approved by their name, and removed; an
// owner who has them is told of an entry that makes no launch.
func TestLaunchEntries(t *testing.T) {
	testbed.Need(t, "grub-mkconfig")
	t.Setenv("grub_probe", "/bin/true")
	t.Setenv("grub_mkrelpath", "/bin/echo")
	l := newLaptop(t, tpm.V20)
	root := filepath.Join(l.dir, "root")
	boot := filepath.Join(root, "boot")
	l.launch.CommandLine = "BOOT_IMAGE=/vmlinuz quiet"
	write(t, root, map[string]string{
		"etc/initramfs-tools/modules": "", "etc/grub.d/10_linux": "", "sys/firmware/acpi": "",
		"proc/cpuinfo":                  "vendor_id\t: GenuineIntel\nflags\t\t: fpu smx\n",
		"boot/grub/i386-pc/slaunch.mod": "", "boot/vmlinuz-6.1": "", "boot/initrd.img-6.1": "",
		"boot/vmlinuz": string(l.launch.Kernel), "boot/initrd.img": string(l.launch.Initrd), "boot/SINIT.bin": string(l.launch.Loader),
		"boot/grub/grub.cfg": `
menuentry Plain { linux /vmlinuz quiet; initrd /initrd.img }
menuentry Launch --id aem-launch-linux {
	if slaunch; then
		linux /vmlinuz quiet
		initrd /initrd.img
		if slaunch_module /SINIT.bin; then true; fi
	fi
}`,
	})
	entry := func(want bool) {
		t.Helper()
		_, err := os.Stat(filepath.Join(root, "etc/grub.d/90_aem_launch"))
		if (err == nil) != want {
			t.Errorf("the script for GRUB's menu: %v", err)
		}
	}
	// For the first launch there need be nothing to prove.
	l.want(aem.ExitOK, "'aem-launch-linux'", "", "boot", "install", "--launch", "--dry-run", "--root", root)
	entry(false)
	l.want(aem.ExitOK, "Restart by one of them", "", "boot", "install", "--launch", "--root", root)
	entry(true)
	l.want(aem.ExitOK, "Removed.", "", "boot", "remove", "--root", root)
	entry(false)

	l.boot()
	l.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", l.dir)
	l.want(aem.ExitOK, "Kept.", sentence+"\n", "secret", "set", "text")
	l.want(aem.ExitOK, "Sealed as generation 2", "", "seal", "--label", "Monday", "--boot", boot)
	// The boot finds its medium by a UUID, which a test's folder does not have.
	path := filepath.Join(l.dir, "home", "setup.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = []byte(strings.Replace(string(b), `"name"`, `"uuid": "0d3c-11aa", "name"`, 1))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}

	l.want(aem.ExitOK, "'aem-launch-linux'", "", "boot", "install", "--launch", "--dry-run", "--root", root)
	entry(false)
	l.want(aem.ExitOK, "Next: aem-setup approve", "", "boot", "install", "--root", root)
	entry(false)
	const notice = `"Plain" makes no dynamic launch`
	if out := l.want(aem.ExitOK, "", "", "approve", "--boot", boot, "--dry-run", "--root", root); strings.Contains(out, notice) {
		t.Errorf("an owner without such entries is told %q", out)
	}
	l.want(aem.ExitOK, "approve --entry aem-launch-linux", "", "boot", "install", "--launch", "--root", root)
	entry(true)
	l.want(aem.ExitOK, notice, "", "approve", "--boot", boot, "--dry-run", "--root", root)
	if out := l.want(aem.ExitOK, "is approved already", "", "approve", "--boot", boot, "--entry", "aem-launch-linux", "--root", root); strings.Contains(out, notice) {
		t.Errorf("of the entry that launches it is said %q", out)
	}
	l.want(aem.ExitOK, "Removed.", "", "boot", "remove", "--root", root)
	entry(false)
}
