package drtm

import (
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// sklMeasurements are the CPU's and those of the Secure Kernel Loader. The
// first is in the log but not extended by the loader: the CPU did that.
func (l machine) sklMeasurements(hashed, image []byte) []Measurement {
	text := func(s string) []byte { return []byte(s) }
	return []Measurement{
		l.measure(RoleLoader, tpm.PCRCode, eventlog.Slaunch, text("SKINIT"), hashed, localityCPU),
		l.measure(RoleEntryOffset, tpm.PCRCode, eventlog.Slaunch, text("DLME entry offset"), entryOffset(image), localityOS),
		l.measure(RoleKernel, tpm.PCRCode, eventlog.Slaunch, text("DLME"), image, localityOS),
	}
}
