package handover

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ivshmem's PCI identity (QEMU, docs/specs/ivshmem-spec).
const (
	ivshmemVendor = "0x1af4"
	ivshmemDevice = "0x1110"
	// sharedBAR is the device's memory; the other regions are interrupts.
	sharedBAR = "resource2"
)

// Find looks for a hand-over in the machine's PCI devices, as root. It returns
// [ErrNone] where no device holds one. The result is a copy.
func Find() (Handover, error) { return FindUnder("/") }

// FindUnder is Find with the folder that holds sys.
func FindUnder(root string) (Handover, error) {
	// A machine without PCI has no such folder, and so no device.
	devices, err := filepath.Glob(filepath.Join(root, "sys/bus/pci/devices/*"))
	if err != nil {
		return Handover{}, fmt.Errorf("list the PCI devices: %w", err)
	}
	for _, dev := range devices {
		if !isIvshmem(dev) {
			continue
		}
		// Other uses of the same kind of device may stand beside ours.
		h, err := read(dev)
		if err == nil || !errors.Is(err, ErrNone) {
			return h, err
		}
	}
	return Handover{}, ErrNone
}

func isIvshmem(dev string) bool {
	for name, want := range map[string]string{"vendor": ivshmemVendor, "device": ivshmemDevice} {
		b, err := os.ReadFile(filepath.Join(dev, name))
		if err != nil || strings.TrimSpace(string(b)) != want {
			return false
		}
	}
	return true
}

func read(dev string) (Handover, error) {
	f, err := os.Open(filepath.Join(dev, sharedBAR))
	if err != nil {
		return Handover{}, fmt.Errorf("open the memory of the device that hands a launch over: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Handover{}, fmt.Errorf("learn the size of the hand-over: %w", err)
	}
	if CheckSize(info.Size()) != nil {
		return Handover{}, ErrNone // some other use of shared memory
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return Handover{}, fmt.Errorf("map the hand-over: %w", err)
	}
	defer unix.Munmap(mem)
	// A copy, because the memory is shared: what is checked must be what is used.
	return Parse(append([]byte(nil), mem...))
}
