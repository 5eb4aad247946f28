//go:build debian

package daily_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/debian"
	"github.com/antievilmaid/aem/tpm"
)

// A machine without a dynamic launch rests on OVMF and GRUB, whose measurements are real:
// the proof says that it is the weaker grade, and another command line is refused.
func TestTheStaticRoot(t *testing.T) {
	l := newLaptop(t, kind{variant: plain.variant, firmware: debian.UEFI, tpm: tpm.V20, platform: drtm.TXT})
	l.c.Launch = nil
	l.on()
	l.login()
	l.installPackage()
	l.run("aem-setup init --medium /boot")
	l.run(fmt.Sprintf("echo %q | aem-setup secret set text", sentence))
	l.run("aem-setup seal --static-root")
	l.run("aem-setup boot install --plain")
	l.off()

	// Nobody computes what GRUB will measure of another initramfs, so this is refused once.
	l.on()
	l.refusal("files that the boot loader read")
	l.run("aem-setup seal --static-root")
	l.off()

	l.on()
	l.expect("No dynamic launch")
	l.expect("this is not mine")
	l.typed("")
	l.login()
	l.off()

	boot := t.TempDir()
	l.must(l.disk.ReadBoot(boot))
	b, err := os.ReadFile(filepath.Join(boot, "grub/grub.cfg"))
	l.must(err)
	l.must(l.disk.WriteBoot("grub/grub.cfg", []byte(strings.ReplaceAll(string(b), " ro ", " ro init=/bin/sh "))))
	l.on()
	l.expect("DID NOT PROVE ITSELF")
	l.expect("boot loader's commands")
	l.m.Kill()
	l.must(l.disk.WriteBoot("grub/grub.cfg", b))
	l.on()
	l.expect(sentence)
}
