//go:build debian

package daily_test

import (
	"testing"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/debian"
	"github.com/antievilmaid/aem/tpm"
)

// The first proof, an update that is refused because nobody approved it, and the way back,
// on other machines than the plain one.
func TestOtherMachines(t *testing.T) {
	for name, k := range map[string]kind{
		"TPM 1.2":        {variant: plain.variant, tpm: tpm.V12, platform: drtm.TXT},
		"UEFI":           {variant: plain.variant, firmware: debian.UEFI, tpm: tpm.V20, platform: drtm.TXT},
		"two disks, LVM": {variant: debian.Variant{Initramfs: debian.InitramfsTools, LVM: true, Two: true}, tpm: tpm.V20, platform: drtm.SKINIT},
		"LUKS on LVM":    {variant: debian.Variant{Initramfs: debian.InitramfsTools, OnLVM: true}, tpm: tpm.V20, platform: drtm.SKINIT},
	} {
		t.Run(name, func(t *testing.T) {
			l := installed(t, k)
			l.on()
			l.proof()
			l.run(noteInitramfs)
			l.off()
			l.on()
			l.refusal("initramfs")
			l.run("aem-setup approve --yes")
			l.off()
			l.on()
			l.proof()
		})
	}
}
