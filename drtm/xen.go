package drtm

import (
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
)

// XenLaunch is a secure launch of Xen: the things that will be measured.
type XenLaunch struct {
	Platform    Platform
	Version     tpm.Version
	Algs        []tpm.Alg
	Loader      []byte
	Xen         []byte
	CommandLine string   // Xen's
	Modules     []Module // dom0's kernel, its initramfs, and more
	// EFI is a launch of xen.efi, which measures each module's command line for
	// itself; otherwise Xen was started by Multiboot 2.
	EFI bool
}

// ErrTarget says that nobody knows what such a launch measures.
var ErrTarget = errors.New("what this kind of launch measures is not known")

func (l XenLaunch) machine() machine { return machine{l.Platform, l.Version, l.Algs, l.Loader} }

// LaunchData is what the CPU hashes.
func (l XenLaunch) LaunchData() []byte { return l.machine().launchData() }

// Measurements are all steps of the launch. The order and the texts are those of
// real logs of Xen 4.17 with the patches of TrenchBoot; the text of what Xen
// measures by Multiboot 2 is the same for every module. The error wraps [ErrBanks],
// [ErrLoader] or [ErrTarget].
func (l XenLaunch) Measurements() ([]Measurement, error) {
	if l.EFI && l.Platform == TXT {
		return nil, fmt.Errorf("%w: no launch of xen.efi by Intel TXT was ever seen", ErrTarget)
	}
	ms, err := l.machine().measurements(l.Xen)
	if err != nil {
		return nil, err
	}
	for i := range ms {
		if ms[i].Role == RoleKernel {
			ms[i].Role = RoleHypervisor
		}
	}
	if l.EFI {
		return append(ms, l.efiMeasurements()...), nil
	}
	return append(ms, l.multibootMeasurements()...), nil
}

func (l XenLaunch) multibootMeasurements() []Measurement {
	os := l.machine().os
	ms := []Measurement{os(RoleBootInfo, tpm.PCRData, "", multibootInfo(l.CommandLine, l.Modules))}
	if l.Platform == TXT {
		ms = append(ms,
			os(RoleSLRT, tpm.PCRData, "", intelInfo()),
			os(RoleOSMLE, tpm.PCRData, "Measured TXT OS-MLE data", osMLEData()))
	}
	for i, m := range l.Modules {
		ms = append(ms, os(moduleRole(i), tpm.PCRCode, "Measured MB2 module", m.Content))
	}
	return ms
}

func (l XenLaunch) efiMeasurements() []Measurement {
	os := l.machine().os
	ms := []Measurement{
		os(RoleSLRT, tpm.PCRData, "", amdInfo()),
		os(RoleCommandLine, tpm.PCRData, "Xen's command line", []byte(l.CommandLine)),
	}
	for i, m := range l.Modules {
		ms = append(ms,
			os(RoleModuleLine, tpm.PCRData, "MB module string", []byte(m.Line)),
			os(moduleRole(i), tpm.PCRCode, "MB module", m.Content))
	}
	return ms
}

// moduleRole is what the module at a position is, by Xen's convention.
func moduleRole(i int) Role {
	switch i {
	case 0:
		return RoleKernel
	case 1:
		return RoleInitrd
	}
	return RoleModule
}
