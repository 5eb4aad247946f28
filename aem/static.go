package aem

import (
	"fmt"
	"slices"

	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// staticNames say what the PCRs of the static root hold: the firmware's (TCG PC Client
// Platform Firmware Profile, clause 3.3.4), and those of GRUB's measuring module (GRUB
// manual, "Measured Boot").
var staticNames = [...]string{
	"firmware's code", "firmware's settings", "code of plugged-in cards", "settings of plugged-in cards",
	"boot loader's code", "boot loader's settings and partition table", "machine maker's measurements", "Secure Boot's state and keys",
	"boot loader's commands and the kernel's command line", "files that the boot loader read: kernel, initramfs, menu",
}

// The PCRs of the boot loader: where they hold nothing, nobody measured what it started.
const pcrLoaderCommands, pcrLoaderFiles tpm.PCR = 8, 9

var staticPCRs = func() (s tpm.PCRs) {
	for p := range tpm.PCR(len(staticNames)) {
		s |= tpm.PCRSet(p)
	}
	return s
}()

// isStatic reports whether a state rests on what firmware and boot loader measured, and
// not on a dynamic launch.
func isStatic(s *seal.State) bool { return s.PCRs&launchPCRs == 0 }

func allStatic(states []seal.State) bool {
	return len(states) > 0 && !slices.ContainsFunc(states, func(s seal.State) bool { return !isStatic(&s) })
}

// readFor reads the PCRs that states demand and that were not read yet.
func (m *Machine) readFor(b *Boot, states []seal.State) error {
	var more tpm.PCRs
	for i := range states {
		more |= states[i].PCRs &^ sealedPCRs
	}
	if more == 0 {
		return nil
	}
	banks, err := m.Chip.ReadPCRs(more)
	if err != nil {
		return err
	}
	for i := range banks {
		for j := range b.PCRs {
			if b.PCRs[j].Alg != banks[i].Alg {
				continue
			}
			for p := range more.All() {
				b.PCRs[j].Values[p] = banks[i].Values[p]
			}
		}
	}
	return nil
}

// StaticState is the approved state that the present boot stands for on a machine
// without a dynamic launch: what the firmware and the boot loader measured of themselves,
// read off the PCRs. It is the weaker grade, for who chooses it knowing that.
//
// Where the boot loader measures nothing it is refused: kernel and initramfs could be
// exchanged, and the secret would be shown all the same.
func (m *Machine) StaticState(b *Boot, label string) (*seal.State, error) {
	s := &seal.State{Label: label, PCRs: staticPCRs | tpm.PCRSet(tpm.PCRHost)}
	if err := m.readFor(b, []seal.State{*s}); err != nil {
		return nil, err
	}
	for _, alg := range b.PCRs.Algs() {
		if alg == tpm.SHA1 && len(b.PCRs) > 1 {
			continue
		}
		bank := tpm.Bank{Alg: alg}
		bank.Reset(tpm.PCRSet(tpm.PCRHost), false)
		for _, d := range b.Disks {
			if err := bank.Extend(d.PCR, tpm.Find(d.Digests, alg)); err != nil {
				return nil, fmt.Errorf("compute the measurement of the %s: %w", d.Name, err)
			}
		}
		for p := range staticPCRs.All() {
			bank.Values[p] = b.PCRs.Value(alg, p)
		}
		for _, p := range []tpm.PCR{0, pcrLoaderCommands, pcrLoaderFiles} {
			if v := bank.Values[p]; v == nil || v.All(0) || v.All(0xff) {
				return nil, notPossible("PCR %d holds no measurement in the %s bank: nothing vouches for the %s; GRUB measures them under UEFI with its module tpm", p, alg, staticNames[p])
			}
		}
		s.Values = append(s.Values, bank)
	}
	s.Measured = append(b.staticMeasured(), b.Disks...)
	return s, nil
}

// staticMeasured lists what the PCRs of the static root hold, each as one measurement.
func (b *Boot) staticMeasured() []seal.Measurement {
	var list []seal.Measurement
	for p := range staticPCRs.All() {
		x := seal.Measurement{Name: staticNames[p], PCR: p}
		for i := range b.PCRs {
			x.Digests = append(x.Digests, tpm.TaggedDigest{Alg: b.PCRs[i].Alg, Digest: b.PCRs[i].Values[p]})
		}
		list = append(list, x)
	}
	return list
}
