package drtm

import (
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// LinuxLaunch is a secure launch of Linux: the things that will be measured.
type LinuxLaunch struct {
	Platform Platform
	Version  tpm.Version
	// Algs are the TPM's banks. A TPM 1.2 has SHA-1 alone.
	Algs []tpm.Alg
	// Loader is the Secure Loader Block for SKINIT, the SINIT module for TXT.
	Loader []byte
	// Kernel is a bzImage. The whole file is measured: on a machine the
	// loader takes only its protected-mode part, but an emulator's firmware
	// also runs the rest.
	Kernel []byte
	// Initrd is the initramfs; with none, nothing is measured for it.
	Initrd []byte
	// CommandLine is the kernel's, without an end of line.
	CommandLine string
}

// LaunchData is what the CPU hashes at locality 4: the measured part of the
// Secure Loader Block, or the SINIT module's hash and flags. It is nil where
// Measurements says why there is no launch.
func (l LinuxLaunch) LaunchData() []byte { return l.machine().launchData() }

// Measurements are all steps of the launch, in order; the first that changes a
// PCR is the CPU's own. The error wraps [ErrBanks], [ErrLoader] or [ErrKernel].
func (l LinuxLaunch) Measurements() ([]Measurement, error) {
	params, err := BootParams(l.Kernel)
	if err != nil {
		return nil, err
	}
	ms, err := l.machine().measurements(l.Kernel)
	if err != nil {
		return nil, err
	}
	return append(ms, l.kernelMeasurements(params)...), nil
}

func (l LinuxLaunch) machine() machine { return machine{l.Platform, l.Version, l.Algs, l.Loader} }

// kernelMeasurements are those that Linux makes of what it depends on, before
// it uses any of it. Markers stand before and after them.
func (l LinuxLaunch) kernelMeasurements(params []byte) []Measurement {
	os := l.machine().os
	bracket := l.machine().marker(tpm.PCRCode, eventlog.NoAction, nil)
	ms := []Measurement{
		bracket,
		os(RoleSLRT, tpm.PCRData, "Measured SLR Table", slrtEntry(l.Platform)),
		os(RoleBootParams, tpm.PCRData, "Measured boot parameters", params),
		os(RoleCommandLine, tpm.PCRData, "Measured Kernel command line", []byte(l.CommandLine)),
	}
	if l.Platform == TXT {
		ms = append(ms, os(RoleOSMLE, tpm.PCRData, "Measured TXT OS-MLE data", osMLEData()))
	}
	if l.Initrd != nil {
		ms = append(ms, os(RoleInitrd, tpm.PCRCode, "Measured Kernel initrd", l.Initrd))
	}
	return append(ms, bracket)
}
