package tis

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// drivers are the kernel's drivers of memory-mapped TPMs, by their names in sysfs.
// Others reach their TPM over another bus, or it is no chip at all: their registers
// are not where this package looks.
var drivers = []string{"tpm_tis", "tpm_crb"}

// Driver is the kernel's driver that a TPM was taken from.
type Driver struct {
	// Name is the driver's (tpm_tis or tpm_crb), and Device the device's on its bus:
	// MSFT0101:00 on the platform or the ACPI bus, 00:05 on the PNP bus. Both are
	// empty where no driver had a TPM.
	Name, Device string

	folder string // the driver's in sysfs; empty when there is nothing to give back
}

// Unbind takes the TPM from its driver. The kernel then releases the registers, so
// that they can be mapped although it keeps claimed ones closed. It is refused where
// a program has the TPM open: that program would get errors, or, as the kernel counts
// references, keep a TPM without a driver. Users in the kernel can't be seen: IMA keeps
// the TPM that it found at its start, and after Restore that one is dead and
// the next is called tpm1. root is the folder that holds dev, sys and proc.
func Unbind(root string) (*Driver, error) {
	chips, err := filepath.Glob(filepath.Join(root, "sys/class/tpm/tpm*"))
	if err != nil || len(chips) == 0 {
		return &Driver{}, err
	}
	if len(chips) > 1 {
		return nil, fmt.Errorf("%w: the kernel has %d TPMs, and which of them has the registers is not known", ErrDriver, len(chips))
	}
	chip := filepath.Base(chips[0])
	// Links are followed now: they are gone when the driver is.
	device, err := filepath.EvalSymlinks(filepath.Join(chips[0], "device"))
	if err != nil {
		return nil, fmt.Errorf("%w: find %s's device: %w", ErrDriver, chip, err)
	}
	folder, err := filepath.EvalSymlinks(filepath.Join(device, "driver"))
	if err != nil {
		return nil, fmt.Errorf("%w: find %s's driver: %w", ErrDriver, chip, err)
	}
	d := &Driver{Name: filepath.Base(folder), Device: filepath.Base(device)}
	if !slices.Contains(drivers, d.Name) {
		return nil, fmt.Errorf("%w: %s is driven by %s, and only %s reach their TPM through memory", ErrDriver, chip, d.Name, strings.Join(drivers, " and "))
	}
	if users := users(root, chip); len(users) > 0 {
		return nil, fmt.Errorf("%w by %s; stop that first", ErrInUse, strings.Join(users, ", "))
	}
	if err := tell(folder, "unbind", d.Device); err != nil {
		return nil, fmt.Errorf("take the TPM from the driver %s: %w", d.Name, err)
	}
	d.folder = folder
	return d, nil
}

// Restore gives the TPM back to the driver it was taken from. Doing it twice does
// nothing the second time. By hand it is: echo DEVICE > /sys/bus/BUS/drivers/NAME/bind.
func (d *Driver) Restore() error {
	if d == nil || d.folder == "" {
		return nil
	}
	err := tell(d.folder, "bind", d.Device)
	// Somebody else may have been quicker.
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("give the TPM back to the driver %s (write %s into %s to do it by hand): %w", d.Name, d.Device, filepath.Join(d.folder, "bind"), err)
	}
	d.folder = ""
	return nil
}

// tell writes a device's name into one of a driver's files. The kernel answers in the
// write's return value.
func tell(folder, file, device string) error {
	f, err := os.OpenFile(filepath.Join(folder, file), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", ErrNotRoot, err)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(device)
	return errors.Join(err, f.Close())
}

// users lists the programs that have a TPM's device nodes open, each once, as far as
// /proc shows them. A program that opens one a moment later is not seen.
func users(root, chip string) (names []string) {
	nodes := []string{"/dev/" + chip, "/dev/" + strings.Replace(chip, "tpm", "tpmrm", 1)}
	links, _ := filepath.Glob(filepath.Join(root, "proc/[0-9]*/fd/*"))
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !slices.Contains(nodes, target) {
			continue
		}
		process := filepath.Dir(filepath.Dir(link))
		name, err := os.ReadFile(filepath.Join(process, "comm"))
		if err != nil {
			name = []byte("a program")
		}
		who := fmt.Sprintf("%q (process %s)", strings.TrimSpace(string(name)), filepath.Base(process))
		if !slices.Contains(names, who) {
			names = append(names, who)
		}
	}
	return names
}
