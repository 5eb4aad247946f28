// Package grant maps pages that other domains have granted to ours, through Linux's
// /dev/xen/gntdev (include/uapi/xen/gntdev.h).
//
// A mapped page stays what it is when its domain dies: Xen keeps the frame, and the domain
// half alive, until the last mapping goes. So an access never faults, and who maps must also
// let go. While it is mapped, the other domain may write to it at any moment.
package grant

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Device is where pages are mapped.
const Device = "/dev/xen/gntdev"

// PageSize is the size of a granted page, in bytes.
const PageSize = 4096

// The ioctl numbers have the size of their argument in the upper half.
const (
	mapReference   = 24<<16 | 'G'<<8
	unmapReference = 16<<16 | 'G'<<8 | 1
)

type mapArgument struct {
	count, _  uint32
	index     uint64 // the answer: where in the device the page lies
	domain    uint32
	reference uint32
}

type unmapArgument struct {
	index    uint64
	count, _ uint32
}

// Page is another domain's page in our memory.
type Page struct {
	device int
	index  uint64
	memory []byte
}

// Map maps the page that a domain granted under a reference, for reading and writing.
func Map(domain, reference uint32) (*Page, error) {
	fd, err := unix.Open(Device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", Device, err)
	}
	a := mapArgument{count: 1, domain: domain, reference: reference}
	if err := ioctl(fd, mapReference, unsafe.Pointer(&a)); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("map grant %d of domain %d: %w", reference, domain, err)
	}
	p := &Page{device: fd, index: a.index}
	if p.memory, err = unix.Mmap(fd, int64(a.index), PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, errors.Join(fmt.Errorf("map grant %d of domain %d: %w", reference, domain, err), p.release())
	}
	return p, nil
}

// Words is the page, as the words in which it is read and written atomically. Nothing may
// touch them after Close: the address is nobody's then.
func (p *Page) Words() *[PageSize / 4]uint32 {
	return (*[PageSize / 4]uint32)(unsafe.Pointer(unsafe.SliceData(p.memory)))
}

// Close lets go of the page.
func (p *Page) Close() error {
	return errors.Join(unix.Munmap(p.memory), p.release())
}

func (p *Page) release() error {
	u := unmapArgument{index: p.index, count: 1}
	err := ioctl(p.device, unmapReference, unsafe.Pointer(&u))
	return errors.Join(err, unix.Close(p.device))
}

func ioctl(fd int, request uintptr, argument unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(argument)); e != 0 {
		return e
	}
	return nil
}
