package eventlog

import (
	"fmt"
	"strings"

	"github.com/antievilmaid/aem/internal/wire"
)

// DevicePath says where a program or a disk is found (UEFI clause 10.3).
type DevicePath []PathNode

// PathNode is one step of a path. The end is a node, too.
type PathNode struct {
	Type, SubType uint8
	Data          Raw
}

// decodePath reads nodes up to the end of the bytes. Some firmware pads a path,
// or leaves its end node out; both are kept.
func decodePath(b []byte) (DevicePath, bool) {
	r := wire.NewReader(b)
	var p DevicePath
	for r.Left() > 0 {
		n := PathNode{Type: r.U8(), SubType: r.U8()}
		size := uint32(r.U16())
		if r.Short() || size < 4 {
			return nil, false
		}
		if n.Data = r.Bytes(size - 4); r.Short() {
			return nil, false
		}
		p = append(p, n)
	}
	return p, true
}

// AppendTo appends the path's bytes.
func (p DevicePath) AppendTo(b []byte) []byte {
	for _, n := range p {
		b = le.AppendUint16(append(b, n.Type, n.SubType), uint16(4+len(n.Data)))
		b = append(b, n.Data...)
	}
	return b
}

// String is the path in the text form of UEFI clause 10.6.
func (p DevicePath) String() string {
	var parts []string
	for _, n := range p {
		if s := n.String(); s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, "/")
}

// String is the node's text, empty for the end of a path.
func (n PathNode) String() string {
	r := wire.NewReader(n.Data)
	text := n.text(&r)
	if r.Short() {
		return fmt.Sprintf("Path(%d,%d,%x)", n.Type, n.SubType, []byte(n.Data))
	}
	return text
}

func (n PathNode) text(r *wire.Reader) string {
	switch [2]uint8{n.Type, n.SubType} {
	case [2]uint8{0x7f, 0xff}:
		return ""
	case [2]uint8{0x7f, 0x01}:
		return ","
	case [2]uint8{1, 1}: // PCI
		function := r.U8()
		return fmt.Sprintf("Pci(%#x,%#x)", r.U8(), function)
	case [2]uint8{1, 3}: // memory mapped
		return fmt.Sprintf("MemoryMapped(%#x,%#x,%#x)", r.U32(), r.U64(), r.U64())
	case [2]uint8{1, 4}:
		return fmt.Sprintf("VenHw(%s)", readGUID(r))
	case [2]uint8{2, 1}: // ACPI
		hid, uid := r.U32(), r.U32()
		switch hid {
		case 0x0a0341d0:
			return fmt.Sprintf("PciRoot(%#x)", uid)
		case 0x0a0841d0:
			return fmt.Sprintf("PcieRoot(%#x)", uid)
		}
		return fmt.Sprintf("Acpi(%#x,%#x)", hid, uid)
	case [2]uint8{3, 2}: // SCSI
		return fmt.Sprintf("Scsi(%#x,%#x)", r.U16(), r.U16())
	case [2]uint8{3, 5}:
		port := r.U8()
		return fmt.Sprintf("USB(%#x,%#x)", port, r.U8())
	case [2]uint8{3, 10}:
		return fmt.Sprintf("VenMsg(%s)", readGUID(r))
	case [2]uint8{3, 11}: // MAC
		b := r.Bytes(32)
		if kind := r.U8(); kind < 2 && b != nil {
			return fmt.Sprintf("MAC(%x)", b[:6])
		}
		return fmt.Sprintf("MAC(%x)", b)
	case [2]uint8{3, 12}:
		return "IPv4"
	case [2]uint8{3, 13}:
		return "IPv6"
	case [2]uint8{3, 23}:
		lun := r.U32()
		return fmt.Sprintf("NVMe(%#x,%x)", lun, r.U64())
	case [2]uint8{3, 18}:
		return fmt.Sprintf("Sata(%#x,%#x,%#x)", r.U16(), r.U16(), r.U16())
	case [2]uint8{3, 24}:
		return fmt.Sprintf("Uri(%s)", Text(r.Rest()))
	case [2]uint8{4, 1}: // hard drive
		number, start, size := r.U32(), r.U64(), r.U64()
		signature := r.Bytes(16)
		r.U8()
		kind := r.U8()
		if r.Short() {
			return ""
		}
		if kind == 2 {
			var g GUID
			copy(g[:], signature)
			return fmt.Sprintf("HD(%d,GPT,%s,%#x,%#x)", number, g, start, size)
		}
		return fmt.Sprintf("HD(%d,MBR,%#x,%#x,%#x)", number, le.Uint32(signature), start, size)
	case [2]uint8{4, 2}:
		return fmt.Sprintf("CDROM(%#x,%#x,%#x)", r.U32(), r.U64(), r.U64())
	case [2]uint8{4, 3}:
		return fmt.Sprintf("VenMedia(%s)", readGUID(r))
	case [2]uint8{4, 4}: // a file's name
		return Printable([]byte(strings.TrimRight(fromUTF16(n.Data), "\x00")))
	case [2]uint8{4, 6}:
		return fmt.Sprintf("FvFile(%s)", readGUID(r))
	case [2]uint8{4, 7}:
		return fmt.Sprintf("Fv(%s)", readGUID(r))
	case [2]uint8{4, 8}: // offsets within another file or option ROM
		r.U32()
		return fmt.Sprintf("Offset(%#x,%#x)", r.U64(), r.U64())
	case [2]uint8{5, 1}: // what the BIOS boot specification starts
		kind := r.U16()
		r.U16()
		return fmt.Sprintf("BBS(%#x,%s)", kind, Text(strings.TrimRight(string(r.Rest()), "\x00")))
	}
	return fmt.Sprintf("Path(%d,%d,%x)", n.Type, n.SubType, []byte(n.Data))
}
