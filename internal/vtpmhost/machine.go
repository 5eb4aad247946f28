// Package vtpmhost is the machine under the vTPM manager: its TPM, what was launched on
// it, and the store of guests' TPMs that rests on both. The daemon and the owner's program have
// it in common.
package vtpmhost

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
	"github.com/antievilmaid/aem/vtpm/measure"
	"github.com/antievilmaid/aem/vtpm/root"
)

// DefaultState is the folder of the store in an installed system.
const DefaultState = "/var/lib/vtpmd"

// Where says where everything is.
type Where struct {
	TPM   string        // as device.Options.Spec
	Wait  time.Duration // for a TPM whose driver is not ready yet, or that other programs keep busy
	Log   string        // a file in place of the machine's own launch log
	State string        // the folder with root, store and journal
	Home  string        // anti-evil-maid's own folder
}

// Machine is the machine, with its TPM open.
type Machine struct {
	*aem.Machine
	where Where
	tpm   *shared
}

// Open opens the machine. With no TPM the error wraps [device.ErrNoTPM].
func Open(w Where) (*Machine, error) {
	d, err := device.Open(device.Options{Spec: w.TPM, Wait: w.Wait})
	if err != nil {
		return nil, err
	}
	ch := &shared{device: d, open: func() (*device.Device, error) { return device.Open(device.Options{Spec: w.TPM}) }}
	chip, err := aem.NewChip(ch, d.Version)
	if err != nil {
		d.Close()
		return nil, err
	}
	m := &Machine{Machine: &aem.Machine{Chip: chip, Log: aem.FindLog, Now: time.Now}, where: w, tpm: ch}
	if w.Log != "" {
		m.Log = func() (*aem.LaunchLog, error) { return aem.ReadLog(w.Log) }
	}
	return m, nil
}

// Close gives the TPM back.
func (m *Machine) Close() error { return m.tpm.Close() }

// Device is the node or socket of the TPM.
func (m *Machine) Device() string { return m.tpm.path() }

// home is where anti-evil-maid's own set-up is.
func (m *Machine) home() aem.Home { return aem.OpenHome(m.where.Home) }

func (m *Machine) rootDir() string { return filepath.Join(m.where.State, "root") }

// Store is the path of the store.
func (w Where) Store() string { return filepath.Join(w.State, "vtpms") }

// Store is the path of the store.
func (m *Machine) Store() string { return m.where.Store() }

// readable are the PCRs that guests can be told of.
var readable = tpm.PCRs(1<<16-1) | tpm.PCRSet(tpm.PCRCode, tpm.PCRData)

// Host is the machine as guests are told of it, by what its store's root opened on. That the
// TPM opened it says that the boot was approved; state and values say as what.
func (m *Machine) Host(r *root.Root) (measure.Host, error) {
	banks, err := m.Chip.ReadPCRs(readable)
	if err != nil {
		return measure.Host{}, err
	}
	h := measure.Host{Grade: measure.StaticRoot, PCRs: banks}
	launch := tpm.PCRSet(tpm.PCRCode, tpm.PCRData)
	for _, s := range r.Policy().States {
		if s.PCRs&launch == launch && s.Match(banks) {
			h.Grade = measure.Launched
		}
	}
	if h.Grade == measure.StaticRoot && !r.Policy().Static {
		return measure.Host{}, fmt.Errorf("the PCRs are not what they were when the store was opened: %w", seal.ErrMeasurements)
	}
	return h, nil
}

// Launched says what was launched, for people: the platform, or why nothing vouches for it.
func (m *Machine) Launched() (bool, string, error) {
	boot, err := m.Boot()
	if err != nil {
		return false, "", err
	}
	if boot.Launch.State != drtm.Verified {
		return false, boot.Launch.Reason, nil
	}
	grade, weak := boot.Grade()
	if weak != "" {
		grade += ". " + weak
	}
	return true, grade, nil
}

// exists reports whether something has a name, whatever it is.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
