package physmem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Device is the machine's memory, through the kernel's /dev/mem.
type Device struct{ f *os.File }

// Open opens dev/mem in a folder: / on a machine, another one in tests. The error
// says what keeps this process from it, and wraps [ErrRefused] where the kernel does.
func Open(root string) (*Device, error) {
	path := filepath.Join(root, "dev/mem")
	f, err := os.Open(path)
	if err == nil {
		return &Device{f}, nil
	}
	err = fmt.Errorf("open the machine's memory: %w", err)
	switch {
	case errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("%w: %w; only root may", ErrRefused, err)
	case errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("%w: %w; %s", ErrRefused, err, lockdown(root))
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w; the kernel was built without it (CONFIG_DEVMEM), or this is a container", err)
	}
	return nil, err
}

// lockdown says why the kernel refuses /dev/mem even to root.
func lockdown(root string) string {
	// The mode in force stands in brackets: "none [integrity] confidentiality".
	b, err := os.ReadFile(filepath.Join(root, "sys/kernel/security/lockdown"))
	if err == nil {
		_, rest, _ := strings.Cut(string(b), "[")
		if mode, _, ok := strings.Cut(rest, "]"); ok && mode != "none" {
			return fmt.Sprintf("the kernel is locked down (%s), as Secure Boot or lockdown= on its command line make it", mode)
		}
	}
	return "root needs the capability CAP_SYS_RAWIO for it"
}

// Close closes the device.
func (d *Device) Close() error { return d.f.Close() }

// ReadAt reads physical memory. It maps the pages, because the kernel's read call
// reaches no register that lies above the machine's memory; where the kernel won't
// map them, it reads. The error wraps [ErrRefused] where the kernel forbids it.
func (d *Device) ReadAt(b []byte, address uint64) error {
	if err := check(address, uint64(len(b))); err != nil {
		return err
	}
	// Addresses have 52 bits at most; beyond 63, a file's offset would be negative.
	if address > 1<<62 {
		return fmt.Errorf("%w: no machine has memory at %#x", ErrRange, address)
	}
	mapped := d.readMapped(b, address)
	if mapped == nil {
		return nil
	}
	_, err := d.f.ReadAt(b, int64(address))
	if err == nil {
		return nil
	}
	err = fmt.Errorf("read %d bytes at %#x: %w, and mapping them: %w", len(b), address, err, mapped)
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: %w; it keeps ordinary memory closed (CONFIG_STRICT_DEVMEM), and with iomem=relaxed on its command line opens what a driver claims", ErrRefused, err)
	}
	return err
}

const word = 8

// readMapped copies out of a mapping in whole aligned words of 64 bits, because that
// is what a register is: in bytes it could change while it is read, and no chipset
// promises to answer reads that are wider.
func (d *Device) readMapped(b []byte, address uint64) (err error) {
	page := uint64(os.Getpagesize())
	start := address &^ (page - 1)
	skip := int(address - start)
	length := (uint64(skip+len(b)) + page - 1) &^ (page - 1)
	mem, err := unix.Mmap(int(d.f.Fd()), int64(start), int(length), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	defer unix.Munmap(mem)
	// A driver that claims the range takes the pages away under us.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			fault, ok := r.(interface{ Addr() uintptr }) // what the runtime makes of SIGBUS
			if !ok {
				panic(r)
			}
			err = fmt.Errorf("the mapped memory is gone at offset %#x", fault.Addr()-uintptr(unsafe.Pointer(&mem[0])))
		}
	}()
	var buf [word]byte
	for at := skip &^ (word - 1); at < skip+len(b); at += word {
		binary.NativeEndian.PutUint64(buf[:], atomic.LoadUint64((*uint64)(unsafe.Pointer(&mem[at]))))
		from, to := max(skip, at), min(skip+len(b), at+word)
		copy(b[from-skip:], buf[from-at:to-at])
	}
	return nil
}
