//go:build debian

package daily_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/bootside"
	"github.com/antievilmaid/aem/internal/debian"
	"github.com/antievilmaid/aem/tpm"
)

// beyond is what must not be on the serial line before the owner let the boot go on:
// a question for a passphrase, a shell.
var beyond = regexp.MustCompile(`(?i)passphrase for disk|emergency mode|dracut:/|sh-\d\.\d#|press enter for maintenance`)

// nothingBeyond demands that so far nothing was.
func (l *laptop) nothingBeyond() {
	l.t.Helper()
	if found := beyond.Find(l.m.Transcript()); found != nil {
		l.t.Errorf("%q came before the owner's answer", found)
	}
}

// impatience is dracut's: so many seconds for all devices, in place of 180. systemd
// gives up a device after 90 seconds, and longer is longer than both.
const impatience, longer = "rd.retry=5", 100 * time.Second

// Firmware's tables can give systemd settings and files, before anything else runs
// (systemd.system-credentials(7)), which the last word forbids.
const (
	credential = "io.systemd.credential:tmpfiles.extra=w /dev/kmsg - - - - by.the.maid"
	forbidden  = " " + bootside.CredentialsWord
)

// systemd starts what it can as early as it can, gives up what does not come, and
// offers a shell then. None of this leads past the proof.
func TestWithDracut(t *testing.T) {
	l := newLaptop(t, kind{variant: debian.Variant{Initramfs: debian.Dracut}, tpm: tpm.V20, platform: drtm.SKINIT})
	l.on()
	l.login()
	l.run("sed -i 's/ quiet$/ quiet " + impatience + forbidden + "/' /boot/grub/grub.cfg && grep -q rd.retry /boot/grub/grub.cfg")
	l.install()
	l.off()

	l.c.Extra = []string{"-smbios", "type=11,value=" + credential}
	l.on()
	l.expect(sentence)
	l.expect("this is not mine")
	// An owner who thinks for long is not passed over.
	patience, cancel := context.WithTimeout(l.ctx, longer)
	if g, err := l.m.Expect(patience, beyond.String()+`|start job`); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody answered, and then came %q, %v", g, err)
	}
	cancel()
	l.nothingBeyond()
	l.typed("")
	l.login()
	if out := l.run("aem log"); !strings.Contains(out, "Launch: verified") {
		t.Errorf("aem log says %s", out)
	}
	if out := l.run("dmesg"); strings.Contains(out, "by.the.maid") {
		t.Error("systemd did what firmware's tables say")
	}
	if out := l.run("ls -A /run/systemd/ask-password"); out != "" {
		t.Errorf("a question is left: %s", out)
	}
	l.off()

	// The evil maid's file in the initramfs.
	boot := t.TempDir()
	l.must(l.disk.ReadBoot(boot))
	names, err := filepath.Glob(filepath.Join(boot, "initrd.img-*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%v: the initramfs is one of %v", err, names)
	}
	good, err := os.ReadFile(names[0])
	l.must(err)
	// The kernel skips zeros after an archive, and they are loaded all the same.
	l.must(l.disk.WriteBoot(filepath.Base(names[0]), append(bytes.Clone(good), make([]byte, 512)...)))
	l.on()
	l.expect("DID NOT PROVE ITSELF")
	l.expect("initramfs")
	l.expect("boot on without proof")
	l.nothingBeyond()
	l.typed("UNPROVEN")
	_, err = l.m.ExpectPassphrasePrompt(l.ctx)
	l.must(err)
	l.m.Kill()
	l.must(l.disk.WriteBoot(filepath.Base(names[0]), good))

	// Her command line, which asks for a shell at once.
	menu, err := os.ReadFile(filepath.Join(boot, "grub/grub.cfg"))
	l.must(err)
	l.must(l.disk.WriteBoot("grub/grub.cfg", bytes.ReplaceAll(menu, []byte(" quiet "), []byte(" quiet rd.systemd.unit=emergency.target rd.break=pre-mount "))))
	l.on()
	l.expect("DID NOT PROVE ITSELF")
	l.expect("kernel command line")
	l.expect("boot on without proof")
	l.nothingBeyond()
	l.typed("UNPROVEN")
	l.expect("emergency mode")
	l.m.Kill()
}
