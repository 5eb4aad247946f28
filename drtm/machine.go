package drtm

import (
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// machine is what every launch needs: the platform and its loader, and the TPM's
// family and banks.
type machine struct {
	platform Platform
	version  tpm.Version
	algs     []tpm.Alg
	loader   []byte
}

// ErrBanks says that the TPM's banks can't all be measured into.
var ErrBanks = errors.New("the TPM's banks can't all be measured into")

func (l machine) check() error {
	switch {
	case l.version != tpm.V12 && l.version != tpm.V20:
		return fmt.Errorf("%w: %s", ErrBanks, l.version)
	case len(l.algs) == 0:
		return fmt.Errorf("%w: none is known", ErrBanks)
	case l.version == tpm.V12 && (len(l.algs) != 1 || l.algs[0] != tpm.SHA1):
		return fmt.Errorf("%w: a TPM 1.2 has a SHA-1 bank and no other", ErrBanks)
	}
	for _, a := range l.algs {
		if !a.Available() {
			return fmt.Errorf("%w: digests for the %s bank can't be computed here", ErrBanks, a)
		}
	}
	return nil
}

// launchData is what the CPU hashes, or nil where there is no launch.
func (l machine) launchData() []byte {
	data, err := launchData(l.platform, l.version, l.loader)
	if err != nil {
		return nil
	}
	return data
}

// measurements are those of the CPU and of its loader, up to the image that they launch.
func (l machine) measurements(image []byte) ([]Measurement, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	hashed, err := launchData(l.platform, l.version, l.loader)
	if err != nil {
		return nil, err
	}
	if l.platform == TXT {
		return l.txtMeasurements(hashed, image), nil
	}
	return l.sklMeasurements(hashed, image), nil
}

// os is a measurement that the launched code makes.
func (l machine) os(r Role, p tpm.PCR, text string, content []byte) Measurement {
	return l.measure(r, p, eventlog.Slaunch, []byte(text), content, localityOS)
}

func (l machine) measure(r Role, p tpm.PCR, t eventlog.Type, data, content []byte, loc tpm.Locality) Measurement {
	return Measurement{Role: r, PCR: p, Type: t, Data: data, Digests: tpm.SumAll(l.algs, content), Locality: loc}
}

// marker is an event that is logged and not extended. SINIT gives it digests of
// zeros, Linux those of nothing; the kind of digest follows the event's data.
func (l machine) marker(p tpm.PCR, t eventlog.Type, data []byte) Measurement {
	m := l.measure(RoleMarker, p, t, data, nil, localityOS)
	if t == eventlog.TXTPCRMapping {
		m.Locality = localityACM
		for i := range m.Digests {
			m.Digests[i].Digest = make(tpm.Digest, m.Digests[i].Alg.Size())
		}
	}
	return m
}
