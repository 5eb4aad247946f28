//go:build debian

package debian_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/debian"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// A day with the machine: a BIOS starts GRUB from the disk, the passphrase opens the
// root, a person logs in and works, and switches off.
func TestDay(t *testing.T) {
	disk := newDisk(t, debian.Variant{Initramfs: debian.InitramfsTools})
	state := t.TempDir()
	m := start(t, disk, debian.Config{TPM: tpm.V20, TPMDir: state, Launch: &debian.Launch{Platform: drtm.TXT}})
	must(t, m.Unlock(patient(t), debian.Passphrase))
	if err := m.Login(patient(t), "root", "a wrong password"); !errors.Is(err, debian.ErrLogin) {
		t.Errorf("with a wrong password: %v", err)
	}
	must(t, m.Login(patient(t), "root", debian.RootPassword))

	t.Run("what GRUB booted was launched", func(t *testing.T) {
		if got := strings.TrimSuffix(ran(t, m, "cat /proc/cmdline"), "\n"); got != m.Next.Line {
			t.Errorf("GRUB's command line is %q, launched was %q", got, m.Next.Line)
		}
		var want string
		for _, file := range []string{m.Next.Kernel, m.Next.Initrd} {
			b, err := os.ReadFile(file)
			must(t, err)
			want += fmt.Sprintf("%x\n", sha256.Sum256(b))
		}
		got := ran(t, m, "sha256sum /boot/vmlinuz-$(uname -r) /boot/initrd.img-$(uname -r) | cut -d ' ' -f 1")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the guest's kernel and initramfs (+) are not those launched (-): %s", diff)
		}
		fresh := strings.Repeat("F", 64)
		if out := ran(t, m, "tpm2_pcrread sha256:17"); strings.Contains(out, fresh) || !strings.Contains(out, "17: 0x") {
			t.Errorf("there was no launch: %s", out)
		}
	})

	t.Run("the root is encrypted", func(t *testing.T) {
		if got, want := ran(t, m, "lsblk -nro NAME,TYPE -s $(findmnt -no SOURCE /)"), "root crypt\nvda4 part\nvda disk\n"; got != want {
			t.Errorf("the root lies on %q", got)
		}
		if got := ran(t, m, "cryptsetup luksDump /dev/vda4"); !strings.Contains(got, "argon2id") {
			t.Errorf("its key is derived by: %s", got)
		}
	})

	// The build tells update-grub what disks there are, because there are none yet.
	t.Run("GRUB's menu is the one that update-grub makes", func(t *testing.T) {
		if diff := ran(t, m, "cp /boot/grub/grub.cfg /tmp && update-grub 2>/dev/null && diff /tmp/grub.cfg /boot/grub/grub.cfg"); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("nothing fails at the start", func(t *testing.T) {
		if out := ran(t, m, "systemctl is-system-running --wait >/dev/null; systemctl --failed --plain --no-legend"); out != "" {
			t.Error(out)
		}
	})

	t.Run("a person sees output and exit status", func(t *testing.T) {
		out, exit, err := m.Run(patient(t), "echo \"it's\"; echo two >&2\nexit 3")
		if out != "it's\ntwo\n" || exit != 3 || err != nil {
			t.Errorf("%q, %d, %v", out, exit, err)
		}
		if out, exit, err := m.Run(patient(t), "if"); exit != 2 || err != nil {
			t.Errorf("of a syntax error: %q, %d, %v", out, exit, err)
		}
		if err := m.Start(strings.Repeat("x", 5000)); err == nil {
			t.Error("a line was typed that no terminal takes")
		}
	})

	t.Run("a person answers a program", func(t *testing.T) {
		must(t, m.Start("read -p 'Your name? ' name; echo Hello $name"))
		_, err := m.Expect(patient(t), `Your name\? `)
		must(t, err)
		must(t, m.Type("Ada\r"))
		if out, exit, err := m.Finish(patient(t)); out != "Hello Ada\n" || exit != 0 || err != nil {
			t.Errorf("%q, %d, %v", out, exit, err)
		}
	})

	t.Run("files go in and out", func(t *testing.T) {
		content := make([]byte, 3<<20)
		rand.Read(content)
		must(t, m.CopyIn(patient(t), "/opt/new folder/it's a file", 0o750, content))
		if out := ran(t, m, "stat -c '%a %u %g' '/opt/new folder/'*"); out != "750 0 0\n" {
			t.Errorf("mode and owner are %q", out)
		}
		if got, err := m.CopyOut(patient(t), "/opt/new folder/it's a file"); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes came back, %v", len(got), err)
		}
		if _, err := m.CopyOut(patient(t), "/opt/none"); err == nil {
			t.Error("a file came out that is not there")
		}
	})

	ran(t, m, "echo stays >/boot/left")
	must(t, m.PowerOff(patient(t)))
	t.Run("what was written stays", func(t *testing.T) {
		if got := booted(t, disk, "left"); string(got) != "stays\n" {
			t.Errorf("/boot/left has %q", got)
		}
	})
}

// The same disk starts with UEFI, and the power may be cut at any time.
func TestUEFIAndAPowerCut(t *testing.T) {
	disk := newDisk(t, debian.Variant{Initramfs: debian.InitramfsTools})
	c := debian.Config{Firmware: debian.UEFI, TPM: tpm.V20, TPMDir: t.TempDir()}
	m := start(t, disk, c)
	if volume, err := m.ExpectPassphrasePrompt(patient(t)); err != nil || volume != "root" {
		t.Fatalf("the passphrase of %q was asked for, %v", volume, err)
	}
	m.Kill()
	if got := m.Transcript(); !bytes.Contains(got, []byte("BdsDxe: starting")) {
		t.Error("the firmware is not UEFI's")
	}
	booted(t, disk, "grub/grub.cfg")
}

// dracut's initramfs asks, too. What an evil maid wrote into GRUB's configuration
// while the machine was off, is what is booted and what is launched.
func TestDracutAndAnEvilMaid(t *testing.T) {
	disk := newDisk(t, debian.Variant{Initramfs: debian.Dracut})
	menu := booted(t, disk, "grub/grub.cfg")
	// Without quiet the kernel prints its command line.
	must(t, disk.WriteBoot("grub/grub.cfg", bytes.ReplaceAll(menu, []byte(" quiet"), []byte(" maid=was.here"))))

	state := t.TempDir()
	must(t, testbed.MakeEK12(state))
	m := start(t, disk, debian.Config{TPM: tpm.V12, TPMDir: state, Launch: &debian.Launch{Platform: drtm.SKINIT}})
	g, err := m.Expect(patient(t), `Kernel command line: (.*?)\r?\n`)
	must(t, err)
	if g[1] != m.Next.Line || !strings.HasSuffix(g[1], " maid=was.here") {
		t.Errorf("booted is %q, launched is %q", g[1], m.Next.Line)
	}
	_, err = m.ExpectPassphrasePrompt(patient(t))
	must(t, err)
	if !strings.Contains(m.Simulator(), "launched: AMD SKINIT, TPM 1.2") {
		t.Errorf("drtmsim says: %s", m.Simulator())
	}
}

// QEMU can start the kernel of /boot itself, where a test is not about GRUB.
func TestDirectStart(t *testing.T) {
	disk := newDisk(t, debian.Variant{Initramfs: debian.InitramfsTools})
	next, err := disk.NextBoot(debian.BIOS, t.TempDir())
	must(t, err)
	m := start(t, disk, debian.Config{Next: next, Direct: true})
	_, err = m.ExpectPassphrasePrompt(patient(t))
	must(t, err)
	m.Kill()
	if bytes.Contains(m.Transcript(), []byte("GRUB")) {
		t.Error("GRUB ran")
	}
}
