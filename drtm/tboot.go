package drtm

import (
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// TbootLaunch is a launch of Intel's tboot, which measures and starts a kernel.
type TbootLaunch struct {
	Version tpm.Version
	Algs    []tpm.Alg
	Loader  []byte // the SINIT module
	Tboot   []byte
	Modules []Module // the kernel, or Xen, and what belongs to it
}

// simulatedPolicy stands for the policy that tboot enforces: the one in the TPM, or
// one built into it.
var simulatedPolicy = []byte("AEM simulation: no tboot policy")

func (l TbootLaunch) machine() machine { return machine{TXT, l.Version, l.Algs, l.Loader} }

// LaunchData is what the CPU hashes.
func (l TbootLaunch) LaunchData() []byte { return l.machine().launchData() }

// Measurements are all steps of the launch, in the order of real logs: the policy
// into PCRs 17 and 18, then the modules into PCR 17. The events have no data.
func (l TbootLaunch) Measurements() ([]Measurement, error) {
	m := l.machine()
	ms, err := m.measurements(l.Tboot)
	if err != nil {
		return nil, err
	}
	for i := range ms {
		if ms[i].Role == RoleKernel {
			ms[i].Role = RoleTboot
		}
	}
	tboot := func(r Role, p tpm.PCR, digests []tpm.TaggedDigest) {
		ms = append(ms, Measurement{Role: r, PCR: p, Type: eventlog.TbootMeasurement, Digests: digests, Locality: localityOS})
	}
	policy := tpm.SumAll(l.Algs, simulatedPolicy)
	tboot(RoleTbootPolicy, tpm.PCRCode, policy)
	tboot(RoleTbootPolicy, tpm.PCRData, policy)
	for i, module := range l.Modules {
		var digests []tpm.TaggedDigest
		for _, a := range l.Algs {
			digests = append(digests, tpm.TaggedDigest{Alg: a, Digest: a.Sum(TbootContent(a, module))})
		}
		tboot(moduleRole(i), tpm.PCRCode, digests)
	}
	return ms, nil
}

// TbootContent is what tboot hashes of a module: the hash of its command line,
// without the file's name, and the hash of the file.
func TbootContent(a tpm.Alg, m Module) []byte {
	return append(a.Sum([]byte(m.Line)), a.Sum(m.Content)...)
}
