package doctor_test

import (
	"strings"
	"testing"

	"github.com/antievilmaid/aem/aem/doctor"
	"github.com/antievilmaid/aem/internal/corpus"
)

// Registers of real machines, with what their owners reported.
func TestRegistersOfRealMachines(t *testing.T) {
	goodDPR := row{doctor.Good, "locked", ""}
	launched := map[string]row{
		doctor.RowRegisters: {doctor.Good, "", ""}, doctor.RowStatus: {doctor.Good, "in a measured environment", ""},
		doctor.RowError: {doctor.Good, "no error", ""}, doctor.RowSMX: {doctor.Good, "executed SENTER", ""}, doctor.RowDPR: goodDPR,
	}
	for name, want := range map[string]map[string]row{
		"regs-LENOVO-10RRS23209-20240227-172728.bin":                           launched,
		"regs-GETAC-UX10G2-20250928-091815.bin":                                launched,
		"regs-LENOVO-20HRS11400-20260212-141452.bin":                           launched,
		"regs-HP-HP_EliteDesk_800_G2_DM_35W-20250711-142411.bin":               launched,
		"regs-ASRock-Z790_PG_Lightning-20250925-052133.bin":                    {doctor.RowStatus: {doctor.Warning, "entered and left", "restart"}},
		"regs-HP-HP_EliteDesk_800_G2_DM_35W-20250711-142317.bin":               {doctor.RowError: {doctor.Bad, "0xc00014f1", "update GRUB"}, doctor.RowDPR: goodDPR},
		"regs-HP-HP_EliteBook_1040_14_inch_G9_Notebook_PC-20250928-113722.bin": {doctor.RowError: {doctor.Bad, "0xc0001c21", "MTRRs"}},
		"guard-bootstrap-txt-public-space-unavailable.bin":                     {doctor.RowRegisters: {doctor.Bad, "does not decode", "switch Intel TXT"}},
	} {
		b := corpus.Read(t, "txt/"+name)
		e := &doctor.Evidence{CPUInfo: cpuinfo("GenuineIntel", 6, 94, 3, "a CPU", "vmx smx"), Registers: b}
		records := doctor.Examine(e, today)
		for what, w := range want {
			r := doctor.Find(records, what)
			if r.State != w.state || !strings.Contains(r.Text, w.text) || !strings.Contains(r.Advice, w.advice) {
				t.Errorf("%s: %s is %s: %q, advice %q", name, what, r.State, r.Text, r.Advice)
			}
		}
	}
}

// The heap of a real server, whose firmware brings a module.
func TestAHeapOfARealMachine(t *testing.T) {
	b := corpus.Read(t, "txt/intelsecl-txt_heap_info.bin")
	e := txtLaptop(t)
	e.Heap = b[0x1000:]
	r := doctor.Find(doctor.Examine(e, today), doctor.RowHeap)
	if r.State != doctor.Good || !strings.Contains(r.Text, "version 3") {
		t.Errorf("%s: %s", r.State, r.Text)
	}
}
