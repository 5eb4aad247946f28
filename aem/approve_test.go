package aem_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// grub writes a boot folder whose entry boots the laptop's files by fixed names, as
// Debian's does after an update in place.
func (l *laptop) grub(dir string) {
	l.t.Helper()
	l.must(os.MkdirAll(filepath.Join(dir, "grub"), 0o700))
	writeFile(l.t, filepath.Join(dir, "vmlinuz"), l.Kernel)
	writeFile(l.t, filepath.Join(dir, "initrd.img"), l.Initrd)
	writeFile(l.t, filepath.Join(dir, "loader.bin"), l.Loader)
	writeFile(l.t, filepath.Join(dir, "grub/grub.cfg"), []byte("menuentry 'Debian' {\n slaunch skinit\n slaunch_module /loader.bin\n linux /vmlinuz root=/dev/sda quiet\n initrd /initrd.img\n}\n"))
	l.CommandLine = "BOOT_IMAGE=/vmlinuz root=/dev/sda quiet"
}

// An update replaces kernel and initramfs in their place. Approved before the boot,
// the machine proves itself after it; and it still does with the old files, if the
// new ones do not boot.
func TestAnUpdateIsApprovedBeforeItBoots(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			l := newLaptop(t, v, 2)
			boot := t.TempDir()
			l.grub(boot)
			l.boot()
			l.setUp("")
			now, err := l.Boot()
			l.must(err)
			l.must(l.home.KeepLog(now.Log))
			l.must(l.home.LearnForms(now, boot))
			old := l.LinuxLaunch

			l.Kernel, l.Initrd = testbed.BzImage("newer kernel"), []byte("newer initramfs")
			l.grub(boot)
			a, err := l.PlanApproval(l.home, boot, "default", nil)
			l.must(err)
			if a.Known || a.Assumed || len(a.Changes) < 2 || a.Next.Label != "Debian" {
				t.Errorf("known %t, assumed %t, %d changes, %q", a.Known, a.Assumed, len(a.Changes), a.Next.Label)
			}
			if _, err := l.Approve(l.home, a); err != nil {
				t.Fatal(err)
			}
			l.boot()
			l.wantProof()
			l.LinuxLaunch = old
			l.boot()
			l.wantProof()
			// Nothing more is to be approved.
			l.grub(boot)
			if a, err := l.PlanApproval(l.home, boot, "default", nil); err != nil || !a.Known {
				t.Errorf("a second time: %+v, %v", a, err)
			}
			// The old one dropped, it is refused.
			states, err := l.Approved(l.home)
			l.must(err)
			if _, err := l.Drop(l.home, "first"); err != nil || len(states) != 2 {
				t.Fatalf("%d states, %v", len(states), err)
			}
			l.boot()
			l.wantRefusal(aem.CauseChanged, aem.ExitMeasurements)
			if _, err := l.Drop(l.home, "Debian"); err == nil {
				t.Error("the only approved state was dropped")
			}
		})
	}
}

// Who runs an unapproved system could let it say anything about the next boot, so
// that is computed from the launch that was approved.
func TestAnUnapprovedBootIsNoGroundToApproveFrom(t *testing.T) {
	l := newLaptop(t, tpm.V20, 2)
	boot := t.TempDir()
	l.grub(boot)
	l.boot()
	l.setUp("")
	now, err := l.Boot()
	l.must(err)
	l.must(l.home.KeepLog(now.Log))
	l.must(l.home.LearnForms(now, boot))
	loader := l.Loader
	l.Loader = append([]byte(nil), loader...)
	l.Loader[20] ^= 1
	l.boot() // an evil loader
	l.Loader = loader
	a, err := l.PlanApproval(l.home, boot, "default", nil)
	l.must(err)
	if !a.Known {
		t.Errorf("the approved files are a new state: %+v", a.Changes)
	}
}

// What is approved is kept so that nobody changes it unnoticed.
func TestApprovedStatesAreKeptUnchanged(t *testing.T) {
	l := newLaptop(t, tpm.V20, 2)
	l.boot()
	l.setUp("")
	states, err := l.Approved(l.home)
	if err != nil || len(states) != 1 || states[0].Label != "first" {
		t.Fatalf("%+v, %v", states, err)
	}
	// Changed on the disk, they are not taken.
	path := filepath.Join(l.homeDir, "approved.aem")
	b, err := os.ReadFile(path)
	l.must(err)
	for i := 0; i < len(b); i += 7 {
		evil := append([]byte(nil), b...)
		evil[i] ^= 1
		writeFile(t, path, evil)
		if got, err := l.Approved(l.home); err == nil {
			t.Fatalf("with byte %d flipped: %+v", i, got)
		}
	}
}
