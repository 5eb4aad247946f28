package aem

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/antievilmaid/aem/internal/luks"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// diskPrefix is how a state's measurement of a LUKS header is called.
const diskPrefix = "disk header "

// ErrDisk says that a disk whose header is to be measured is not there, or can't be
// measured.
var ErrDisk = errors.New("a disk's header can't be measured")

// ReadDisks measures the LUKS headers with these UUIDs, in ascending order: key slots,
// key material, segments, digests, and not what a system changes by itself. A disk that
// is not there yet is waited for. Two with the same UUID are refused: nobody could say
// which of them will be opened. root is the folder in which dev and sys lie, "/" on a
// machine.
func ReadDisks(root string, uuids []string, wait time.Duration) (func([]tpm.Alg) ([]seal.Measurement, error), error) {
	if len(uuids) == 0 {
		return nil, nil
	}
	var found []luks.Volume
	for deadline := time.Now().Add(wait); ; time.Sleep(50 * time.Millisecond) {
		volumes, err := luks.Find(root)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDisk, err)
		}
		if found, err = pick(volumes, uuids); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return nil, err
		}
	}
	return func(algs []tpm.Alg) ([]seal.Measurement, error) {
		var list []seal.Measurement
		for _, v := range found {
			list = append(list, seal.Measurement{Name: diskPrefix + v.Header.UUID, PCR: tpm.PCRHost, Digests: v.Header.Measure(algs)})
		}
		return list, nil
	}, nil
}

// pick finds the volumes of the UUIDs, each exactly once.
func pick(volumes []luks.Volume, uuids []string) ([]luks.Volume, error) {
	wanted := slices.Clone(uuids)
	slices.Sort(wanted)
	var found []luks.Volume
	for _, uuid := range slices.Compact(wanted) {
		i := slices.IndexFunc(volumes, func(v luks.Volume) bool { return v.Header != nil && strings.EqualFold(v.Header.UUID, uuid) })
		if i < 0 {
			return nil, fmt.Errorf("%w: there is no LUKS volume %s", ErrDisk, uuid)
		}
		found = append(found, volumes[i])
	}
	return found, nil
}

// disks measures what the machine is to measure beside the launch.
func (m *Machine) disks(algs []tpm.Alg) ([]seal.Measurement, error) {
	if m.Disks == nil {
		return nil, nil
	}
	return m.Disks(algs)
}

// measureDisks extends the headers of the machine's disks into the PCR that every
// policy holds. What the PCR then holds is computed and not read again: the TPM's
// policy decides, and each command costs time on the way to the proof.
func (m *Machine) measureDisks(b *Boot) error {
	for _, d := range b.Disks {
		if err := m.Chip.Extend(d.PCR, d.Digests); err != nil {
			return fmt.Errorf("measure the %s: %w", d.Name, err)
		}
		for i := range b.PCRs {
			if err := b.PCRs[i].Extend(d.PCR, tpm.Find(d.Digests, b.PCRs[i].Alg)); err != nil {
				return fmt.Errorf("measure the %s: %w", d.Name, err)
			}
		}
	}
	return nil
}

// LogicalVolumes are the logical volumes, as group/volume, that LUKS volumes with these
// UUIDs are. While a machine boots they have to be activated before their headers can be
// measured.
func LogicalVolumes(uuids []string) ([]string, error) {
	volumes, err := luks.Find("/")
	if err != nil {
		return nil, fmt.Errorf("look for encrypted disks: %w", err)
	}
	found, err := pick(volumes, uuids)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, v := range found {
		if name := v.LogicalVolume("/"); name != "" {
			list = append(list, name)
		}
	}
	return list, nil
}

// RootDisks are the UUIDs of the LUKS volumes that this system's root lies on, and
// of all others that are opened in it. The error wraps [*luks.UnencryptedError] where
// the root is on none.
func RootDisks() ([]string, error) {
	volumes, err := luks.Find("/")
	if err != nil {
		return nil, fmt.Errorf("look for encrypted disks: %w", err)
	}
	roots, err := luks.Root("/", volumes)
	if err != nil {
		return nil, fmt.Errorf("look what the root lies on: %w", err)
	}
	var list []string
	for _, v := range roots {
		if v.Header == nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrDisk, v.Device, v.Err)
		}
		list = append(list, v.Header.UUID)
	}
	return list, nil
}
