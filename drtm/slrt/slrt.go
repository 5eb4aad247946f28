// Package slrt reads the secure launch resource table, in which a boot loader
// tells a TrenchBoot environment what it was launched with: where the log lies,
// what must be measured into which PCR, and the registers to restore (TrenchBoot,
// Secure Launch specification, "SLRT").
//
// There are two layouts, and both call themselves revision 1. They are told apart
// by the sizes of their entries. The table lies in memory that is not measured as a
// whole, so what it says is hearsay.
package slrt

import (
	"encoding/binary"
	"fmt"

	"github.com/antievilmaid/aem/internal/wire"
)

var le = binary.LittleEndian

// Magic begins a table: "MTRD" in memory.
const Magic = 0x4452544d

const (
	headerSize = 16
	// maxSize is more than any loader gives a table: it shares one page, or the
	// unmeasured part of a loader block.
	maxSize = 64 << 10
)

// Layout is one of the two.
type Layout uint8

// The layouts, by the width of tag and size in an entry's header.
const (
	Old Layout = iota + 1 // 16 bits each: Xen up to 4.19's patches, Linux up to v8, GRUB 2.06
	New                   // 32 bits each: the specification since 0.6, Linux from v9, GRUB 2.12
)

// String names the layout.
func (l Layout) String() string {
	switch l {
	case Old:
		return "old layout"
	case New:
		return "new layout"
	}
	return fmt.Sprintf("layout %d", uint8(l))
}

func (l Layout) entryHeader() int {
	if l == Old {
		return 4
	}
	return 8
}

// Tag is the kind of an entry.
type Tag uint16

// The kinds.
const (
	TagDLInfo     Tag = 1
	TagLogInfo    Tag = 2
	TagPolicy     Tag = 3
	TagIntelInfo  Tag = 4
	TagAMDInfo    Tag = 5
	TagARMInfo    Tag = 6
	TagUEFIInfo   Tag = 7
	TagUEFIConfig Tag = 8
	TagEnd        Tag = 0xffff
)

var tagNames = map[Tag]string{
	TagDLInfo: "DL_INFO", TagLogInfo: "LOG_INFO", TagPolicy: "DRTM_POLICY", TagIntelInfo: "INTEL_INFO", TagAMDInfo: "AMD_INFO",
	TagARMInfo: "ARM_INFO", TagUEFIInfo: "UEFI_INFO", TagUEFIConfig: "UEFI_CONFIG", TagEnd: "END",
}

// String is the tag's name in the specification.
func (t Tag) String() string {
	if s, ok := tagNames[t]; ok {
		return s
	}
	return fmt.Sprintf("tag %d", uint16(t))
}

// Architecture is the kind of launch that the table is for.
type Architecture uint16

// The architectures.
const (
	TXT    Architecture = 1
	SKINIT Architecture = 2
)

// String names the architecture.
func (a Architecture) String() string {
	switch a {
	case TXT:
		return "Intel TXT"
	case SKINIT:
		return "AMD SKINIT"
	}
	return fmt.Sprintf("architecture %d", uint16(a))
}

// Table is a table.
type Table struct {
	Layout       Layout
	Revision     uint16
	Architecture Architecture
	Size, Max    uint32
	Entries      []Entry

	head, tail []byte
}

// Entry is one of its entries: the kind, and the bytes behind tag and size.
type Entry struct {
	Tag    Tag
	Body   []byte
	Offset int // of the entry in the table
}

// SyntaxError says where in a table something is wrong. What stands before it is in
// the table returned with it.
type SyntaxError struct {
	Offset int
	Entry  int
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("SLRT: entry %d at offset %#x: %s", e.Entry, e.Offset, e.Reason)
}

// Parse reads a table from its first byte. Bytes behind it are kept for AppendTo
// and not read.
func Parse(b []byte) (*Table, error) {
	r := wire.NewReader(b)
	if r.U32() != Magic {
		return nil, &SyntaxError{Reason: "no table begins here"}
	}
	t := &Table{Revision: r.U16(), Architecture: Architecture(r.U16()), Size: r.U32(), Max: r.U32()}
	switch {
	case r.Short():
		return nil, &SyntaxError{Reason: "its header is cut off"}
	case t.Size < headerSize || t.Size > maxSize || t.Max != 0 && t.Size > t.Max:
		return nil, &SyntaxError{Reason: fmt.Sprintf("it claims %d bytes, of at most %d", t.Size, t.Max)}
	}
	end := min(int(t.Size), len(b))
	t.Layout = findLayout(b[:end])
	t.head = b[:headerSize]
	at := headerSize
	for at < end {
		head := t.Layout.entryHeader()
		if end-at < head {
			break
		}
		tag, size := Tag(le.Uint16(b[at:])), int(le.Uint16(b[at+2:]))
		if t.Layout == New {
			wide := le.Uint32(b[at:])
			if wide > 0xffff {
				return t.cut(b, at, fmt.Sprintf("there is no tag %#x", wide))
			}
			tag, size = Tag(wide), int(le.Uint32(b[at+4:]))
		}
		if size < head || size > end-at {
			return t.cut(b, at, fmt.Sprintf("%s claims %d bytes, and %d are left", tag, size, end-at))
		}
		t.Entries = append(t.Entries, Entry{tag, b[at+head : at+size : at+size], at})
		at += size
		if tag == TagEnd {
			break
		}
	}
	t.tail = b[at:]
	if len(b) < int(t.Size) {
		return t, &SyntaxError{at, len(t.Entries), fmt.Sprintf("the table claims %d bytes, and %d are there", t.Size, len(b))}
	}
	if len(t.Entries) == 0 || t.Entries[len(t.Entries)-1].Tag != TagEnd {
		return t, &SyntaxError{at, len(t.Entries), "the table has no end"}
	}
	return t, nil
}

func (t *Table) cut(b []byte, at int, reason string) (*Table, error) {
	t.tail = b[at:]
	return t, &SyntaxError{at, len(t.Entries), reason}
}

// findLayout looks at the first entry, which is DL_INFO in every table: in the old
// layout its size stands in the two bytes that are the upper half of the tag in the
// new one, where they are zero.
func findLayout(b []byte) Layout {
	if len(b) >= headerSize+4 && le.Uint16(b[headerSize+2:]) != 0 {
		return Old
	}
	return New
}

// AppendTo appends the bytes that the table was read from.
func (t *Table) AppendTo(b []byte) []byte {
	b = append(b, t.head...)
	for _, e := range t.Entries {
		size := t.Layout.entryHeader() + len(e.Body)
		if t.Layout == Old {
			b = le.AppendUint16(le.AppendUint16(b, uint16(e.Tag)), uint16(size))
		} else {
			b = le.AppendUint32(le.AppendUint32(b, uint32(e.Tag)), uint32(size))
		}
		b = append(b, e.Body...)
	}
	return append(b, t.tail...)
}
