//go:build debian

package daily_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/debian"
)

// Her key slot, her command line, an update, and the way back.
func TestFromNothingToTheProofAndBack(t *testing.T) {
	l := installed(t, plain)
	l.on()
	l.proof()
	if out := l.run("aem log"); !strings.Contains(out, "Launch: verified") {
		t.Errorf("aem log says %s", out)
	}
	l.nothingIsLeft("lighthouse keeper")
	l.guestsTPMs()
	// An update of the initramfs, approved before the restart.
	l.run(noteInitramfs)
	l.run("aem-setup approve --yes")
	l.off()
	l.on()
	l.proof()
	l.guestsTPMsStayClosed() // nobody ran vtpmctl approve

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
	l.run("! tpm2_getcap handles-nv-index | diff /root/nv-before -") // the counter is there
	l.run("aem-setup uninstall --yes")
	l.run("tpm2_getcap handles-nv-index | diff /root/nv-before -")
	if out := l.run("ls /boot/aem 2>&1 || true; ls /etc/aem 2>&1 || true"); strings.Count(out, "No such file") != 2 {
		t.Errorf("after the uninstall there is %s", out)
	}
	l.run("dpkg --purge aem")
	if out := l.run("ls /usr/bin/aem* /var/lib/aem /etc/systemd/system/*/vtpmd.service 2>&1 || true"); strings.Count(out, "No such file") != 3 {
		t.Errorf("after the package was purged there is %s", out)
	}
	l.off()
	l.on()
	l.login() // no proof, no question but the passphrase
}
