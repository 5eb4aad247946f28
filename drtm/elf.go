package drtm

import (
	"math"

	"github.com/antievilmaid/aem/internal/wire"
)

// Of an ELF file's program header (System V ABI, "Program Loading"): the kind that is
// loaded, and the lengths that a header has at least.
const (
	elfLoad                       = 1
	elfProgram32, elfProgram64    = 32, 56
	elfIs32, elfIs64, elfIsLittle = 1, 2, 1
)

// maxLoaded bounds a loaded image: Xen takes some megabytes.
const maxLoaded = 256 << 20

// segment is a part of an ELF file that is loaded.
type segment struct{ offset, address, inFile, inMemory uint64 }

// segments are those that an ELF file of a little-endian machine has loaded; none for
// other files. Package debug/elf knows the same, and brings decompressors and DWARF into
// an initramfs with it.
func segments(b []byte) []segment {
	r := wire.NewReader(b)
	if string(r.Bytes(4)) != "\x7fELF" {
		return nil
	}
	class, order := r.U8(), r.U8()
	if order != elfIsLittle {
		return nil
	}
	var table uint64
	r.Bytes(10 + 2 + 2 + 4) // the identification's rest, type, machine, version
	least := uint64(elfProgram32)
	switch class {
	case elfIs64:
		r.U64() // entry
		table = r.U64()
		r.U64() // section headers
		least = elfProgram64
	case elfIs32:
		r.U32()
		table = uint64(r.U32())
		r.U32()
	default:
		return nil
	}
	r.Bytes(4 + 2) // flags, this header's length
	size, count := uint64(r.U16()), uint64(r.U16())
	if r.Short() || size < least || table > uint64(len(b)) || size*count > uint64(len(b))-table {
		return nil
	}
	var list []segment
	for i := range count {
		p := wire.NewReader(b[table+i*size:])
		kind := p.U32()
		var s segment
		if class == elfIs64 {
			p.U32() // flags
			s.offset = p.U64()
			p.U64() // virtual address
			s.address, s.inFile, s.inMemory = p.U64(), p.U64(), p.U64()
		} else {
			s.offset = uint64(p.U32())
			p.U32()
			s.address, s.inFile, s.inMemory = uint64(p.U32()), uint64(p.U32()), uint64(p.U32())
		}
		if kind == elfLoad && s.inMemory > 0 {
			list = append(list, s)
		}
	}
	return list
}

// loadedELF is an ELF file as a loader lays it out in memory, from the lowest
// physical address of a segment to the highest; nil for other files.
func loadedELF(b []byte) []byte {
	low, high := uint64(math.MaxUint64), uint64(0)
	list := segments(b)
	for _, s := range list {
		if s.address > math.MaxUint64-s.inMemory {
			return nil
		}
		low, high = min(low, s.address), max(high, s.address+s.inMemory)
	}
	if high <= low || high-low > maxLoaded {
		return nil
	}
	image := make([]byte, high-low)
	for _, s := range list {
		if s.inFile > s.inMemory {
			continue
		}
		if s.offset > uint64(len(b)) || s.inFile > uint64(len(b))-s.offset {
			return nil
		}
		copy(image[s.address-low:], b[s.offset:s.offset+s.inFile])
	}
	return image
}
