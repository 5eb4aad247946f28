package artifact

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/skl"
	"github.com/antievilmaid/aem/drtm/slrt"
	"github.com/antievilmaid/aem/drtm/txt"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/unpack"
	"github.com/antievilmaid/aem/tpm"
)

// Row is a line of a description.
type Row struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Description is what stands in a file that is no log.
type Description struct {
	Kind Kind  `json:"kind"`
	Rows []Row `json:"rows"`
	// Damage is what is wrong with it, empty where nothing is.
	Damage string `json:"damage,omitempty"`
}

func (d *Description) add(name, format string, args ...any) {
	d.Rows = append(d.Rows, Row{name, fmt.Sprintf(format, args...)})
}

func (d *Description) damage(err error) {
	if err != nil && d.Damage == "" {
		d.Damage = err.Error()
	}
}

// Describe says what stands in a file of a kind. Text from the file is escaped.
func Describe(kind Kind, b []byte) *Description {
	d := &Description{Kind: kind}
	switch kind {
	case Registers:
		d.registers(b)
	case Heap:
		d.heap(b)
	case SLRT:
		d.slrt(b)
	case ACPI:
		d.acpi(b)
	case Module:
		d.module(b)
	case SLB:
		d.slb(b)
	case Kernel, MLE:
		d.kernel(b)
	case Initrd:
		d.initrd(b)
	case Text:
		d.add("text", "%s", eventlog.Printable(bytes.TrimSpace(b[:min(len(b), 4096)])))
	}
	d.add("SHA-256", "%s", tpm.SHA256.Sum(b))
	return d
}

func (d *Description) registers(b []byte) {
	r, err := txt.ParseRegisters(b)
	if err != nil {
		d.damage(err)
		return
	}
	for _, row := range r.Rows() {
		d.add(row[0], "%s", strings.TrimSpace(row[1]+"  "+row[2]))
	}
	if a := r.ErrorCode.Advice(); a != "" {
		d.add("advice", "%s", a)
	}
}

func (d *Description) heap(b []byte) {
	at := max(heapAt(b), 0)
	h, err := txt.ParseHeap(b[at:])
	d.damage(err)
	if h.BIOS != nil {
		d.add("firmware's table", "version %d, %d processors, SINIT in firmware: %d bytes", h.BIOS.Version, h.BIOS.LogicalProcessors, h.BIOS.SINITSize)
		d.elements(h.BIOS.Elements)
	}
	if m, err := txt.ParseOSMLE(h.OSMLE); err == nil {
		d.add("for the launched system", "version %d, SLRT at %#x, boot parameters at %#x", m.Version, m.SLRT, m.BootParams)
	} else if h.OSMLE != nil {
		d.add("for the launched system", "%d bytes of another boot loader", len(h.OSMLE))
	}
	if s := h.OSSINIT; s != nil {
		d.add("for SINIT", "version %d, kernel of %d bytes, protected memory %#x to %#x", s.Version, s.MLESize, s.PMRLowBase, s.PMRLowBase+s.PMRLowSize)
		d.add("capabilities", "%#x: %s", s.Capabilities, strings.Join(txt.Capabilities(s.Capabilities), ", "))
		d.elements(s.Elements)
		logs, err := txt.LogPointers(s.Elements)
		d.damage(err)
		for _, l := range logs {
			d.add("event log", "%s at %#x, %d of %d bytes used", l.Kind, l.Address, l.Next-l.First, l.Allocated)
		}
	}
	if s := h.SINITMLE; s != nil {
		d.add("SINIT's table", "version %d, %d memory regions, DMAR table of %d bytes", s.Version, len(s.MDRs), len(s.DMAR))
		d.add("policy control", "%#x", s.PolicyControl)
		d.elements(s.Elements)
	}
}

func (d *Description) elements(list []txt.Element) {
	for _, e := range list {
		d.add("  element", "%s, %d bytes", e.Type, len(e.Data))
	}
}

func (d *Description) slrt(b []byte) {
	t, err := slrt.Parse(b)
	d.damage(err)
	if t == nil {
		return
	}
	d.add("table", "%s, revision %d, %s, %d of %d bytes", t.Layout, t.Revision, t.Architecture, t.Size, t.Max)
	for _, e := range t.Entries {
		d.add("entry", "%s, %d bytes at %#x", e.Tag, len(e.Body), e.Offset)
	}
	if i := t.DLInfo(); i != nil {
		d.add("launched", "%d bytes at %#x, entry %#x; loader %d bytes at %#x", i.DLMESize, i.DLMEBase, i.DLMEEntry, i.DCESize, i.DCEBase)
	}
	if i := t.LogInfo(); i != nil {
		d.add("event log", "format %d, %d bytes at %#x", i.Format, i.Size, i.Address)
	}
	if policy, ok := t.Policy(); ok {
		for _, m := range policy {
			d.add("measure", "PCR %d, %s, %d bytes at %#x, %q", m.PCR, m.Type, m.Size, m.Entity, eventlog.Printable([]byte(m.Text)))
		}
	}
	if i := t.IntelInfo(); i != nil {
		d.add("registers", "IA32_MISC_ENABLE %#x, %d MTRRs, default type %#x", i.MiscEnable, i.MTRRCount, i.MTRRType)
	}
	if i := t.AMDInfo(); i != nil {
		d.add("AMD", "table of %d bytes at %#x", i.SLRTSize, i.SLRTBase)
	}
}

// acpi reads the tables that tell where a firmware's log lies: TPM2 and TCPA (TCG
// ACPI specification, clause 7) and CCEL (Intel GHCI, clause 4.3).
func (d *Description) acpi(b []byte) {
	name := string(b[:4])
	length := le.Uint32(b[4:])
	d.add("table", "%s, revision %d, of %s", name, b[8], eventlog.Printable(bytes.TrimSpace(b[10:16])))
	if uint64(length) > uint64(len(b)) || length < 36 {
		d.damage(fmt.Errorf("the table claims %d bytes, and %d are there", length, len(b)))
		return
	}
	b = b[:length]
	sum := byte(0)
	for _, c := range b {
		sum += c
	}
	if sum != 0 {
		d.damage(errors.New("its checksum is wrong"))
	}
	u32 := func(at int) uint32 { return le.Uint32(b[at:]) }
	u64 := func(at int) uint64 { return le.Uint64(b[at:]) }
	var size uint32
	var address uint64
	switch {
	case name == "TPM2" && len(b) >= 76:
		d.add("start method", "%d", u32(48))
		size, address = u32(64), u64(68)
	case name == "TPM2" && len(b) >= 52:
		d.add("start method", "%d", u32(48))
		d.add("event log", "not told")
		return
	case name == "TCPA" && len(b) >= 50:
		size, address = u32(38), u64(42)
	case name == "CCEL" && len(b) >= 56:
		d.add("confidential computing", "type %d, subtype %d", b[36], b[37])
		size, address = uint32(u64(40)), u64(48)
	default:
		d.damage(fmt.Errorf("a table of %d bytes is too short", len(b)))
		return
	}
	d.add("event log", "%d bytes at %#x", size, address)
	if address == 0 || address+uint64(size) < address {
		d.damage(errors.New("the log's address is no memory"))
	}
}

func (d *Description) module(b []byte) {
	m, err := txt.ParseModule(b)
	if err != nil {
		d.damage(err)
		return
	}
	kind := m.Kind.String()
	if !m.Production() {
		kind += ", for debugging"
	}
	d.add("module", "%s of %s, %d bytes, header %d.%d", kind, m.Date(), m.Size, m.HeaderVersion>>16, m.HeaderVersion&0xffff)
	d.add("security versions", "TXT %d, SGX %d", m.TXTSVN, m.SGXSVN)
	d.add("capabilities", "%#x: %s", m.Capabilities, strings.Join(txt.Capabilities(m.Capabilities), ", "))
	for _, c := range m.Chipsets {
		d.add("chipset", "%04x:%04x revision %#x", c.Vendor, c.Device, c.Revision)
	}
	for _, p := range m.Processors {
		d.add("processor", "%#x, mask %#x, platform %#x", p.FMS, p.FMSMask, p.Platform)
	}
	for _, a := range m.TPMAlgs {
		d.add("TPM algorithm", "%s", a)
	}
}

func (d *Description) slb(b []byte) {
	block, err := skl.Parse(b)
	if err != nil {
		d.damage(err)
		return
	}
	d.add("block", "%d of %d bytes are measured, entry at %#x", block.Length, len(b), block.Entry)
	if l := block.Loader; l != nil {
		d.add("Secure Kernel Loader", "version %d, boot loader's data at %#x", l.Version, l.DataOffset)
	}
	for _, a := range []tpm.Alg{tpm.SHA1, tpm.SHA256} {
		d.add("measured as", "%s %s", a, a.Sum(block.Measured))
	}
}

func (d *Description) kernel(b []byte) {
	if _, err := drtm.BootParams(b); err == nil {
		d.add("kernel", "boot protocol %d.%02d, %d setup sectors", b[0x207], b[0x206], b[0x1f1])
		if at := int(le.Uint16(b[0x20e:])) + 0x200; le.Uint16(b[0x20e:]) != 0 && at < len(b) {
			version, _, _ := bytes.Cut(b[at:min(len(b), at+256)], []byte{0})
			d.add("version", "%s", eventlog.Printable(version))
		}
	}
	m, err := txt.FindMLE(b)
	if err != nil {
		d.add("secure launch", "%v", err)
		return
	}
	d.add("secure launch", "MLE header %d.%d at %#x, entry %#x, measured %#x to %#x", m.Major, m.Minor, m.Offset, m.Entry, m.Start, m.End)
	d.add("capabilities", "%#x: %s", m.Capabilities, strings.Join(txt.Capabilities(m.Capabilities), ", "))
}

func (d *Description) initrd(b []byte) {
	t, err := unpack.Read(b)
	d.damage(err)
	if t == nil {
		return
	}
	for _, s := range t.Segments {
		d.add("archive", "%s, %d bytes at %#x, %d unpacked", s.Compression, s.Size, s.Offset, s.Unpacked)
	}
	d.add("files", "%d", len(t.Files))
	if len(t.Hidden) > 0 {
		d.add("hidden", "%d entries that the kernel does not leave visible", len(t.Hidden))
	}
	for _, doubt := range t.Doubts {
		d.add("doubt", "%s", eventlog.Printable([]byte(doubt)))
	}
}

// HeapLogs are the event logs inside an image of a TXT heap. An address counts from
// the machine's memory, or in some captures from the heap; base is the heap's
// address in memory, or 0 where it is not known.
func HeapLogs(b []byte, base uint64) ([]*eventlog.Log, error) {
	at := max(heapAt(b), 0)
	heap := b[at:]
	h, err := txt.ParseHeap(heap)
	if h.OSSINIT == nil {
		return nil, err
	}
	pointers, err := txt.LogPointers(h.OSSINIT.Elements)
	if err != nil {
		return nil, err
	}
	var logs []*eventlog.Log
	for _, p := range pointers {
		offset := p.Address
		if base != 0 && p.Address >= base {
			offset = p.Address - base
		}
		if offset+uint64(p.Size()) > uint64(len(heap)) || offset+uint64(p.Size()) < offset {
			err = errors.Join(err, fmt.Errorf("the %s at %#x lies outside of this image", p.Kind, p.Address))
			continue
		}
		log, perr := p.Parse(heap[offset : offset+uint64(p.Size())])
		err = errors.Join(err, perr)
		if log != nil {
			logs = append(logs, log)
		}
	}
	return logs, err
}

// Hex is a short form of a digest for a table.
func Hex(b []byte) string {
	const most = 16
	s := hex.EncodeToString(b)
	return s[:min(len(s), most)]
}
