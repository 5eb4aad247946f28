package testbed

import (
	"encoding/binary"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
)

// SampleLaunch is a launch of small files that have the form of real ones.
func SampleLaunch(p drtm.Platform, v tpm.Version) drtm.LinuxLaunch {
	l := drtm.LinuxLaunch{
		Platform: p, Version: v, Algs: []tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512},
		Loader: []byte("a SINIT module"), Kernel: BzImage("kernel"), Initrd: []byte("an initramfs"), CommandLine: "root=/dev/xvda quiet",
	}
	if p == drtm.SKINIT {
		l.Loader = make([]byte, 100) // of which 64 bytes are measured
		copy(l.Loader, []byte{16, 0, 64, 0})
		copy(l.Loader[16:], "loader")
	}
	if v == tpm.V12 {
		l.Algs = []tpm.Alg{tpm.SHA1}
	}
	return l
}

// BzImage is a small file with a whole Linux setup header.
func BzImage(code string) []byte {
	b := make([]byte, 4096)
	b[0x1f1] = 3
	copy(b[0x1fe:], []byte{0x55, 0xaa, 0xeb, 0x6a})
	copy(b[0x202:], "HdrS\x0f\x02")
	b[0x211] = 1 // LOADED_HIGH
	binary.LittleEndian.PutUint32(b[0x260:], 0x01234000)
	copy(b[2048:], code)
	return b
}

// Extend extends a PCR at a locality, and goes back to locality 0.
func Extend(t *swtpm.TPM, v tpm.Version, at tpm.Locality, p tpm.PCR, digests []tpm.TaggedDigest) error {
	if err := t.SetLocality(at); err != nil {
		return err
	}
	extend := tpm2.New(t).Extend
	if v == tpm.V12 {
		extend = tpm12.New(t).Extend
	}
	if err := extend(p, digests); err != nil {
		return err
	}
	return t.SetLocality(0)
}

// LaunchLinux does to a started TPM what CPU, loader and kernel do in a secure
// launch, and returns the event log's memory.
func LaunchLinux(t *swtpm.TPM, l drtm.LinuxLaunch) ([]byte, error) {
	measurements, err := l.Measurements()
	if err != nil {
		return nil, err
	}
	if err := t.Launch(l.LaunchData()); err != nil {
		return nil, err
	}
	for _, m := range measurements {
		if !m.Extended() || m.ByCPU() {
			continue
		}
		if err := Extend(t, l.Version, m.Locality, m.PCR, m.Digests); err != nil {
			return nil, err
		}
	}
	log, err := drtm.BuildLog(l.Platform, l.Version, l.Algs, measurements)
	if err != nil {
		return nil, err
	}
	return log.AppendTo(nil)
}
