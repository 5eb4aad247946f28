package tis

import (
	"fmt"
	"runtime/debug"
	"unsafe"
)

// mapped are registers that are mapped into this process. This file alone touches
// them, in accesses of the width that its methods are named after. The functions that
// do it must not be inlined: so each call stays one plain load or store, which the
// compiler neither splits nor joins nor drops. The stores of sync/atomic won't do: on
// x86 they are exchanges, which read the register before they write it.
type mapped struct{ memory []byte }

func (m mapped) Read8(offset uint32) uint8           { return load8(&m.memory[offset]) }
func (m mapped) Read32(offset uint32) uint32         { return load32(m.word(offset)) }
func (m mapped) Write8(offset uint32, value uint8)   { store8(&m.memory[offset], value) }
func (m mapped) Write32(offset uint32, value uint32) { store32(m.word(offset), value) }

// word is a register of 32 bits. Registers are aligned, and so are the pages they are in.
func (m mapped) word(offset uint32) *uint32 {
	return (*uint32)(unsafe.Pointer(&m.memory[offset : offset+4][0]))
}

//go:noinline
func load8(p *uint8) uint8 { return *p }

//go:noinline
func load32(p *uint32) uint32 { return *p }

//go:noinline
func store8(p *uint8, v uint8) { *p = v }

//go:noinline
func store32(p *uint32, v uint32) { *p = v }

// guarded does something with registers. When a driver claims them, the kernel takes
// the pages away from under this process (its revoke_iomem); that is an error like others.
func guarded(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			fault, ok := r.(interface{ Addr() uintptr }) // what the runtime makes of SIGBUS
			if !ok {
				panic(r)
			}
			err = fmt.Errorf("%w: their mapping is gone, at %#x", ErrRegionBusy, fault.Addr())
		}
	}()
	return do()
}
