package stage1

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/u-root/u-root/pkg/boot/kexec"
	"github.com/u-root/u-root/pkg/boot/multiboot"
)

// What a BIOS leaves in low memory, and where Xen and Linux look for it.
const (
	page       = 4096
	endOfLow   = 640 << 10
	ebdaWord   = 0x40e // the extended BIOS data area's segment, 16 bits
	lowKiBWord = 0x413 // KiB of memory below that area, 16 bits
	// rootPointerAt is where the pointer stands in that area: anywhere at a multiple of
	// 16 in its first KiB (ACPI 6.5, clause 5.2.5.1). Its first byte is its size in KiB.
	rootPointerAt = 16
	copierAt      = 2048 // behind all that is searched
	// Xen puts its code that starts CPUs into the 64 KiB below the area, if that lies
	// above 256 KiB (xen/arch/x86/boot/head.S, trampoline_bios_setup).
	trampolineSize = 64 << 10
	lowestEBDA     = 256 << 10
)

// Types in Multiboot 1's map of memory (clause 3.3).
const (
	ram      = 1
	reserved = 2
	acpi     = 3
	acpiNVS  = 4
)

// withRootPointer adds what a BIOS would have left in memory: page 0 with the address of
// an extended BIOS data area, and this area with a copy of ACPI's root pointer. Xen
// looks there and nowhere else, however it was started from here (docs/launch.md). Both
// pages are reserved in the map of memory that Xen is given, for two reasons: Xen then
// keeps its hands off them, and it shows dom0 such pages at their own addresses, so that
// dom0's kernel finds the pointer in the same way.
//
// Page 0 holds nothing else: no interrupt vectors, so nothing must call a BIOS.
func (x prepared) withRootPointer(line string, pointer rootPointer) (prepared, error) {
	info, err := findInfo(x.segments, line)
	if err != nil {
		return x, err
	}
	size, at := binary.LittleEndian.Uint32(info[infoMapSize:]), binary.LittleEndian.Uint32(info[infoMap:])
	i := slices.IndexFunc(x.segments, func(s kexec.Segment) bool { return s.Phys.Start == uintptr(at) })
	if i < 0 || uint32(len(x.segments[i].Buf)) < size {
		return x, errors.New("the map of memory for Xen is not where its loader says")
	}
	m := make([]multiboot.MemoryMap, int(size)/binary.Size(multiboot.MemoryMap{}))
	if _, err := binary.Decode(x.segments[i].Buf[:size], binary.LittleEndian, m); err != nil {
		return x, fmt.Errorf("read the map of memory for Xen: %w", err)
	}
	if !slices.ContainsFunc(m, func(e multiboot.MemoryMap) bool {
		return (e.Type == acpi || e.Type == acpiNVS) && pointer.address >= e.BaseAddr && pointer.address-e.BaseAddr < e.Length
	}) {
		return x, fmt.Errorf("the firmware says that ACPI's root pointer is at %#x, which is not memory for ACPI's tables", pointer.address)
	}
	ebda, err := roomForEBDA(m)
	if err != nil {
		return x, err
	}
	m = reserve(reserve(m, 0), ebda)
	b, err := binary.Append(nil, binary.LittleEndian, m)
	if err != nil || uint(len(b)) > x.segments[i].Phys.Size {
		return x, fmt.Errorf("the map of memory for Xen has no room for %d entries", len(m))
	}

	segments := slices.Clone(x.segments)
	segments[i].Buf = b
	binary.LittleEndian.PutUint32(info[infoMapSize:], uint32(len(b)))
	binary.LittleEndian.PutUint32(info[infoLower:], uint32(ebda>>10))

	zero, area := make([]byte, page), make([]byte, page)
	binary.LittleEndian.PutUint16(zero[ebdaWord:], uint16(ebda>>4))
	binary.LittleEndian.PutUint16(zero[lowKiBWord:], uint16(ebda>>10))
	area[0] = page >> 10
	copy(area[copierAt:], pointer.copier(ebda+rootPointerAt, uint64(x.entry)))
	segments.Insert(kexec.NewSegment(zero, kexec.Range{Start: 0, Size: page}))
	segments.Insert(kexec.NewSegment(area, kexec.Range{Start: uintptr(ebda), Size: page}))
	return prepared{uintptr(ebda + copierAt), segments}, nil
}

// roomForEBDA is the highest page of low memory with room for Xen's trampoline below.
func roomForEBDA(m []multiboot.MemoryMap) (ebda uint64, err error) {
	zero := false
	for _, e := range m {
		if e.Type != ram || e.BaseAddr >= endOfLow || e.Length > ^e.BaseAddr {
			continue
		}
		zero = zero || e.BaseAddr == 0 && e.Length >= page
		top := min(e.BaseAddr+e.Length, endOfLow) &^ (page - 1)
		if start := max(e.BaseAddr, page); top >= start+trampolineSize+page && top-page >= lowestEBDA {
			ebda = max(ebda, top-page)
		}
	}
	if !zero || ebda == 0 {
		return 0, errors.New("the firmware keeps the memory in which a BIOS leaves the address of ACPI's tables: page 0, and 68 KiB below 640 KiB, have to be free")
	}
	return ebda, nil
}

// reserve takes a page out of the memory that is free.
func reserve(m []multiboot.MemoryMap, at uint64) []multiboot.MemoryMap {
	var out []multiboot.MemoryMap
	for _, e := range m {
		if e.Type != ram || at < e.BaseAddr || at-e.BaseAddr >= e.Length {
			out = append(out, e)
			continue
		}
		before, taken, behind := e, e, e
		before.Length = at - e.BaseAddr
		taken.BaseAddr, taken.Length, taken.Type = at, page, reserved
		behind.BaseAddr, behind.Length = at+page, e.Length-before.Length-page
		for _, x := range []multiboot.MemoryMap{before, taken, behind} {
			if x.Length > 0 {
				out = append(out, x)
			}
		}
	}
	return out
}
