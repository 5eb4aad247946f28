// Package domctl asks Xen itself about a domain: a toolstack's hypercall
// (XEN_DOMCTL_getdomaininfo of Xen's public/domctl.h) through Linux's /dev/xen/privcmd. Unlike
// what stands in xenstore, no domain can write the answer.
//
// The hypercall is one of those whose form may change with each release of Xen: it
// carries a version, and Xen refuses all but its own. The part that is read here has
// had the same form since Xen 4.4.
package domctl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Device is where hypercalls are made.
const Device = "/dev/xen/privcmd"

const (
	hypercall        = 48<<16 | 'P'<<8 // the ioctl, with the size of its argument in the upper half
	opDomctl         = 36
	getDomainInfo    = 5
	firstVersion     = 0x0b // Xen 4.6
	lastVersion      = 0x24 // none yet
	requestSize      = 16 + 128
	paused           = 1 << 3
	offsetDomain     = 16
	offsetFlags      = offsetDomain + 4
	offsetCPUTime    = offsetDomain + 56
	offsetHandle     = offsetDomain + 76
	handleSize       = 16
	patienceForPages = 10
)

// ErrUnknownXen is wrapped where Xen takes none of the versions that this package knows.
var ErrUnknownXen = errors.New("this Xen's interface for toolstacks is not known")

// Domain is what Xen says of a domain.
type Domain struct {
	// Handle is the UUID that the toolstack gave it, the same one after a reboot.
	Handle [16]byte
	// Paused says that the toolstack holds it.
	Paused bool
	// CPUTime is how long its processors have run. It is 0 until the domain is let go for the first time.
	CPUTime time.Duration
}

// Ran says that the domain has run, or may be running by now.
func (d Domain) Ran() bool { return !d.Paused || d.CPUTime > 0 }

// Ask asks Xen. It is an error that there is no such domain (ESRCH), and that the own domain may
// not ask (EPERM).
func Ask(domain uint32) (Domain, error) {
	d, err := ask(domain)
	if err != nil {
		return d, fmt.Errorf("ask Xen about domain %d: %w", domain, err)
	}
	return d, nil
}

func ask(domain uint32) (Domain, error) {
	fd, err := unix.Open(Device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return Domain{}, err
	}
	defer unix.Close(fd)
	// Xen reads and writes the request by its address, so it must stay where it is in memory.
	page, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_LOCKED|unix.MAP_POPULATE)
	if err != nil {
		return Domain{}, fmt.Errorf("lock a page for Xen: %w", err)
	}
	defer unix.Munmap(page)
	for version := uint32(firstVersion); version <= lastVersion; version++ {
		err := call(fd, page, domain, version)
		if errors.Is(err, unix.EACCES) {
			continue
		}
		if err != nil {
			return Domain{}, err
		}
		return parse(page[:requestSize], domain)
	}
	return Domain{}, ErrUnknownXen
}

func call(fd int, page []byte, domain, version uint32) error {
	for try := 0; ; try++ {
		clear(page)
		binary.LittleEndian.PutUint32(page[0:], getDomainInfo)
		binary.LittleEndian.PutUint32(page[4:], version)
		binary.LittleEndian.PutUint16(page[8:], uint16(domain))
		a := struct{ op, arg0, arg1, arg2, arg3, arg4 uint64 }{op: opDomctl, arg0: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(page))))}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), hypercall, uintptr(unsafe.Pointer(&a)))
		if errno == 0 {
			return nil
		}
		// Even a locked page is away for a moment while the kernel moves it.
		if errno != unix.EFAULT || try == patienceForPages {
			return errno
		}
	}
}

// parse reads Xen's answer (struct xen_domctl_getdomaininfo).
func parse(b []byte, domain uint32) (Domain, error) {
	if got := binary.LittleEndian.Uint16(b[offsetDomain:]); uint32(got) != domain {
		return Domain{}, fmt.Errorf("it answered about domain %d: %w", got, unix.ESRCH)
	}
	return Domain{
		Handle:  [handleSize]byte(b[offsetHandle:]),
		Paused:  binary.LittleEndian.Uint32(b[offsetFlags:])&paused != 0,
		CPUTime: time.Duration(binary.LittleEndian.Uint64(b[offsetCPUTime:])),
	}, nil
}
