package aem_test

import (
	"errors"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// firmware starts the machine and lets its firmware and boot loader measure.
func (l *laptop) firmware(measured map[tpm.PCR]string) {
	l.t.Helper()
	l.restart()
	banks, err := l.Chip.ReadPCRs(tpm.PCRSet(0))
	l.must(err)
	for p, text := range measured {
		l.must(l.Chip.Extend(p, tpm.SumAll(banks.Algs(), []byte(text))))
	}
}

// usual is what an ordinary boot under UEFI and GRUB measures.
func usual() map[tpm.PCR]string {
	return map[tpm.PCR]string{0: "firmware", 4: "grub", 7: "secure boot", 8: "linux /vmlinuz ro", 9: "vmlinuz, initrd"}
}

func (l *laptop) sealStatic() error {
	l.t.Helper()
	boot, err := l.Boot()
	l.must(err)
	state, err := l.StaticState(boot, "without a launch")
	if err != nil {
		return err
	}
	_, err = l.Seal(l.home, []seal.State{*state}, nil)
	return err
}

// Without a launch the secret opens on the boot that was sealed to, says that it is the
// weaker grade, and opens once; whatever of firmware, boot loader, command line or files
// differs is named.
func TestTheStaticRootProvesAndNamesWhatDiffers(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			l := newLaptop(t, v, drtm.SKINIT)
			l.firmware(usual())
			_, err := l.Init(l.home, l.medium, nil)
			l.must(err)
			l.must(l.SetText(l.home, []byte(sentence)))
			l.must(l.sealStatic())

			l.firmware(usual())
			if _, weak := l.wantProof().Boot.Grade(); weak == "" {
				t.Error("the grade does not say that it is a weaker one")
			}
			if o := l.outcome(); !o.Proved() || o.State != "without a launch" {
				t.Errorf("the running system is told %+v", o)
			}
			l.wantRefusal(aem.CauseAlready, aem.ExitMeasurements)
			for p, name := range map[tpm.PCR]string{
				0: "firmware's code", 4: "boot loader's code", 7: "Secure Boot's state and keys",
				8: "boot loader's commands and the kernel's command line", 9: "files that the boot loader read: kernel, initramfs, menu",
			} {
				evil := usual()
				evil[p] = "evil"
				l.firmware(evil)
				r := l.wantRefusal(aem.CauseChanged, aem.ExitMeasurements)
				if len(r.Changes) != 1 || r.Changes[0].What != name || r.Changes[0].Before == "" || r.Changes[0].After == "" {
					t.Errorf("PCR %d: the refusal names %+v", p, r.Changes)
				}
			}
			l.firmware(usual())
			if _, err := l.PlanApproval(l.home, "", "", nil); !errors.Is(err, aem.ErrNotPossible) {
				t.Errorf("the next boot was computed from the static root: %v", err)
			}
			l.wantProof()
		})
	}
}

// Where the boot loader measures nothing, another kernel would be shown the secret as well.
func TestAStaticRootWithoutTheBootLoaderIsRefused(t *testing.T) {
	l := newLaptop(t, tpm.V20, drtm.SKINIT)
	for _, p := range []tpm.PCR{0, 8, 9} {
		boot := usual()
		delete(boot, p)
		l.firmware(boot)
		if p == 0 {
			_, err := l.Init(l.home, l.medium, nil)
			l.must(err)
			l.must(l.SetText(l.home, []byte(sentence)))
		}
		if err := l.sealStatic(); !errors.Is(err, aem.ErrNotPossible) {
			t.Errorf("without a measurement in PCR %d: %v", p, err)
		}
	}
}

// A launched machine is not shown a record of the static root as if it were of the launch.
func TestALaunchDoesNotRaiseTheGradeOfAStaticRecord(t *testing.T) {
	l := newLaptop(t, tpm.V20, drtm.SKINIT)
	l.firmware(usual())
	_, err := l.Init(l.home, l.medium, nil)
	l.must(err)
	l.must(l.SetText(l.home, []byte(sentence)))
	l.must(l.sealStatic())
	l.boot() // launched, with other firmware measurements
	l.wantRefusal(aem.CauseChanged, aem.ExitMeasurements)
}
