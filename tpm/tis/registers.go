package tis

import "fmt"

// Where the registers lie unless the platform says otherwise, and how many bytes
// they take: a page of 4 KiB for each of the localities 0 to 4 (TIS 1.3; PTP 1.05,
// clause 6.5).
const (
	Base = 0xfed40000
	Size = 5 * page
	page = 0x1000
)

// Registers are the TPM's memory-mapped registers. Offsets count from the first
// register of locality 0. Each call is one access of the width it names: the
// FIFO's data register takes another byte out of the queue with each access, and
// a control register of the CRB that is read in parts may change in between.
type Registers interface {
	Read8(offset uint32) uint8
	Read32(offset uint32) uint32
	Write8(offset uint32, value uint8)
	Write32(offset uint32, value uint32)
}

// Registers of both interfaces, as offsets in a locality's page.
const regInterfaceID = 0x30

// Kind is the interface by which a TPM takes commands.
type Kind uint8

// The interfaces: a queue of bytes, and a buffer for a whole command.
const (
	FIFO Kind = iota + 1
	CRB
)

// String is "FIFO" or "CRB".
func (k Kind) String() string {
	switch k {
	case FIFO:
		return "FIFO"
	case CRB:
		return "CRB"
	}
	return fmt.Sprintf("unknown interface %d", uint8(k))
}

// absent reports whether a register reads as one that nobody answers for.
func absent(v uint32) bool { return v == 0 || v == ^uint32(0) }

// identify tells which interface is active by the lowest bits of INTERFACE_ID: 0
// is the FIFO of a TPM 2.0, 1 the CRB, and 15 the FIFO of a TPM 1.2 or of one that
// knows no other. A TPM 1.2 need not have the register at all. Only locality 0 is
// asked, which no chipset closes.
func identify(r Registers) (Kind, error) {
	id, vendor := r.Read32(regInterfaceID), r.Read32(fifoVendor)
	switch id & 0xf {
	case 1:
		// The CRB has its vendor in the upper half of the identifier.
		if vendor = r.Read32(regInterfaceID + 4); !absent(vendor) {
			return CRB, nil
		}
	case 0, 15:
		if !absent(vendor) {
			return FIFO, nil
		}
	default:
		return 0, fmt.Errorf("%w: INTERFACE_ID reads %#08x, which is neither FIFO nor CRB", ErrInterface, id)
	}
	return 0, fmt.Errorf("%w: its vendor reads %#08x and its interface %#08x; look whether the firmware's setup switches it off, or give another address", ErrNoTPM, vendor, id)
}
