package txt

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/internal/wire"
)

// ErrNoMLE says that a file has no header of a launched environment.
var ErrNoMLE = errors.New("this file has no header of a launched environment (MLE)")

// MLEUUID begins the header of a launched environment, wherever in the file that
// stands (SDG, section 2.1).
var MLEUUID = [16]byte{0x5a, 0xac, 0x82, 0x90, 0x6f, 0x47, 0xa7, 0x74, 0x0f, 0x5c, 0x55, 0xa2, 0xcb, 0x51, 0xb6, 0x42}

// MLE is that header: 52 bytes in the kernel, in Xen or in tboot.
type MLE struct {
	Offset           int // of the header in the file
	Length           uint32
	Minor, Major     uint16
	Entry            uint32 // from the start of what is launched
	FirstPage        uint32
	Start, End       uint32 // of what is measured
	Capabilities     uint32
	CommandLineStart uint32
	CommandLineEnd   uint32
}

const mleHeader = 52

// FindMLE looks for the header in a file.
func FindMLE(b []byte) (*MLE, error) {
	at := bytes.Index(b, MLEUUID[:])
	if at < 0 {
		return nil, ErrNoMLE
	}
	r := wire.NewReader(b[at:])
	r.Bytes(16)
	m := &MLE{Offset: at, Length: r.U32(), Minor: r.U16(), Major: r.U16(), Entry: r.U32(), FirstPage: r.U32(), Start: r.U32(), End: r.U32(), Capabilities: r.U32()}
	m.CommandLineStart, m.CommandLineEnd = r.U32(), r.U32()
	if r.Short() || m.Length < mleHeader {
		return nil, fmt.Errorf("%w: the one at offset %#x is cut off", ErrNoMLE, at)
	}
	return m, nil
}

// capabilityNames are the bits of the capabilities of modules and environments
// (SDG, section 2.1 and appendix C.3).
var capabilityNames = []struct {
	bit  uint
	name string
}{
	{0, "GETSEC wake-up"}, {1, "MONITOR wake-up"}, {2, "page table in ECX"}, {3, "STM"}, {4, "no legacy PCR use"}, {5, "details and authorities"},
	{8, "large addresses"}, {9, "TCG 2.0 log"}, {10, "CBnT"}, {14, "TPR"},
}

// Capabilities names the bits of a capability word.
func Capabilities(v uint32) []string {
	var list []string
	for _, c := range capabilityNames {
		if v&(1<<c.bit) != 0 {
			list = append(list, c.name)
		}
	}
	return list
}
