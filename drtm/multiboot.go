package drtm

import "encoding/binary"

// Where a simulated loader puts the modules.
const (
	simulatedModules = 0x0200_0000
	pageSize         = 4096
)

// multibootInfo is the Multiboot 2 information that a simulated loader leaves for
// Xen (Multiboot 2 specification, clause 3.6): the command line, the loader's
// name, a tag for each module with its addresses, the end. A real loader's also
// holds the memory map and more, which no file on the disk tells.
func multibootInfo(line string, modules []Module) []byte {
	const (
		tagEnd, tagLine, tagLoader, tagModule = 0, 1, 2, 3
		align                                 = 8
	)
	b := make([]byte, 8) // total size, reserved
	tag := func(kind uint32, body []byte) {
		b = binary.LittleEndian.AppendUint32(b, kind)
		b = binary.LittleEndian.AppendUint32(b, uint32(8+len(body)))
		b = append(b, body...)
		for len(b)%align != 0 {
			b = append(b, 0)
		}
	}
	tag(tagLine, append([]byte(line), 0))
	tag(tagLoader, []byte("AEM simulation\x00"))
	at := uint32(simulatedModules)
	for _, m := range modules {
		end := at + uint32(len(m.Content))
		body := binary.LittleEndian.AppendUint32(nil, at)
		body = binary.LittleEndian.AppendUint32(body, end)
		tag(tagModule, append(append(body, m.Line...), 0))
		at = (end + pageSize - 1) &^ (pageSize - 1)
	}
	tag(tagEnd, nil)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	return b
}
