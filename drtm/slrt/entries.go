package slrt

import (
	"bytes"
	"fmt"

	"github.com/antievilmaid/aem/internal/wire"
	"github.com/antievilmaid/aem/tpm"
)

// DLInfo says what was launched.
type DLInfo struct {
	Bootloader uint16
	Context    uint64 // the loader's own
	Handler    uint64
	// The loader of the launch: SINIT, or the Secure Kernel Loader.
	DCEBase, DCESize uint64
	// What it launched. Xen and Linux's old layout has the entry alone.
	DLMEBase, DLMESize, DLMEEntry uint64
}

// DLInfo decodes the entry of that tag; nil where there is none.
func (t *Table) DLInfo() *DLInfo {
	body, ok := t.find(TagDLInfo)
	if !ok {
		return nil
	}
	r := wire.NewReader(body)
	var d DLInfo
	if t.Layout == New {
		d.DCESize, d.DCEBase, d.DLMESize, d.DLMEBase, d.DLMEEntry = r.U64(), r.U64(), r.U64(), r.U64(), r.U64()
		d.Bootloader = r.U16()
		r.Bytes(6)
		d.Context, d.Handler = r.U64(), r.U64()
	} else {
		d.Bootloader = r.U16()
		r.U16()
		d.Context, d.Handler, d.DCEBase, d.DCESize = r.U64(), r.U64(), r.U64(), uint64(r.U32())
		if r.Left() == 16 { // as GRUB and the Secure Kernel Loader write it
			d.DLMEBase, d.DLMESize, d.DLMEEntry = r.U64(), uint64(r.U32()), uint64(r.U32())
		} else {
			d.DLMEEntry = r.U64()
		}
	}
	if r.Short() {
		return nil
	}
	return &d
}

// LogInfo says where the event log lies.
type LogInfo struct {
	// Format is 1 for TPM 1.2 and 2 for TPM 2.0; one version of GRUB always writes
	// 2, so the log's own header decides.
	Format  uint16
	Address uint64
	Size    uint32
}

// maxLog is more than any loader gives a log.
const maxLog = 16 << 20

// LogInfo decodes the entry of that tag; nil where there is none, or where it
// describes no memory.
func (t *Table) LogInfo() *LogInfo {
	body, ok := t.find(TagLogInfo)
	if !ok {
		return nil
	}
	r := wire.NewReader(body)
	d := LogInfo{Format: r.U16()}
	r.U16()
	if t.Layout == New {
		d.Size, d.Address = r.U32(), r.U64()
	} else {
		d.Address, d.Size = r.U64(), r.U32()
	}
	if r.Short() || d.Address == 0 || d.Size == 0 || d.Size > maxLog || d.Address+uint64(d.Size) < d.Address {
		return nil
	}
	return &d
}

// EntityType is what a policy entry measures.
type EntityType uint16

// The types.
const (
	EntityUnspecified EntityType = 0
	EntitySLRT        EntityType = 1
	EntityBootParams  EntityType = 2
	EntitySetupData   EntityType = 3
	EntityCommandLine EntityType = 4
	EntityUEFIMemMap  EntityType = 5
	EntityRamdisk     EntityType = 6
	EntityMB2Info     EntityType = 7
	EntityMB2Module   EntityType = 8
	EntityOSMLE       EntityType = 0x10
	EntityUnused      EntityType = 0xffff
)

var entityNames = map[EntityType]string{
	EntityUnspecified: "unspecified", EntitySLRT: "SLRT", EntityBootParams: "boot parameters", EntitySetupData: "setup data",
	EntityCommandLine: "command line", EntityUEFIMemMap: "EFI memory map", EntityRamdisk: "initramfs", EntityMB2Info: "multiboot information",
	EntityMB2Module: "multiboot module", EntityOSMLE: "TXT OS-to-MLE data", EntityUnused: "unused",
}

// String names the type.
func (e EntityType) String() string {
	if s, ok := entityNames[e]; ok {
		return s
	}
	return fmt.Sprintf("entity %#x", uint16(e))
}

// Measure is a policy entry: a thing that the environment must measure.
type Measure struct {
	PCR          tpm.PCR
	Type         EntityType
	Flags        uint16
	Entity, Size uint64
	Text         string // of the event, up to its first zero
}

const measureSize = 56

// Policy decodes the policy; ok is false where there is none, or where it is cut off.
func (t *Table) Policy() (list []Measure, ok bool) {
	body, found := t.find(TagPolicy)
	if !found {
		return nil, false
	}
	r := wire.NewReader(body)
	if t.Layout == New {
		r.U32() // reserved
	}
	r.U16() // revision
	n := int(r.U16())
	if r.Short() || n*measureSize > r.Left() {
		return nil, false
	}
	for range n {
		m := Measure{PCR: tpm.PCR(r.U16()), Type: EntityType(r.U16()), Flags: r.U16()}
		r.U16()
		if t.Layout == New {
			m.Size, m.Entity = r.U64(), r.U64()
		} else {
			m.Entity, m.Size = r.U64(), r.U64()
		}
		text, _, _ := bytes.Cut(r.Bytes(32), []byte{0})
		m.Text = string(text)
		list = append(list, m)
	}
	return list, true
}

// IntelInfo are the registers that SENTER changes and the environment restores.
type IntelInfo struct {
	BootParams uint64 // newest tables
	Heap       uint64 // new layout
	MiscEnable uint64
	MTRRType   uint64
	MTRRCount  uint64
	MTRRs      [][2]uint64 // base and mask
}

const numMTRRs = 32

// IntelInfo decodes the entry of that tag; nil where there is none.
func (t *Table) IntelInfo() *IntelInfo {
	body, ok := t.find(TagIntelInfo)
	if !ok {
		return nil
	}
	r := wire.NewReader(body)
	var d IntelInfo
	const state = 8 + 16 + 16*numMTRRs
	if len(body) >= state+16 {
		d.BootParams = r.U64()
	}
	if len(body) >= state+8 {
		d.Heap = r.U64()
	}
	d.MiscEnable, d.MTRRType, d.MTRRCount = r.U64(), r.U64(), r.U64()
	for range min(d.MTRRCount, numMTRRs) {
		d.MTRRs = append(d.MTRRs, [2]uint64{r.U64(), r.U64()})
	}
	if r.Short() {
		return nil
	}
	return &d
}

// AMDInfo is the setup_data node that an AMD launch leaves for Linux.
type AMDInfo struct {
	Next       uint64
	Type, Len  uint32
	SLRTSize   uint64
	SLRTBase   uint64
	BootParams uint64
	PSPVersion uint16
}

// AMDInfo decodes the entry of that tag; nil where there is none.
func (t *Table) AMDInfo() *AMDInfo {
	body, ok := t.find(TagAMDInfo)
	if !ok {
		return nil
	}
	r := wire.NewReader(body)
	d := AMDInfo{r.U64(), r.U32(), r.U32(), r.U64(), r.U64(), r.U64(), r.U16()}
	if r.Short() {
		return nil
	}
	return &d
}

func (t *Table) find(tag Tag) ([]byte, bool) {
	for _, e := range t.Entries {
		if e.Tag == tag {
			return e.Body, true
		}
	}
	return nil, false
}
