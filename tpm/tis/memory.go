package tis

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// memory is /dev/mem, and the pages of it that are mapped. It differs from package
// physmem in that it writes, and that a mapping stays as long as the locality is held.
type memory struct {
	f     *os.File
	pages []byte
}

// openMemory opens /dev/mem. O_SYNC has the kernel map registers without a cache.
func openMemory(root string) (*memory, error) {
	f, err := os.OpenFile(filepath.Join(root, "dev/mem"), os.O_RDWR|os.O_SYNC, 0)
	switch {
	case errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("%w: %w", ErrNotRoot, err)
	case errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("%w: %w; it is locked down, as Secure Boot or lockdown= on its command line make it, or this process has not the capability CAP_SYS_RAWIO", ErrLockedDown, err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %w; it was built without it (CONFIG_DEVMEM), or this is a container", ErrLockedDown, err)
	case err != nil:
		return nil, fmt.Errorf("open the machine's memory: %w", err)
	}
	return &memory{f: f}, nil
}

// mapAt maps the registers. The error names who claims them.
func (m *memory) mapAt(address uint64, root string) (err error) {
	m.pages, err = unix.Mmap(int(m.f.Fd()), int64(address), Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, unix.EPERM):
		return fmt.Errorf("map the TPM's registers at %#x: %w", address, err)
	}
	err = fmt.Errorf("map %#x: %w", address, err)
	names := claims(root, address, Size)
	switch {
	case slices.Contains(names, "System RAM"):
		return fmt.Errorf("%w, but the machine's memory, which the kernel keeps closed (CONFIG_STRICT_DEVMEM): %w", ErrNotRegisters, err)
	case len(names) > 0:
		return fmt.Errorf("%w: %s has them by /proc/iomem, and the kernel gives nobody else what a driver has (CONFIG_IO_STRICT_DEVMEM, or iomem=strict on its command line); unbind that driver, or start the kernel with iomem=relaxed: %w", ErrRegionBusy, strings.Join(names, ", "), err)
	}
	return fmt.Errorf("%w, and /proc/iomem doesn't say who has them: %w", ErrRegionBusy, err)
}

func (m *memory) close() (err error) {
	if m.pages != nil {
		err = unix.Munmap(m.pages)
		m.pages = nil
	}
	return errors.Join(err, m.f.Close())
}

// claims lists who claims a part of a range by /proc/iomem, each once. Its lines are
// "  fed40000-fed44fff : MSFT0101:00", indented by what they lie in; to anybody but
// root their addresses are zeros.
func claims(root string, address, size uint64) (names []string) {
	f, err := os.Open(filepath.Join(root, "proc/iomem"))
	if err != nil {
		return nil
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		ends, name, ok := strings.Cut(strings.TrimSpace(s.Text()), " : ")
		first, last, _ := strings.Cut(ends, "-")
		from, err1 := strconv.ParseUint(first, 16, 64)
		to, err2 := strconv.ParseUint(last, 16, 64)
		// What is around the registers is no claim on them, and neither is the
		// chipset's window, which may be just as large.
		around := from < address || to > address+size-1 || strings.HasPrefix(name, "PCI Bus")
		if !ok || err1 != nil || err2 != nil || to < address || from > address+size-1 || around && name != "System RAM" || slices.Contains(names, name) {
			continue
		}
		names = append(names, name)
	}
	return names
}
