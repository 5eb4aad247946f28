package txt

import (
	"errors"

	"github.com/antievilmaid/aem/internal/wire"
)

// OSMLE is the boot loader's table for a TrenchBoot environment, in either of its
// two layouts (TrenchBoot, Secure Launch specification, "OS-MLE").
type OSMLE struct {
	Version    uint32
	BootParams uint64 // the kernel's zero page, or the multiboot information
	SLRT       uint64 // address of the secure launch resource table
	TXTInfo    uint64
}

// ErrNoOSMLE says that the table is none of TrenchBoot's; tboot's is private to it.
var ErrNoOSMLE = errors.New("the boot loader's table in the TXT heap is none of TrenchBoot's")

// ParseOSMLE reads the table. The layouts do not name themselves: the older has
// addresses of 32 bits, and 88 bytes together; in the newer, the half words above
// the addresses are zero, because a loader puts all of this below 4 GiB.
func ParseOSMLE(b []byte) (*OSMLE, error) {
	const oldSize, newSize = 88, 104
	if len(b) < oldSize {
		return nil, ErrNoOSMLE
	}
	if len(b) >= newSize {
		r := wire.NewReader(b)
		t := OSMLE{Version: r.U32()}
		reserved := r.U32()
		t.BootParams, t.SLRT, t.TXTInfo = r.U64(), r.U64(), r.U64()
		if reserved == 0 && plausible(t) {
			return &t, nil
		}
	}
	r := wire.NewReader(b)
	t := OSMLE{Version: r.U32(), BootParams: uint64(r.U32()), SLRT: uint64(r.U32()), TXTInfo: uint64(r.U32())}
	if !plausible(t) {
		return nil, ErrNoOSMLE
	}
	return &t, nil
}

func plausible(t OSMLE) bool {
	const lowest = 0x1000 // the first page holds the interrupt vectors
	return t.Version > 0 && t.Version < 16 && t.SLRT >= lowest && t.SLRT < 1<<32 && t.BootParams < 1<<32
}
