package txt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm/txt"
	"github.com/antievilmaid/aem/internal/corpus"
	"github.com/antievilmaid/aem/tpm"
)

var le = binary.LittleEndian

func put(values ...any) []byte {
	var b bytes.Buffer
	for _, v := range values {
		binary.Write(&b, le, v)
	}
	return b.Bytes()
}

// Registers of real machines, by the facts that their owners reported.
func TestRegistersOfTheCorpus(t *testing.T) {
	for name, want := range map[string]struct {
		launched, left bool
		text           string
	}{
		"regs-ASRock-Z790_PG_Lightning-20250925-052133.bin":                    {left: true, text: "no error"},
		"regs-GETAC-UX10G2-20250928-091815.bin":                                {launched: true, text: "no error"},
		"regs-HP-HP_EliteBook_1040_14_inch_G9_Notebook_PC-20250928-113722.bin": {text: "invalid mask"},
		"regs-HP-HP_EliteDesk_800_G2_DM_35W-20250711-142317.bin":               {text: "the size differs from the one that the loader gave"},
		"regs-HP-HP_EliteDesk_800_G2_DM_35W-20250711-142411.bin":               {launched: true, text: "no error"},
		"regs-LENOVO-20HRS11400-20260212-141452.bin":                           {launched: true, text: "no error"},
		"guard-bootstrap-txt-public-space-unavailable.bin":                     {text: "absent"},
	} {
		r, err := txt.ParseRegisters(corpus.Read(t, "txt/"+name))
		if want.text == "absent" {
			if !errors.Is(err, txt.ErrAbsent) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.Launched() != want.launched || r.Left() != want.left || !strings.Contains(r.ErrorCode.String(), want.text) {
			t.Errorf("%s: launched %t, left %t, %s", name, r.Launched(), r.Left(), r.ErrorCode)
		}
	}
}

func TestRegisters(t *testing.T) {
	b := make([]byte, txt.PublicSize)
	for at, v := range map[int]uint64{
		0: 0x10091, 0x30: 0xc00014f1, 0x110: 0x1_b001_8086, 0x100: ^uint64(0), 0x200: 1 << 31,
		0x270: 0xd8ed0000, 0x278: 0x50000, 0x300: 0xd8f20000, 0x308: 0xe0000, 0x330: 0xc9000041, 0x378: 2 << 13, 0x8f0: 2,
	} {
		le.PutUint64(b[at:], v)
	}
	r, err := txt.ParseRegisters(b)
	if err != nil {
		t.Fatal(err)
	}
	vendor, device, revision := r.Chipset()
	if vendor != 0x8086 || device != 0xb001 || revision != 1 || !r.Production() || !r.Secrets() || r.TPMKind() != "TPM 2.0" {
		t.Errorf("chipset %x %x %x, production %t, secrets %t, %s", vendor, device, revision, r.Production(), r.Secrets(), r.TPMKind())
	}
	// 4 MiB that end at 0xc9000000.
	if !r.DPR.Locked() || r.DPR.Size() != 4<<20 || r.DPR.Base() != 0xc8c00000 {
		t.Errorf("DPR %s", r.DPR)
	}
	if len(r.Rows()) < 10 {
		t.Error("the table of registers is short")
	}
	if _, err := txt.ParseRegisters(b[:0x800]); err == nil {
		t.Error("half an image is taken")
	}
}

func TestErrorCodes(t *testing.T) {
	for code, want := range map[txt.ErrorCode][2]string{
		0:           {"no error", ""},
		0xc0000001:  {"succeeded", ""},
		0x00001234:  {"not marked as valid", ""},
		0xc00014f1:  {"SINIT module stopped at the kernel's MLE header: the size differs", "update GRUB"},
		0xc0001c21:  {"MTRRs: an MTRR has an invalid mask", "update the firmware"},
		0x80000007:  {"the CPU stopped the launch: the SINIT module's signature is wrong", "Intel"},
		0x80001fff:  {"unknown code", ""},
		0xc103_0441: {"TPM: the TPM returned an error (detail 0x103)", ""},
		0xc0003c41:  {"more than three banks", "tpm2_pcrallocate"},
		0xc0008002:  {"launched system stopped: the TPM could not be started", ""},
		0xc0008022:  {"if it was Linux: the SLRT is not valid; if it was Xen: an event", ""},
		0xc0008fff:  {"unknown code", ""},
		0xc0000821:  {"rule 2 is broken", ""},
		0xc0007f31:  {"class 0x33", "error table"},
		0xc0000410:  {"the firmware's module stopped at the entry", ""},
	} {
		if got := code.String(); !strings.Contains(got, want[0]) || !strings.Contains(code.Advice(), want[1]) {
			t.Errorf("%#x: %q, %q; want %q, %q", uint32(code), got, code.Advice(), want[0], want[1])
		}
		if ok := code == 0 || code == 0xc0000001 || code>>31 == 0; code.OK() != ok {
			t.Errorf("%#x: OK is %t", uint32(code), code.OK())
		}
	}
}

// The heap of a real server, with what is known of it.
func TestTheHeapOfTheCorpus(t *testing.T) {
	const base = 0x1000
	image := corpus.Read(t, "txt/intelsecl-txt_heap_info.bin")
	h, err := txt.ParseHeap(image[base:])
	if err != nil {
		t.Fatal(err)
	}
	if h.BIOS.Version != 3 || len(h.OSMLE) != 86304-8 || h.OSSINIT.Version != 7 || h.OSSINIT.Flags != 1 || h.OSSINIT.Capabilities != 0x201 {
		t.Errorf("BIOS %+v, %d bytes for the launched system, SINIT %+v", h.BIOS, len(h.OSMLE), h.OSSINIT)
	}
	if m := h.SINITMLE; m.Version != 9 || len(m.MDRs) != 6 || len(m.DMAR) != 480 || len(m.Elements) != 2 || !bytes.HasPrefix(m.DMAR, []byte("DMAR")) {
		t.Errorf("version %d, %d regions, DMAR of %d bytes, %d elements", m.Version, len(m.MDRs), len(m.DMAR), len(m.Elements))
	}
	logs, err := txt.LogPointers(h.OSSINIT.Elements)
	if err != nil {
		t.Fatal(err)
	}
	want := []txt.LogPointer{{Kind: txt.ElementEventLogAgile, Address: 0x1014c, Allocated: 0x2000, Next: 0x6ba}}
	if diff := cmp.Diff(want, logs); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
	// In this capture the address counts from the heap.
	log, err := logs[0].Parse(image[base+logs[0].Address:][:logs[0].Allocated])
	if err != nil || len(log.Events) == 0 {
		t.Errorf("the log: %v", err)
	}
}

// heap writes four tables with the elements given to SINIT.
func heap(elements ...[]byte) []byte {
	table := func(b []byte) []byte { return append(put(uint64(8+len(b))), b...) }
	end := put(uint32(0), uint32(8))
	sinit := put(uint32(7), uint32(1), make([]byte, 72), uint32(0x226), uint64(0x9000))
	for _, e := range elements {
		sinit = append(sinit, e...)
	}
	b := table(append(put(uint32(5), uint32(0), uint64(0), uint64(0), uint32(4), uint32(0), uint32(3)), end...))
	// The size of the firmware's table is no multiple of eight, as on real machines.
	b = append(b, table(append(put(uint32(1), uint32(0), uint64(0x2000), uint64(0x3000), uint64(0)), make([]byte, 72)...))...)
	b = append(b, table(append(sinit, end...))...)
	mle := put(uint32(9), make([]byte, 20), uint32(0), uint64(0), make([]byte, 80), uint32(2), uint32(0), uint32(0),
		uint32(0), uint32(0), uint32(0), uint32(0), uint32(1))
	return append(b, table(append(mle, end...))...)
}

func element(t txt.ElementType, data ...any) []byte {
	b := put(data...)
	return append(put(uint32(t), uint32(8+len(b))), b...)
}

func TestHeap(t *testing.T) {
	b := heap(
		element(txt.ElementEventLog12, uint64(0x5000)),
		element(txt.ElementEventLogPerAlg, uint32(1), uint16(tpm.SHA256), uint16(0), uint64(0x6000), uint32(0x1000), uint32(0), uint32(0x20)),
		element(txt.ElementEventLogAgile, uint64(0x7000), uint32(0x8000), uint32(0), uint32(0x100)),
		element(txt.ElementCustom, uint64(1)),
	)
	h, err := txt.ParseHeap(b)
	if err != nil {
		t.Fatal(err)
	}
	if server, known := h.BIOS.Server(); server || !known || h.SINITMLE.PolicyControl != 2 || h.SINITMLE.SCRTMStatus != 1 || h.OSSINIT.RSDP != 0x9000 {
		t.Errorf("%+v %+v %+v", h.BIOS, h.OSSINIT, h.SINITMLE)
	}
	logs, err := txt.LogPointers(h.OSSINIT.Elements)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]txt.LogPointer{
		{Kind: txt.ElementEventLog12, Address: 0x5000},
		{Kind: txt.ElementEventLogPerAlg, Address: 0x6000, Allocated: 0x1000, Next: 0x20, Alg: tpm.SHA256},
		{Kind: txt.ElementEventLogAgile, Address: 0x7000, Allocated: 0x8000, Next: 0x100},
	}, logs); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	m, err := txt.ParseOSMLE(h.OSMLE)
	if err != nil || m.SLRT != 0x3000 || m.BootParams != 0x2000 {
		t.Errorf("for the launched system: %+v, %v", m, err)
	}
}

// Both layouts of TrenchBoot's table, and tboot's, which is neither.
func TestTablesForTheLaunchedSystem(t *testing.T) {
	old := append(put(uint32(1), uint32(0x2000), uint32(0x3000), uint32(0x4000), uint32(0), uint32(0)), make([]byte, 64)...)
	if m, err := txt.ParseOSMLE(old); err != nil || *m != (txt.OSMLE{Version: 1, BootParams: 0x2000, SLRT: 0x3000, TXTInfo: 0x4000}) {
		t.Errorf("the old layout: %+v, %v", m, err)
	}
	if _, err := txt.ParseOSMLE(make([]byte, 86296)); !errors.Is(err, txt.ErrNoOSMLE) {
		t.Errorf("tboot's: %v", err)
	}
	if _, err := txt.ParseOSMLE(old[:80]); !errors.Is(err, txt.ErrNoOSMLE) {
		t.Errorf("cut: %v", err)
	}
}

// Cut anywhere, a heap gives what stands before the cut and says where it ends.
func TestHeapsThatAreCutOff(t *testing.T) {
	b := heap()
	for n := range b {
		var herr *txt.HeapError
		if _, err := txt.ParseHeap(b[:n]); !errors.As(err, &herr) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func TestElementsThatLie(t *testing.T) {
	for name, e := range map[string][]byte{
		"smaller than its header": put(uint32(4), uint32(7)),
		"of size zero":            put(uint32(4), uint32(0)),
		"larger than the table":   put(uint32(4), uint32(0x7fffffff)),
	} {
		var herr *txt.HeapError
		if _, err := txt.ParseHeap(heap(e)); !errors.As(err, &herr) || !strings.Contains(err.Error(), "element") {
			t.Errorf("an element %s: %v", name, err)
		}
	}
	for name, e := range map[string][]byte{
		"wraps":             element(txt.ElementEventLogAgile, ^uint64(0)-5, uint32(0x8000), uint32(0), uint32(0)),
		"next before first": element(txt.ElementEventLogAgile, uint64(1), uint32(0x8000), uint32(9), uint32(8)),
		"next beyond":       element(txt.ElementEventLogAgile, uint64(1), uint32(0x8000), uint32(0), uint32(0x8001)),
		"zero":              element(txt.ElementEventLog12, uint64(0)),
		"cut off":           element(txt.ElementEventLogAgile, uint64(1)),
		"a million":         element(txt.ElementEventLogPerAlg, uint32(1<<20)),
	} {
		h, err := txt.ParseHeap(heap(e))
		if err != nil {
			t.Fatal(err)
		}
		if logs, err := txt.LogPointers(h.OSSINIT.Elements); err == nil || len(logs) != 0 {
			t.Errorf("a pointer that %s: %+v, %v", name, logs, err)
		}
	}
}

var infoUUID = []byte{0xaa, 0x3a, 0xc0, 0x7f, 0xa7, 0x46, 0xdb, 0x18, 0x2e, 0xac, 0x69, 0x8f, 0x8d, 0x41, 0x7f, 0x5a}

// module writes a SINIT module without a signature.
func module() []byte {
	const header, scratch, total = 161, 143, 400
	b := put(uint16(2), uint16(0), uint32(header), uint32(0), uint16(0xb001), uint16(0), uint32(0x8086), uint32(0x20190731), uint32(total),
		uint16(3), uint16(1), make([]byte, 20), uint32(0x1000), make([]byte, 64), uint32(64), uint32(scratch))
	b = append(b, make([]byte, total*4-len(b))...)
	at := (header + scratch) * 4
	copy(b[at:], infoUUID)
	copy(b[at+16:], put(uint8(1), uint8(6), uint16(48), uint32(1300), uint32(7), uint32(0x20000), uint32(0x22e), uint32(0), uint32(1400), uint32(1500)))
	copy(b[1300:], put(uint32(1), uint32(1), uint16(0x8086), uint16(0xb001), uint16(0x0f), uint16(0), uint32(0)))
	copy(b[1400:], put(uint32(1), uint32(0x506e0), uint32(0xfffffff0), uint64(0), uint64(0)))
	copy(b[1500:], put(uint32(5), uint16(2), uint16(4), uint16(0xb)))
	return b
}

func TestModules(t *testing.T) {
	m, err := txt.ParseModule(append(module(), "behind it"...))
	if err != nil {
		t.Fatal(err)
	}
	want := &txt.Module{
		ChipsetID: 0xb001, Vendor: 0x8086, Year: 2019, Month: 7, Day: 31, Size: 1600, TXTSVN: 3, SGXSVN: 1, EntryPoint: 0x1000,
		Kind: txt.KindSINIT, InfoVersion: 6, OSSINITVersion: 7, MLEVersion: 0x20000, Capabilities: 0x22e,
		Chipsets:        []txt.ChipsetID{{Flags: 1, Vendor: 0x8086, Device: 0xb001, Revision: 0x0f}},
		Processors:      []txt.ProcessorID{{FMS: 0x506e0, FMSMask: 0xfffffff0}},
		TPMCapabilities: 5, TPMAlgs: []tpm.Alg{tpm.SHA1, tpm.SHA256},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	good := txt.Machine{Vendor: 0x8086, Device: 0xb001, Revision: 2, FMS: 0x506e3, Production: true}
	for name, c := range map[string]struct {
		change func(x *txt.Machine)
		reason string
	}{
		"the machine":      {func(*txt.Machine) {}, ""},
		"an unknown CPU":   {func(x *txt.Machine) { x.FMS = 0 }, ""},
		"another chipset":  {func(x *txt.Machine) { x.Device++ }, "chipset"},
		"another revision": {func(x *txt.Machine) { x.Revision = 0x10 }, "chipset"},
		"another CPU":      {func(x *txt.Machine) { x.FMS = 0x806ea }, "CPU"},
		"a debug chipset":  {func(x *txt.Machine) { x.Production = false }, "other kind"},
	} {
		x := good
		c.change(&x)
		ok, reason := m.Fits(x)
		if ok != (c.reason == "") || !strings.Contains(reason, c.reason) {
			t.Errorf("%s: %t, %q", name, ok, reason)
		}
	}
	if m.Date() != "2019-07-31" {
		t.Errorf("the date is %s", m.Date())
	}
}

func TestModulesThatAreNone(t *testing.T) {
	change := func(at int, v any) []byte { b := module(); copy(b[at:], put(v)); return b }
	for name, b := range map[string][]byte{
		"empty": nil, "another type": change(0, uint16(1)), "another vendor": change(16, uint32(0x1022)), "cut off": module()[:1599],
		"huge": change(24, uint32(0xffffffff)), "a size below its header": change(24, uint32(4)), "its table elsewhere": change(4, uint32(160)),
		"its table far away": change(4, uint32(0xffffffff)), "a long list": change(1300, uint32(0xffffffff)), "a list outside": change((161+143)*4+20, uint32(0xffffff)),
	} {
		if m, err := txt.ParseModule(b); !errors.Is(err, txt.ErrNoModule) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func TestMLEHeaders(t *testing.T) {
	h := append(txt.MLEUUID[:], put(uint32(52), uint16(2), uint16(2), uint32(0x10), uint32(0), uint32(0x1000), uint32(0x5000), uint32(0x223), uint32(0), uint32(0))...)
	m, err := txt.FindMLE(append([]byte("code"), h...))
	if err != nil || *m != (txt.MLE{Offset: 4, Length: 52, Minor: 2, Major: 2, Entry: 0x10, Start: 0x1000, End: 0x5000, Capabilities: 0x223}) {
		t.Errorf("%+v, %v", m, err)
	}
	for _, b := range [][]byte{nil, []byte("no header"), h[:51]} {
		if _, err := txt.FindMLE(b); !errors.Is(err, txt.ErrNoMLE) {
			t.Errorf("%q: %v", b, err)
		}
	}
	if got := strings.Join(txt.Capabilities(0x223), ", "); got != "GETSEC wake-up, MONITOR wake-up, details and authorities, TCG 2.0 log" {
		t.Errorf("0x223 is %q", got)
	}
}

func FuzzHeap(f *testing.F) {
	f.Add(heap())
	f.Add(heap(element(txt.ElementEventLogAgile, uint64(1), uint32(0x8000), uint32(0), uint32(9))))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := txt.ParseHeap(b)
		var herr *txt.HeapError
		if err != nil && !errors.As(err, &herr) {
			t.Errorf("an error without a place: %v", err)
		}
		if h.OSSINIT != nil {
			logs, _ := txt.LogPointers(h.OSSINIT.Elements)
			for _, l := range logs {
				if l.Next > l.Allocated {
					t.Errorf("a pointer beyond its memory: %+v", l)
				}
			}
		}
		txt.ParseOSMLE(h.OSMLE)
	})
}

func FuzzModule(f *testing.F) {
	f.Add(module())
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := txt.ParseModule(b); err == nil {
			m.Fits(txt.Machine{Vendor: 0x8086})
			if int(m.Size) > len(b) {
				t.Errorf("a module of %d bytes in %d", m.Size, len(b))
			}
		}
		txt.FindMLE(b)
	})
}

func FuzzRegisters(f *testing.F) {
	f.Add(make([]byte, txt.PublicSize), uint32(0xc00014f1))
	f.Fuzz(func(t *testing.T, b []byte, code uint32) {
		if r, err := txt.ParseRegisters(b); err == nil {
			r.Rows()
		}
		if c := txt.ErrorCode(code); c.String() == "" {
			t.Error("a code without words")
		}
	})
}
