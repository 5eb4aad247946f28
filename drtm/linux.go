package drtm

import (
	"errors"
	"fmt"

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

// ErrBanks says that the TPM's banks can't all be measured into.
var ErrBanks = errors.New("the TPM's banks can't all be measured into")

func (l LinuxLaunch) check() error {
	switch {
	case l.Version != tpm.V12 && l.Version != tpm.V20:
		return fmt.Errorf("%w: %s", ErrBanks, l.Version)
	case len(l.Algs) == 0:
		return fmt.Errorf("%w: none is known", ErrBanks)
	case l.Version == tpm.V12 && (len(l.Algs) != 1 || l.Algs[0] != tpm.SHA1):
		return fmt.Errorf("%w: a TPM 1.2 has a SHA-1 bank and no other", ErrBanks)
	}
	for _, a := range l.Algs {
		if !a.Available() {
			return fmt.Errorf("%w: digests for the %s bank can't be computed here", ErrBanks, a)
		}
	}
	return nil
}

// LaunchData is what the CPU hashes at locality 4: the measured part of the
// Secure Loader Block, or the SINIT module's hash and flags. It is nil where
// Measurements says why there is no launch.
func (l LinuxLaunch) LaunchData() []byte {
	data, err := launchData(l.Platform, l.Version, l.Loader)
	if err != nil {
		return nil
	}
	return data
}

// Measurements are all steps of the launch, in order; the first that changes a
// PCR is the CPU's own. The error wraps [ErrBanks], [ErrLoader] or [ErrKernel].
func (l LinuxLaunch) Measurements() ([]Measurement, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	hashed, err := launchData(l.Platform, l.Version, l.Loader)
	if err != nil {
		return nil, err
	}
	params, err := BootParams(l.Kernel)
	if err != nil {
		return nil, err
	}
	var ms []Measurement
	if l.Platform == TXT {
		ms = l.txtMeasurements(hashed)
	} else {
		ms = l.sklMeasurements(hashed)
	}
	return append(ms, l.kernelMeasurements(params)...), nil
}

// kernelMeasurements are those that Linux makes of what it depends on, before
// it uses any of it. Markers stand before and after them.
func (l LinuxLaunch) kernelMeasurements(params []byte) []Measurement {
	os := func(r Role, p tpm.PCR, text string, content []byte) Measurement {
		return l.measure(r, p, eventlog.Slaunch, []byte(text), content, localityOS)
	}
	bracket := l.marker(tpm.PCRCode, eventlog.NoAction, nil)
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

func (l LinuxLaunch) measure(r Role, p tpm.PCR, t eventlog.Type, data, content []byte, loc tpm.Locality) Measurement {
	return Measurement{Role: r, PCR: p, Type: t, Data: data, Digests: tpm.SumAll(l.Algs, content), Locality: loc}
}

// marker is an event that is logged and not extended. SINIT gives it digests of
// zeros, Linux those of nothing; the kind of digest follows the event's data.
func (l LinuxLaunch) marker(p tpm.PCR, t eventlog.Type, data []byte) Measurement {
	m := l.measure(RoleMarker, p, t, data, nil, localityOS)
	if t == eventlog.TXTPCRMapping {
		m.Locality = localityACM
		for i := range m.Digests {
			m.Digests[i].Digest = make(tpm.Digest, m.Digests[i].Alg.Size())
		}
	}
	return m
}
