//go:build debian

package daily_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/debian"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

const sentence = "the lighthouse keeper sleeps on Tuesdays"

// laptop is a Debian whose root is encrypted, and its TPM.
type laptop struct {
	t    *testing.T
	ctx  context.Context
	disk *debian.Disk
	c    debian.Config
	m    *debian.Machine
}

func newLaptop(t *testing.T, v tpm.Version, p drtm.Platform) *laptop {
	t.Helper()
	testbed.Need(t, "qemu-system-x86_64", "swtpm", "cryptsetup")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	t.Cleanup(cancel)
	image, err := debian.Build(ctx, debian.Variant{Initramfs: debian.InitramfsTools})
	if err != nil {
		t.Fatal(err)
	}
	disk, err := image.Overlay(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if v == tpm.V12 {
		if err := testbed.MakeEK12(dir); err != nil {
			t.Fatal(err)
		}
	}
	return &laptop{t: t, ctx: ctx, disk: disk, c: debian.Config{TPM: v, TPMDir: dir, Launch: &debian.Launch{Platform: p}}}
}

func (l *laptop) must(err error) {
	l.t.Helper()
	if err != nil {
		if l.m != nil {
			l.t.Logf("the serial line: %s", tail(l.m.Transcript()))
		}
		l.t.Fatal(err)
	}
}

func tail(b []byte) []byte {
	const most = 4000
	return b[max(0, len(b)-most):]
}

// on switches the machine on.
func (l *laptop) on() {
	l.t.Helper()
	var err error
	l.m, err = l.disk.Boot(l.c)
	l.must(err)
	l.t.Cleanup(l.m.Kill)
}

// off shuts it down.
func (l *laptop) off() {
	l.t.Helper()
	l.must(l.m.PowerOff(l.ctx))
	l.m.Kill()
}

// expect waits for a text on the serial line.
func (l *laptop) expect(pattern string) {
	l.t.Helper()
	_, err := l.m.Expect(l.ctx, pattern)
	l.must(err)
}

func (l *laptop) typed(text string) {
	l.t.Helper()
	l.must(l.m.Type(text + "\r"))
}

// login unlocks the disk and logs in.
func (l *laptop) login() {
	l.t.Helper()
	l.must(l.m.Unlock(l.ctx, debian.Passphrase))
	l.must(l.m.Login(l.ctx, "root", debian.RootPassword))
}

// run runs a command in the machine, which must succeed.
func (l *laptop) run(command string) string {
	l.t.Helper()
	out, exit, err := l.m.Run(l.ctx, command)
	l.must(err)
	if exit != 0 {
		l.t.Fatalf("%s: exit %d: %s", command, exit, out)
	}
	return out
}

// install copies the programs in and does what the manual says.
func (l *laptop) install() {
	l.t.Helper()
	for _, name := range []string{"aem", "aem-setup"} {
		b, err := testbed.Program("./cmd/" + name)
		l.must(err)
		l.must(l.m.CopyIn(l.ctx, "/usr/bin/"+name, 0o755, b))
	}
	l.run("aem-setup init --medium /boot")
	l.run(fmt.Sprintf("echo %q | aem-setup secret set text", sentence))
	l.run("aem-setup seal --label Monday")
	l.run("aem-setup boot install --plain")
	out := l.run("aem-setup approve --yes")
	if strings.Contains(out, "Assumed") {
		l.t.Errorf("the approval assumes: %s", out)
	}
}

// proof demands the proof, confirms it, and goes on to the login.
func (l *laptop) proof() {
	l.t.Helper()
	l.expect(sentence)
	l.expect("this is not mine")
	l.typed("")
	l.login()
}

// refusal demands a refusal that names something, and boots on by the typed word.
func (l *laptop) refusal(what string) {
	l.t.Helper()
	l.expect("DID NOT PROVE ITSELF")
	l.expect(what)
	l.expect("boot on without proof")
	l.typed("UNPROVEN")
	l.login()
}

// Her key slot, her command line, an update, and the way back.
func TestFromNothingToTheProofAndBack(t *testing.T) {
	l := newLaptop(t, tpm.V20, drtm.SKINIT)
	l.on()
	l.login()
	l.install()
	l.off()

	l.on()
	l.proof()
	if out := l.run("aem log"); !strings.Contains(out, "Launch: verified") {
		t.Errorf("aem log says %s", out)
	}
	// An update of the initramfs, approved before the restart.
	l.run("echo dummy >>/etc/initramfs-tools/modules && update-initramfs -u")
	l.run("aem-setup approve --yes")
	l.off()
	l.on()
	l.proof()

	// The evil maid's key slot is noticed before the passphrase is typed.
	device := strings.TrimSpace(l.run("lsblk -pnro NAME,FSTYPE | awk '$2 == \"crypto_LUKS\" { print $1; exit }'"))
	l.run(fmt.Sprintf("printf '%%s' %q >/root/old; printf evil >/root/new", debian.Passphrase))
	l.run("cryptsetup luksAddKey --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /root/old " + device + " /root/new")
	l.off()
	l.on()
	l.refusal("disk header")
	l.run("cryptsetup luksRemoveKey --batch-mode " + device + " /root/new")
	l.off()

	// Her other try: another command line.
	boot := t.TempDir()
	l.must(l.disk.ReadBoot(boot))
	b, err := os.ReadFile(filepath.Join(boot, "grub/grub.cfg"))
	l.must(err)
	evil := strings.ReplaceAll(string(b), " ro ", " ro init=/bin/sh ")
	if evil == string(b) {
		t.Fatal("the boot entry has no word ro")
	}
	l.must(l.disk.WriteBoot("grub/grub.cfg", []byte(evil)))
	l.on()
	l.expect("DID NOT PROVE ITSELF")
	l.expect("kernel command line")
	l.m.Kill()
	l.must(l.disk.WriteBoot("grub/grub.cfg", b))

	// And away again.
	l.on()
	l.proof()
	l.run("aem-setup uninstall --yes")
	if out := l.run("ls /boot/aem 2>&1 || true; ls /etc/aem 2>&1 || true"); strings.Count(out, "No such file") != 2 {
		t.Errorf("after the uninstall there is %s", out)
	}
	l.off()
	l.on()
	l.login() // no proof, no question but the passphrase
}
