package txt

import (
	"fmt"

	"github.com/antievilmaid/aem/internal/wire"
)

// Heap are the four tables at TXT.HEAP.BASE, which firmware, boot loader and SINIT
// leave for each other (SDG, appendix C). Each begins with its size in 64 bits,
// that number included. Sizes need not be multiples of eight, so fields lie unaligned.
type Heap struct {
	BIOS    *BIOSData
	OSMLE   []byte // the boot loader's, for the launched environment; see [ParseOSMLE]
	OSSINIT *OSSINITData
	// SINITMLE is nil where no launch took place: its size is then zero.
	SINITMLE *SINITMLEData
	// OSMLEOffset is where the boot loader's table begins, behind its size.
	OSMLEOffset int
}

// HeapError says where in the heap something is wrong. What was read before it is
// in the heap returned with it.
type HeapError struct {
	Offset int // in the heap
	Table  string
	Reason string
}

func (e *HeapError) Error() string {
	return fmt.Sprintf("TXT heap: %s at offset %#x: %s", e.Table, e.Offset, e.Reason)
}

// ParseHeap reads an image of the heap, from its first byte.
func ParseHeap(b []byte) (*Heap, error) {
	h := &Heap{}
	at := 0
	table := func(name string, least int) ([]byte, int, error) {
		r := wire.NewReader(b[min(at, len(b)):])
		size := r.U64()
		switch {
		case r.Short():
			return nil, at, &HeapError{at, name, "the heap ends before it"}
		case size < 8 || size > uint64(len(b)-at):
			return nil, at, &HeapError{at, name, fmt.Sprintf("it claims %d bytes, and %d are left", size, len(b)-at)}
		case size-8 < uint64(least):
			return nil, at, &HeapError{at, name, fmt.Sprintf("it has %d bytes, and at least %d are needed", size-8, least)}
		}
		body := b[at+8 : at+int(size) : at+int(size)]
		start := at
		at += int(size)
		return body, start, nil
	}
	body, start, err := table("the firmware's table", 28)
	if err != nil {
		return h, err
	}
	if h.BIOS, err = parseBIOS(body, start); err != nil {
		return h, err
	}
	if h.OSMLE, start, err = table("the table for the launched system", 0); err != nil {
		return h, err
	}
	h.OSMLEOffset = start + 8
	if body, start, err = table("the table for SINIT", 84); err != nil {
		return h, err
	}
	if h.OSSINIT, err = parseOSSINIT(body, start); err != nil {
		return h, err
	}
	if len(b)-at >= 8 && le.Uint64(b[at:]) == 0 {
		return h, nil
	}
	if body, start, err = table("SINIT's table", 144); err != nil {
		return h, err
	}
	h.SINITMLE, err = parseSINITMLE(body, start)
	return h, err
}

// BIOSData is what the firmware says.
type BIOSData struct {
	Version           uint32
	SINITSize         uint32 // of the module that the firmware brings; zero where it brings none
	LCPBase, LCPSize  uint64 // of the supplier's policy data
	LogicalProcessors uint32
	SINITFlags        uint32
	MLEFlags          uint32
	Elements          []Element
}

func parseBIOS(b []byte, at int) (*BIOSData, error) {
	r := wire.NewReader(b)
	d := &BIOSData{Version: r.U32(), SINITSize: r.U32(), LCPBase: r.U64(), LCPSize: r.U64(), LogicalProcessors: r.U32()}
	if d.Version >= 3 {
		d.SINITFlags, d.MLEFlags = r.U32(), r.U32()
	}
	if r.Short() {
		return d, &HeapError{at, "the firmware's table", "it is too short for its version"}
	}
	if d.Version < 4 {
		return d, nil
	}
	var err error
	d.Elements, err = parseElements(r.Rest(), at+8+r.Offset(), "the firmware's table")
	return d, err
}

// Server reports whether the firmware calls the platform a server; known is false
// where it says nothing.
func (d *BIOSData) Server() (server, known bool) {
	kind := d.MLEFlags >> 1 & 3
	return kind == 2, kind == 1 || kind == 2
}

// OSSINITData is what the boot loader tells SINIT.
type OSSINITData struct {
	Version                  uint32
	Flags                    uint32
	MLEPageTable             uint64
	MLESize, MLEHeader       uint64 // the header's offset counts from the kernel's start
	PMRLowBase, PMRLowSize   uint64
	PMRHighBase, PMRHighSize uint64
	LCPBase, LCPSize         uint64 // of the owner's policy
	Capabilities             uint32
	RSDP                     uint64
	Elements                 []Element
}

func parseOSSINIT(b []byte, at int) (*OSSINITData, error) {
	r := wire.NewReader(b)
	d := &OSSINITData{
		Version: r.U32(), Flags: r.U32(), MLEPageTable: r.U64(), MLESize: r.U64(), MLEHeader: r.U64(),
		PMRLowBase: r.U64(), PMRLowSize: r.U64(), PMRHighBase: r.U64(), PMRHighSize: r.U64(),
		LCPBase: r.U64(), LCPSize: r.U64(), Capabilities: r.U32(),
	}
	if d.Version >= 5 {
		d.RSDP = r.U64()
	}
	if r.Short() {
		return d, &HeapError{at, "the table for SINIT", "it is too short for its version"}
	}
	if d.Version < 6 {
		return d, nil
	}
	var err error
	d.Elements, err = parseElements(r.Rest(), at+8+r.Offset(), "the table for SINIT")
	return d, err
}

// SINITMLEData is what SINIT tells the launched environment.
type SINITMLEData struct {
	Version       uint32
	BIOSACMID     [20]byte
	EDXFlags      uint32
	MSEGValid     uint64
	SINITHash     [20]byte // PCR 17 after the first extend, from version 7 on; zeros with a TPM 2.0
	MLEHash       [20]byte
	STMHash       [20]byte
	LCPHash       [20]byte
	PolicyControl uint32
	RLPWakeup     uint32
	MDRs          []MDR
	DMAR          []byte // a copy of the ACPI table
	SCRTMStatus   uint32 // 1 where the CPU measured the firmware at reset
	Elements      []Element
}

// MDR is a region of memory as SINIT saw it (version 8 and before).
type MDR struct {
	Base, Length uint64
	Type         uint8
}

// maxMDRs is more than any machine has regions.
const maxMDRs = 4096

func parseSINITMLE(b []byte, at int) (*SINITMLEData, error) {
	const name = "SINIT's table"
	r := wire.NewReader(b)
	d := &SINITMLEData{Version: r.U32()}
	copy(d.BIOSACMID[:], r.Bytes(20))
	d.EDXFlags, d.MSEGValid = r.U32(), r.U64()
	for _, h := range []*[20]byte{&d.SINITHash, &d.MLEHash, &d.STMHash, &d.LCPHash} {
		copy(h[:], r.Bytes(20))
	}
	d.PolicyControl, d.RLPWakeup = r.U32(), r.U32()
	r.U32() // reserved
	mdrs, mdrAt, dmarSize, dmarAt := r.U32(), r.U32(), r.U32(), r.U32()
	if d.Version >= 8 {
		d.SCRTMStatus = r.U32()
	}
	if r.Short() {
		return d, &HeapError{at, name, "it is too short for its version"}
	}
	// These two offsets count from the table's size field, eight bytes before b.
	inside := func(off, size uint64) bool {
		return off >= 8 && off-8 <= uint64(len(b)) && size <= uint64(len(b))-(off-8)
	}
	if mdrs > maxMDRs || mdrs > 0 && !inside(uint64(mdrAt), uint64(mdrs)*24) {
		return d, &HeapError{at, name, fmt.Sprintf("it claims %d memory regions at offset %#x", mdrs, mdrAt)}
	}
	for i := range mdrs {
		m := b[mdrAt-8+24*i:]
		d.MDRs = append(d.MDRs, MDR{le.Uint64(m), le.Uint64(m[8:]), m[16]})
	}
	if dmarSize > 0 {
		if !inside(uint64(dmarAt), uint64(dmarSize)) {
			return d, &HeapError{at, name, fmt.Sprintf("it claims a DMAR table of %d bytes at offset %#x", dmarSize, dmarAt)}
		}
		d.DMAR = b[dmarAt-8 : dmarAt-8+dmarSize]
	}
	if d.Version < 9 {
		return d, nil
	}
	var err error
	d.Elements, err = parseElements(r.Rest(), at+8+r.Offset(), name)
	return d, err
}
