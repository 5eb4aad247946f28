// Package skl reads the headers of a Secure Loader Block: what AMD's SKINIT wants
// (AMD64 Architecture Programmer's Manual, volume 2, "Secure Loader Block"), and
// what the Secure Kernel Loader adds to it.
package skl

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/internal/wire"
)

// ErrNoBlock says that bytes are no Secure Loader Block.
var ErrNoBlock = errors.New("this is no Secure Loader Block")

// MaxSize is the size of the block that SKINIT protects and can measure.
const MaxSize = 64 << 10

// infoUUID begins the Secure Kernel Loader's own header,
// 78f1268e-0492-11e9-832a-c85b76c4cc02.
var infoUUID = []byte{0x78, 0xf1, 0x26, 0x8e, 0x04, 0x92, 0x11, 0xe9, 0x83, 0x2a, 0xc8, 0x5b, 0x76, 0xc4, 0xcc, 0x02}

// Block is a Secure Loader Block.
type Block struct {
	Entry  uint16 // where SKINIT jumps to
	Length int    // bytes that SKINIT measures, from the first on
	// Measured are those bytes.
	Measured []byte
	// Loader is nil where the block is not the Secure Kernel Loader's.
	Loader *Loader
}

// Loader is what the Secure Kernel Loader says of itself.
type Loader struct {
	Version uint32
	// InfoOffset and DataOffset are where its header lies and where the boot
	// loader's data begin: the SLRT, in loaders of today. Both count from the block.
	InfoOffset, DataOffset uint16
}

// header is the part of a block that the CPU reads: entry and length.
const header = 4

// Parse reads a block from its first byte.
func Parse(b []byte) (*Block, error) {
	r := wire.NewReader(b)
	blk := &Block{Entry: r.U16(), Length: int(r.U16())}
	if blk.Length == 0 {
		blk.Length = MaxSize
	}
	switch {
	case r.Short():
		return nil, fmt.Errorf("%w: a block of %d bytes has no header", ErrNoBlock, len(b))
	case blk.Length < header:
		return nil, fmt.Errorf("%w: it says that %d bytes of it count, which is less than its header", ErrNoBlock, blk.Length)
	case blk.Length > len(b):
		return nil, fmt.Errorf("%w: it says that %d bytes of it count, but it has %d", ErrNoBlock, blk.Length, len(b))
	case int(blk.Entry) >= blk.Length:
		return nil, fmt.Errorf("%w: it starts to run at offset %d, behind the %d bytes that are measured", ErrNoBlock, blk.Entry, blk.Length)
	}
	blk.Measured = b[:blk.Length]
	blk.Loader = parseLoader(b)
	return blk, nil
}

// parseLoader finds the loader's header by the offsets that its two versions keep
// at two places.
func parseLoader(b []byte) *Loader {
	for _, at := range []int{4, 66} {
		if at+4 > len(b) {
			continue
		}
		r := wire.NewReader(b[at:])
		l := &Loader{InfoOffset: r.U16(), DataOffset: r.U16()}
		if int(l.InfoOffset) >= len(b) || !bytes.HasPrefix(b[l.InfoOffset:], infoUUID) {
			continue
		}
		r = wire.NewReader(b[l.InfoOffset:])
		r.Bytes(16)
		l.Version = r.U32()
		if r.Short() {
			return nil
		}
		return l
	}
	return nil
}
