package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/aem/doctor"
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
		"usr/share/initramfs-tools/hook-functions": "", "etc/grub.d/10_linux": "", "sys/firmware/acpi": "",
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

// The report needs nothing to be set up, changes nothing, costs no try and no counter,
// and is the same as a table and as JSON.
func TestDoctorBeforeAnything(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			l := newLaptop(t, v)
			root := filepath.Join(l.dir, "root")
			write(t, root, map[string]string{
				"usr/share/initramfs-tools/hook-functions": "", "boot/vmlinuz": "kernel", "boot/initrd.img": "",
				"boot/grub/grub.cfg":  "menuentry Plain { linux /vmlinuz quiet; initrd /initrd.img }\n",
				"proc/self/mountinfo": "29 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "sys/class/block/sda1/size": "0\n",
			})
			look := func() (r doctor.Report) {
				out := l.want(aem.ExitNotPossible, "", "", "doctor", "--json", "--root", root)
				// The line before says what is looked at.
				if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &r); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				return r
			}
			r := look()
			states := map[string]doctor.State{}
			for _, x := range r.Records {
				states[x.Name] = x.State
			}
			for name, want := range map[string]doctor.State{
				doctor.RowTPM: doctor.Good, doctor.RowBootPath: doctor.Good, doctor.RowBootEntry: doctor.Warning, doctor.RowEncryption: doctor.Bad,
				doctor.RowInitramfs: doctor.Good, doctor.RowVolumes: doctor.NotApplicable, doctor.RowFreeNV: doctor.Good,
			} {
				if got, ok := states[name]; !ok || got != want {
					t.Errorf("%s is %s, not %s: %+v", name, got, want, doctor.Find(r.Records, name))
				}
			}
			if c := doctor.Find(r.Records, doctor.RowClock); c == nil || v == tpm.V20 != strings.Contains(c.Text, "the TPM had power for") {
				t.Errorf("the clock: %+v", c)
			}
			if r.SetUp == nil || r.SetUp.State != doctor.Bad || !strings.Contains(r.SetUp.Text, "disk encryption") {
				t.Errorf("the verdict is %+v", r.SetUp)
			}
			before, after := doctor.Find(r.Records, doctor.RowLockout), doctor.Find(look().Records, doctor.RowLockout)
			if before == nil || after == nil || *before != *after || !strings.Contains(after.Text, "0 of") && !strings.Contains(after.Text, "no wrong tries") {
				t.Errorf("wrong tries, before and after looking: %+v, %+v", before, after)
			}
			l.want(aem.ExitNotPossible, "AEM can't be set up as things are", "", "doctor", "--root", root)
			if _, err := os.Stat(filepath.Join(l.dir, "home")); err == nil {
				t.Error("the report left a home folder")
			}
		})
	}
}
