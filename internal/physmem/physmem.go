// Package physmem reads physical memory: the machine's own through /dev/mem, or
// what somebody captured of another one.
//
// It only reads, and only what it is asked for, byte for byte. That matters: an
// address often comes out of a table that an attacker could write, and a read of
// the wrong device register can change what the device does. So a caller checks
// where a range comes from, and this package checks that it is one: not at address
// zero, not around the end of the address space, and not larger than [MaxRead].
// What it returns is a copy, which does not change while it is being checked.
package physmem

import (
	"errors"
	"fmt"
)

// MaxRead is the most that one read may ask for, in bytes. Nothing that a launch
// leaves in memory comes near it.
const MaxRead = 16 << 20

// Memory is physical memory.
type Memory interface {
	// ReadAt fills b with the bytes from a physical address on. Where it can't
	// fill all of it, it returns an error, and b holds nothing of use.
	ReadAt(b []byte, address uint64) error
}

// Reasons why a read gave nothing.
var (
	// ErrRange says that an address and a size describe no memory, so nothing was
	// asked of the machine.
	ErrRange = errors.New("this is no range of memory")
	// ErrMissing says that a capture does not hold the range.
	ErrMissing = errors.New("the capture does not hold this memory")
	// ErrRefused says that the kernel does not let this process read the range.
	ErrRefused = errors.New("the kernel does not let this memory be read")
)

// Read returns a copy of size bytes at an address. The size may come from a hostile
// table: nothing is allocated before the range is checked.
func Read(m Memory, address, size uint64) ([]byte, error) {
	if err := check(address, size); err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if err := m.ReadAt(b, address); err != nil {
		return nil, err
	}
	return b, nil
}

// check demands that a range is one. The end may be the end of the address space,
// but not lie behind it.
func check(address, size uint64) error {
	switch {
	case address == 0:
		return fmt.Errorf("%w: its address is zero", ErrRange)
	case size == 0:
		return fmt.Errorf("%w: at %#x, it has no bytes", ErrRange, address)
	case size > MaxRead:
		return fmt.Errorf("%w: at %#x, it has %d bytes, and no more than %d are read at once", ErrRange, address, size, MaxRead)
	case address+(size-1) < address:
		return fmt.Errorf("%w: %d bytes at %#x wrap around", ErrRange, size, address)
	}
	return nil
}
