package doctor_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/aem/doctor"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/tpm"
)

// table are the rows' states.
func table(e *doctor.Evidence) map[string]string {
	m := map[string]string{}
	for _, r := range doctor.Examine(e, today) {
		m[r.Name] = r.State.String()
	}
	return m
}

func TestAGoodTXTLaptop(t *testing.T) {
	want := map[string]string{}
	for _, r := range doctor.Examine(txtLaptop(t), today) {
		want[r.Name] = "good"
	}
	for _, name := range []string{doctor.RowSKINIT, doctor.RowSVM, doctor.RowSKL} {
		want[name] = "not applicable"
	}
	if diff := cmp.Diff(want, table(txtLaptop(t))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if len(want) < 28 {
		t.Errorf("there are only %d rows", len(want))
	}
}

func TestAGoodAMDMachine(t *testing.T) {
	want := map[string]string{}
	for _, r := range doctor.Examine(amdMachine(t), today) {
		want[r.Name] = "good"
		if r.Way == "txt" {
			want[r.Name] = "not applicable"
		}
	}
	if diff := cmp.Diff(want, table(amdMachine(t))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What the owner reads in the good case.
func TestTheTextsOfAGoodLaptop(t *testing.T) {
	records := doctor.Examine(txtLaptop(t), today)
	for name, want := range map[string]string{
		doctor.RowMachine:    "HP EliteDesk 800 G2, firmware N21 of 01/02/2023",
		doctor.RowTPM:        "TPM 2.0",
		doctor.RowTPMMaker:   "IFX SLB9670, firmware 7.85.17.51970, specification 1.38",
		doctor.RowBanks:      "sha1, sha256",
		doctor.RowFreeNV:     "room for 8 counters and 4 keys; 2 indices in use",
		doctor.RowLockout:    "0 of 32 wrong tries; one is forgiven every 2h0m0s, and the lockout password is taken again 24h0m0s after a wrong one",
		doctor.RowChipset:    "8086:b001, revision 0x2, production",
		doctor.RowHeap:       "the firmware's table has version 3, a client, 8 processors; no SINIT module in the firmware",
		doctor.RowSINIT:      "sinit-skylake.bin of 2019-07-31",
		doctor.RowTXTIndices: "the auxiliary index 0x1c10102 is there; an owner's launch policy (0x1c10106), which must allow the launch",
		doctor.RowLaunch:     "launched by Intel TXT, and the log explains PCRs 17 and 18 in every bank",
	} {
		if r := doctor.Find(records, name); r == nil || r.Text != want {
			t.Errorf("%s: %+v; want %q", name, r, want)
		}
	}
	for _, r := range records {
		if r.Chapter == "" || r.Text == "" || r.State == doctor.Good && r.Advice != "" {
			t.Errorf("%+v", r)
		}
	}
}

func bits(e *doctor.Evidence) *doctor.Evidence {
	e.Registers = registers(map[int]uint64{0: 2})
	return e
}

// Each case is one thing that is wrong with a machine that is good otherwise, and
// every row that it changes.
func TestFaultsOfATXTLaptop(t *testing.T) {
	unread := row{doctor.Unknown, "does not decode", ""}
	for name, c := range map[string]struct {
		change func(e *doctor.Evidence)
		want   map[string]row
	}{
		"TXT off in the firmware": {func(e *doctor.Evidence) {
			notLaunched(e)
			e.Registers, e.Heap = bytes.Repeat([]byte{0xff}, 0x1000), nil
			*e.Firmware.FeatureControl = 5
		}, map[string]row{
			doctor.RowRegisters: {doctor.Bad, "does not decode", "switch Intel TXT"},
			doctor.RowSENTER:    {doctor.Bad, "switched SENTER off (IA32_FEATURE_CONTROL 0x5)", "switch Intel TXT"},
			doctor.RowChipset:   unread, doctor.RowHeap: unread, doctor.RowDPR: unread, doctor.RowStatus: unread, doctor.RowError: unread, doctor.RowSecrets: unread,
			doctor.RowSINIT:    {doctor.Unknown, "1 found", ""},
			doctor.RowSINITAge: {doctor.NotApplicable, "", ""},
			doctor.RowLaunch:   {doctor.Warning, "not launched", "choose the boot entry"},
			doctor.RowLog:      {doctor.NotApplicable, "no launch", ""},
		}},
		"registers that read as zeros": {func(e *doctor.Evidence) {
			notLaunched(e)
			e.Registers, e.Heap = make([]byte, 0x1000), nil
		}, map[string]row{
			doctor.RowRegisters: {doctor.Bad, "does not decode", "switch Intel TXT"},
			doctor.RowChipset:   unread, doctor.RowHeap: unread, doctor.RowDPR: unread, doctor.RowStatus: unread, doctor.RowError: unread, doctor.RowSecrets: unread,
			doctor.RowSINIT:    {doctor.Unknown, "1 found", ""},
			doctor.RowSINITAge: {doctor.NotApplicable, "", ""},
			doctor.RowLaunch:   {doctor.Warning, "not launched", ""},
			doctor.RowLog:      {doctor.NotApplicable, "", ""},
		}},
		"VMX in SMX forbidden": {func(e *doctor.Evidence) {
			notLaunched(bits(e))
			*e.Firmware.FeatureControl = 0xff05
		}, map[string]row{
			doctor.RowSENTER:  {doctor.Bad, "forbids VMX after SENTER", ""},
			doctor.RowSecrets: {doctor.Warning, "no launched system runs", ""},
			doctor.RowLaunch:  {doctor.Warning, "", ""}, doctor.RowLog: {doctor.NotApplicable, "", ""},
		}},
		"a function of SENTER forbidden": {func(e *doctor.Evidence) {
			notLaunched(bits(e))
			*e.Firmware.FeatureControl = 0xbf07
		}, map[string]row{
			doctor.RowSENTER: {doctor.Bad, "switched SENTER off", ""}, doctor.RowSecrets: {doctor.Warning, "", ""},
			doctor.RowLaunch: {doctor.Warning, "", ""}, doctor.RowLog: {doctor.NotApplicable, "", ""},
		}},
		"feature control unlocked": {func(e *doctor.Evidence) {
			notLaunched(bits(e))
			*e.Firmware.FeatureControl = 0xff06
		}, map[string]row{
			doctor.RowSENTER: {doctor.Bad, "unlocked", ""}, doctor.RowSecrets: {doctor.Warning, "", ""},
			doctor.RowLaunch: {doctor.Warning, "", ""}, doctor.RowLog: {doctor.NotApplicable, "", ""},
		}},
		"ERRORCODE 0xC00014F1": {func(e *doctor.Evidence) {
			notLaunched(e)
			e.Registers = registers(map[int]uint64{0: 2, 0x30: 0xc00014f1, 0x8f0: 0})
		}, map[string]row{
			doctor.RowError:  {doctor.Bad, "MLE header: the size differs from the one that the loader gave (ERRORCODE 0xc00014f1)", "update GRUB"},
			doctor.RowLaunch: {doctor.Warning, "", ""}, doctor.RowLog: {doctor.NotApplicable, "", ""},
		}},
		"an old error after a launch": {func(e *doctor.Evidence) { e.Registers = registers(map[int]uint64{0x30: 0xc0001c21}) }, map[string]row{
			doctor.RowError: {doctor.Warning, "launched all the same", ""},
		}},
		"a reset by TXT": {func(e *doctor.Evidence) {
			notLaunched(e)
			e.Registers = registers(map[int]uint64{0: 0, 8: 1, 0x8f0: 0})
		}, map[string]row{
			doctor.RowStatus: {doctor.Bad, "until the power was off", "a restart is not enough"},
			doctor.RowLaunch: {doctor.Warning, "", ""}, doctor.RowLog: {doctor.NotApplicable, "", ""},
		}},
		"the environment was left": {func(e *doctor.Evidence) { e.Registers = registers(map[int]uint64{0: 3, 0x8f0: 0}) }, map[string]row{
			doctor.RowStatus: {doctor.Warning, "entered and left", "restart"}, doctor.RowLaunch: {doctor.Warning, "was left", "restart"},
		}},
		"the TPM denies the launch": {func(e *doctor.Evidence) { log := e.Log; notLaunched(e); e.Log = log }, map[string]row{
			doctor.RowLaunch: {doctor.Bad, "the TPM says that it was not", "tampered"}, doctor.RowLog: {doctor.Warning, "there was no launch", ""},
		}},
		"the registers deny the launch": {func(e *doctor.Evidence) { e.Registers = registers(map[int]uint64{0: 0, 0x8f0: 0}) }, map[string]row{
			doctor.RowLaunch: {doctor.Bad, "TXT registers say that it was not", "tampered"},
		}},
		"a launch without TXT": {func(e *doctor.Evidence) { e.Registers, e.Heap = bytes.Repeat([]byte{0xff}, 0x1000), nil }, map[string]row{
			doctor.RowLaunch:    {doctor.Bad, "no TXT that could have done so", "tampered"},
			doctor.RowRegisters: {doctor.Bad, "", ""},
			doctor.RowChipset:   unread, doctor.RowHeap: unread, doctor.RowDPR: unread, doctor.RowStatus: unread, doctor.RowError: unread, doctor.RowSecrets: unread,
			doctor.RowSINIT: {doctor.Unknown, "", ""}, doctor.RowSINITAge: {doctor.NotApplicable, "", ""},
		}},
		"a wrong SINIT module": {func(e *doctor.Evidence) {
			notLaunched(e)
			e.Registers = registers(map[int]uint64{0: 0, 0x8f0: 0})
			e.Modules = []doctor.Module{module("sinit-other.bin", sinit(0xb006))}
		}, map[string]row{
			doctor.RowSINIT: {doctor.Bad, "sinit-other.bin of 2019-07-31: chipset 8086:b001 revision 0x2 is not in its list",
				"get the SINIT module for chipset 8086:b001 (revision 0x2)"},
			doctor.RowSINITAge: {doctor.NotApplicable, "", ""},
			doctor.RowLaunch:   {doctor.Warning, "", ""}, doctor.RowLog: {doctor.NotApplicable, "", ""},
		}},
		"a module for another CPU": {func(e *doctor.Evidence) {
			e.CPUInfo = cpuinfo("GenuineIntel", 6, 142, 10, "another", "vmx smx")
		}, map[string]row{
			doctor.RowSINIT: {doctor.Warning, "by no module that lies below /boot", ""}, doctor.RowSINITAge: {doctor.NotApplicable, "", ""},
		}},
		"no SINIT module": {func(e *doctor.Evidence) {
			notLaunched(e)
			e.Registers = registers(map[int]uint64{0: 0, 0x8f0: 0})
			e.Modules = []doctor.Module{}
		}, map[string]row{
			doctor.RowSINIT: {doctor.Bad, "there is none below /boot", "8086:b001"}, doctor.RowSINITAge: {doctor.NotApplicable, "", ""},
			doctor.RowLaunch: {doctor.Warning, "", ""}, doctor.RowLog: {doctor.NotApplicable, "", ""},
		}},
		"a module in the firmware": {func(e *doctor.Evidence) { e.Modules, e.Heap = nil, heap(0x10000, 0x8000, 0x6ba) }, map[string]row{
			doctor.RowSINIT: {doctor.Good, "the firmware brings one", ""}, doctor.RowSINITAge: {doctor.NotApplicable, "", ""},
			doctor.RowHeap: {doctor.Good, "brings a SINIT module of 65536 bytes", ""},
		}},
		"no SMX": {func(e *doctor.Evidence) {
			notLaunched(e)
			e.Registers = registers(map[int]uint64{0: 0, 0x8f0: 0})
			e.CPUInfo = cpuinfo("GenuineIntel", 6, 94, 3, "Intel Core i3", "vmx")
		}, map[string]row{
			doctor.RowSMX: {doctor.Bad, "Intel Core i3 has no SMX", ""}, doctor.RowLaunch: {doctor.Warning, "", ""}, doctor.RowLog: {doctor.NotApplicable, "", ""},
		}},
		"VMX off": {func(e *doctor.Evidence) {
			notLaunched(e)
			e.Registers = registers(map[int]uint64{0: 0, 0x8f0: 0})
			e.CPUInfo = cpuinfo("GenuineIntel", 6, 94, 3, "Intel Core i5", "smx")
		}, map[string]row{
			doctor.RowSMX: {doctor.Bad, "its VMX is missing or switched off", "VT-x"}, doctor.RowLaunch: {doctor.Warning, "", ""}, doctor.RowLog: {doctor.NotApplicable, "", ""},
		}},
		"a debug chipset": {func(e *doctor.Evidence) { e.Registers = registers(map[int]uint64{0x200: 0}) }, map[string]row{
			doctor.RowChipset: {doctor.Warning, "for debugging", ""}, doctor.RowSINIT: {doctor.Warning, "", ""}, doctor.RowSINITAge: {doctor.NotApplicable, "", ""},
		}},
		"another maker's chipset": {func(e *doctor.Evidence) { e.Registers = registers(map[int]uint64{0x110: 0x2_b001_1022}) }, map[string]row{
			doctor.RowChipset: {doctor.Bad, "1022:b001", ""}, doctor.RowSINIT: {doctor.Warning, "", ""}, doctor.RowSINITAge: {doctor.NotApplicable, "", ""},
		}},
		"no heap": {func(e *doctor.Evidence) { e.Registers, e.Heap = registers(map[int]uint64{0x300: 0, 0x308: 0}), nil }, map[string]row{
			doctor.RowHeap: {doctor.Bad, "set no TXT heap up", "switch Intel TXT"},
		}},
		"a broken heap": {func(e *doctor.Evidence) { le.PutUint64(e.Heap, 20) }, map[string]row{
			doctor.RowHeap: {doctor.Bad, "left no valid table", "update the firmware"},
		}},
		"an unlocked DPR": {func(e *doctor.Evidence) { e.Registers = registers(map[int]uint64{0x330: 0xd9000040}) }, map[string]row{
			doctor.RowDPR: {doctor.Warning, "not locked", ""},
		}},
		"a heap outside of the DPR": {func(e *doctor.Evidence) { e.Registers = registers(map[int]uint64{0x330: 0xd8f00041}) }, map[string]row{
			doctor.RowDPR: {doctor.Bad, "does not lie in it", ""},
		}},
		"a heap below the DPR": {func(e *doctor.Evidence) { e.Registers = registers(map[int]uint64{0x300: 0xd8b00000}) }, map[string]row{
			doctor.RowDPR: {doctor.Bad, "does not lie in it", ""},
		}},
		"a DPR elsewhere": {func(e *doctor.Evidence) { e.Registers = registers(map[int]uint64{0x330: 0}) }, map[string]row{
			doctor.RowDPR: {doctor.Unknown, "elsewhere", ""},
		}},
		"no auxiliary index": {func(e *doctor.Evidence) { e.TPM.Indices = []doctor.Hex{} }, map[string]row{
			doctor.RowTXTIndices: {doctor.Warning, "auxiliary index is missing: the SINIT module may stop; no owner's launch policy", ""},
		}},
		"registers by the kernel": {func(e *doctor.Evidence) { e.Firmware.RegistersBy, e.Heap = "kernel", nil }, map[string]row{
			doctor.RowHeap: {doctor.Unknown, "does not show", ""}, doctor.RowDPR: {doctor.Unknown, "does not show", ""},
		}},
		"a full log, by the heap": {func(e *doctor.Evidence) { e.Heap = heap(0, 0x700, 0x6ba) }, map[string]row{
			doctor.RowLog: {doctor.Warning, "it is full", "missing"},
		}},
		"a log that was cut": {func(e *doctor.Evidence) { e.Log = e.Log[:len(e.Log)-5] }, map[string]row{
			doctor.RowLog: {doctor.Bad, "can be read of it", ""}, doctor.RowLaunch: {doctor.Warning, "not proven", ""},
			// The launch is no longer proven; the chip's maker speaks for it.
			doctor.RowLocality: {doctor.Good, "a chip of its own", ""},
		}},
		"no log": {func(e *doctor.Evidence) { e.Log = nil }, map[string]row{
			doctor.RowLog: {doctor.Unknown, "not among the evidence", ""}, doctor.RowLaunch: {doctor.Warning, "not proven", ""},
		}},
		"a simulated launch": {func(e *doctor.Evidence) { e.Firmware.Simulated = true }, map[string]row{
			doctor.RowLaunch: {doctor.Warning, "simulated by a program", ""},
		}},
		"no IOMMU": {func(e *doctor.Evidence) { e.Firmware.IOMMUs, e.Firmware.Tables = nil, nil }, map[string]row{
			doctor.RowIOMMU: {doctor.Bad, "announces no IOMMU", "VT-d"},
		}},
		"an IOMMU that is not used": {func(e *doctor.Evidence) { e.Firmware.IOMMUs = nil }, map[string]row{
			doctor.RowIOMMU: {doctor.Warning, "does not use it", "intel_iommu=on"},
		}},
		"lockdown": {func(e *doctor.Evidence) {
			e.Firmware.SecureBoot, e.Firmware.Lockdown = ptr(true), "integrity"
			e.Registers, e.Heap, e.Firmware.FeatureControl = nil, nil, nil
			e.Missing = map[string]string{"txt-registers.bin": "operation not permitted", "IA32_FEATURE_CONTROL": "operation not permitted"}
		}, map[string]row{
			doctor.RowLockdown:  {doctor.Warning, "Secure Boot is on, and the kernel's lockdown (integrity)", ""},
			doctor.RowRegisters: {doctor.Unknown, "operation not permitted", "lockdown"},
			doctor.RowSENTER:    {doctor.Unknown, "operation not permitted", "root"},
			doctor.RowChipset:   {doctor.Unknown, "", ""}, doctor.RowHeap: {doctor.Unknown, "", ""}, doctor.RowDPR: {doctor.Unknown, "", ""},
			doctor.RowSINIT: {doctor.Unknown, "", ""}, doctor.RowSINITAge: {doctor.NotApplicable, "", ""}, doctor.RowStatus: {doctor.Unknown, "", ""},
			doctor.RowError: {doctor.Unknown, "", ""}, doctor.RowSecrets: {doctor.Unknown, "", ""},
		}},
		"Secure Boot alone": {func(e *doctor.Evidence) { e.Firmware.SecureBoot = ptr(true) }, map[string]row{
			doctor.RowLockdown: {doctor.Warning, "Secure Boot is on", "signed"},
		}},
		"a virtual machine": {func(e *doctor.Evidence) { e.CPUInfo = append(bytes.TrimSpace(e.CPUInfo), " hypervisor\n"...) }, map[string]row{
			doctor.RowMachine: {doctor.Bad, "virtual machine", "the machine itself"},
		}},
		"a guest of Xen": {func(e *doctor.Evidence) { e.Xen = &doctor.Xen{} }, map[string]row{
			doctor.RowMachine: {doctor.Bad, "guest of Xen", "dom0"}, doctor.RowSMX: {doctor.Good, "has executed SENTER", ""},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			e := txtLaptop(t)
			c.change(e)
			compare(t, txtLaptop(t), e, c.want)
		})
	}
}

func TestTheAgeOfAModule(t *testing.T) {
	for years, want := range map[int]doctor.State{1: doctor.Good, 2: doctor.Warning, -3: doctor.Warning} {
		records := doctor.Examine(txtLaptop(t), today.AddDate(years, 0, 0))
		if r := doctor.Find(records, doctor.RowSINITAge); r.State != want {
			t.Errorf("%d years later: %s: %s", years, r.State, r.Text)
		}
	}
}

func TestFaultsOfAnAMDMachine(t *testing.T) {
	for name, c := range map[string]struct {
		change func(e *doctor.Evidence)
		want   map[string]row
	}{
		"the firmware's TPM": {func(e *doctor.Evidence) {
			notLaunched(e)
			e.TPM.Properties[0x105] = 0x414d4400
		}, map[string]row{
			doctor.RowLocality: {doctor.Bad, "AMD's firmware TPM, which has no locality 4", "dTPM"},
			doctor.RowLaunch:   {doctor.Warning, "", ""}, doctor.RowLog: {doctor.NotApplicable, "", ""},
		}},
		"SVM off": {func(e *doctor.Evidence) { *e.Firmware.VMCR = 0x18 }, map[string]row{
			doctor.RowSVM: {doctor.Bad, "switched SVM off (VM_CR 0x18)", "SVM"},
		}},
		"SVM off, and hidden": {func(e *doctor.Evidence) { e.CPUInfo = cpuinfo("AuthenticAMD", 22, 48, 1, "AMD GX", "skinit") }, map[string]row{
			doctor.RowSKINIT: {doctor.Bad, "AMD GX has SKINIT, but its SVM", "SVM"},
		}},
		"no SKINIT": {func(e *doctor.Evidence) { e.CPUInfo = cpuinfo("AuthenticAMD", 22, 48, 1, "AMD GX", "svm") }, map[string]row{
			doctor.RowSKINIT: {doctor.Bad, "AMD GX has no SKINIT", ""},
		}},
		"MSRs closed": {func(e *doctor.Evidence) {
			e.Firmware.VMCR, e.Missing = nil, map[string]string{"VM_CR": "permission denied"}
		}, map[string]row{
			doctor.RowSVM: {doctor.Unknown, "permission denied", "root"},
		}},
		"no loader": {func(e *doctor.Evidence) { e.Modules = []doctor.Module{} }, map[string]row{
			doctor.RowSKL: {doctor.Bad, "none below /boot", "skl.bin"},
		}},
		"boot closed": {func(e *doctor.Evidence) {
			e.Modules, e.Missing = nil, map[string]string{"modules": "permission denied"}
		}, map[string]row{
			doctor.RowSKL: {doctor.Unknown, "permission denied", "root"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			e := amdMachine(t)
			c.change(e)
			compare(t, amdMachine(t), e, c.want)
		})
	}
}

func TestFaultsOfATPM(t *testing.T) {
	none := row{doctor.NotApplicable, "there is no TPM", ""}
	closed := row{doctor.Unknown, "permission denied", "root"}
	set := func(p, v doctor.Hex) func(*doctor.Evidence) {
		return func(e *doctor.Evidence) { e.TPM.Properties[p] = v }
	}
	for name, c := range map[string]struct {
		change func(e *doctor.Evidence)
		want   map[string]row
	}{
		"no TPM": {func(e *doctor.Evidence) { e.TPM, e.Log = &doctor.TPM{Absent: true}, nil }, map[string]row{
			doctor.RowTPM:      {doctor.Bad, "shows no TPM", "firmware's setup"},
			doctor.RowTPMMaker: none, doctor.RowTPMOn: none, doctor.RowBanks: none, doctor.RowBankUse: none, doctor.RowFreeNV: none,
			doctor.RowLockout: none, doctor.RowLocality: none, doctor.RowTXTIndices: none, doctor.RowLaunch: none,
			doctor.RowLog: {doctor.Unknown, "", ""},
		}},
		"a TPM that was not read": {func(e *doctor.Evidence) { e.TPM, e.Missing = nil, map[string]string{"tpm.json": "permission denied"} }, map[string]row{
			doctor.RowTPM:      closed,
			doctor.RowTPMMaker: closed, doctor.RowTPMOn: closed, doctor.RowBanks: closed, doctor.RowBankUse: closed, doctor.RowFreeNV: closed,
			doctor.RowLockout: closed, doctor.RowLocality: closed, doctor.RowTXTIndices: closed, doctor.RowLaunch: closed,
			doctor.RowLog: {doctor.Warning, "no PCR of the TPM could be read", ""},
		}},
		"weak RSA keys": {set(0x10b, 0x0007003d), map[string]row{doctor.RowTPMMaker: {doctor.Warning, "ROCA", "clear the TPM"}}},
		"storage off":   {set(0x201, 0xd), map[string]row{doctor.RowTPMOn: {doctor.Bad, "storage hierarchy is off", ""}}},
		"endorsement off": {set(0x201, 0xb), map[string]row{
			doctor.RowTPMOn: {doctor.Warning, "endorsement hierarchy is off", ""},
		}},
		"no counter free": {set(0x20b, 0), map[string]row{doctor.RowFreeNV: {doctor.Warning, "no counter more", "remove"}}},
		"no key free":     {set(0x209, 0), map[string]row{doctor.RowFreeNV: {doctor.Warning, "no persistent key more", ""}}},
		"wrong tries":     {set(0x20e, 3), map[string]row{doctor.RowLockout: {doctor.Warning, "3 of 32", ""}}},
		"locked by count": {set(0x20e, 32), map[string]row{doctor.RowLockout: {doctor.Warning, "refuses all PINs", "wait 2h0m0s"}}},
		"locked by flag":  {set(0x200, 1<<9|1<<2), map[string]row{doctor.RowLockout: {doctor.Warning, "refuses all PINs", ""}}},
		"no lockout password": {set(0x200, 0), map[string]row{
			doctor.RowLockout: {doctor.Warning, "no lockout password", ""},
		}},
		"forgives at once": {set(0x210, 0), map[string]row{doctor.RowLockout: {doctor.Warning, "guessed", ""}}},
		"SHA-1 alone": {func(e *doctor.Evidence) { e.TPM.Banks = e.TPM.Banks[:1] }, map[string]row{
			doctor.RowBanks: {doctor.Warning, "sha1, and not sha256", "SHA-256"},
		}},
		"four banks": {func(e *doctor.Evidence) {
			e.TPM.Banks = append(e.TPM.Banks, doctor.Bank{Alg: "sm3_256"}, doctor.Bank{Alg: "sha3_256"})
		}, map[string]row{
			doctor.RowBanks:  {doctor.Warning, "refuse a TPM with more than 3 banks", "tpm2_pcrallocate"},
			doctor.RowLaunch: {doctor.Warning, "could not be read", ""}, doctor.RowLog: {doctor.Warning, "", ""},
		}},
		"a bank that nobody uses": {func(e *doctor.Evidence) {
			for _, p := range []string{"0", "1", "2", "3", "4", "5", "6", "7"} {
				e.TPM.Banks[1].PCRs[p] = make([]byte, 32)
			}
		}, map[string]row{
			doctor.RowBankUse: {doctor.Warning, "nothing measures into the bank sha256", "tpm2_pcrallocate"},
		}},
		"firmware that measures nothing": {func(e *doctor.Evidence) {
			for _, b := range e.TPM.Banks {
				for _, p := range []string{"0", "1", "2", "3", "4", "5", "6", "7"} {
					b.PCRs[p] = make([]byte, len(b.PCRs[p]))
				}
			}
		}, map[string]row{
			doctor.RowBankUse: {doctor.Warning, "measures into no bank", ""},
		}},
		"Microsoft's TPM": {func(e *doctor.Evidence) { notLaunched(bits(e)); e.TPM.Properties[0x105] = 0x4d534654 }, map[string]row{
			doctor.RowLocality: {doctor.Unknown, "Microsoft", ""},
			doctor.RowSecrets:  {doctor.Warning, "", ""}, doctor.RowLaunch: {doctor.Warning, "", ""}, doctor.RowLog: {doctor.NotApplicable, "", ""},
		}},
		"an emulated TPM": {func(e *doctor.Evidence) { notLaunched(bits(e)); e.TPM.Properties[0x105] = 0x49424d00 }, map[string]row{
			doctor.RowLocality: {doctor.Bad, "emulated (IBM)", ""},
			doctor.RowSecrets:  {doctor.Warning, "", ""}, doctor.RowLaunch: {doctor.Warning, "", ""}, doctor.RowLog: {doctor.NotApplicable, "", ""},
		}},
		"Intel's firmware TPM": {func(e *doctor.Evidence) { notLaunched(bits(e)); e.TPM.Properties[0x105] = 0x494e5443 }, map[string]row{
			doctor.RowLocality: {doctor.Good, "PTT", ""},
			doctor.RowSecrets:  {doctor.Warning, "", ""}, doctor.RowLaunch: {doctor.Warning, "", ""}, doctor.RowLog: {doctor.NotApplicable, "", ""},
		}},
		"an unknown family": {func(e *doctor.Evidence) { e.TPM.Family = "3.0" }, map[string]row{
			doctor.RowTPM: {doctor.Unknown, `"3.0"`, ""},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			e := txtLaptop(t)
			c.change(e)
			compare(t, txtLaptop(t), e, c.want)
		})
	}
}

// tpm12Laptop is the laptop with a TPM 1.2.
func tpm12Laptop(t testing.TB) *doctor.Evidence {
	e := txtLaptop(t)
	e.Log, e.TPM.Banks = launch(t, drtm.TXT, tpm.V12)
	flags := make([]byte, 22)
	flags[17] = 1
	e.TPM = &doctor.TPM{
		Family: "1.2", Banks: e.TPM.Banks, Indices: []doctor.Hex{0x50000003}, Flags: flags, Owned: ptr(true), FreeNV: ptr(uint32(1200)),
		Version: []byte{0, 0x30, 1, 2, 13, 12, 0, 2, 3, 'S', 'T', 'M', ' ', 0, 0}, Defence: &doctor.Defence{Allowed: 5},
	}
	return e
}

func TestATPM12(t *testing.T) {
	compare(t, txtLaptop(t), tpm12Laptop(t), map[string]row{
		doctor.RowTPM:        {doctor.Good, "TPM 1.2", ""},
		doctor.RowTPMMaker:   {doctor.Good, "STM, firmware 13.12, specification level 2, errata 3", ""},
		doctor.RowTPMOn:      {doctor.Good, "enabled and active", ""},
		doctor.RowBanks:      {doctor.Warning, "sha1 alone", ""},
		doctor.RowFreeNV:     {doctor.Good, "1200 bytes, 1 areas in use", ""},
		doctor.RowLockout:    {doctor.Good, "no wrong tries", ""},
		doctor.RowTXTIndices: {doctor.Good, "0x50000003", ""},
	})
	for name, c := range map[string]struct {
		change func(e *doctor.TPM)
		want   map[string]row
	}{
		"disabled":            {func(e *doctor.TPM) { e.Flags[2] = 1 }, map[string]row{doctor.RowTPMOn: {doctor.Bad, "disabled", "enable"}}},
		"deactivated":         {func(e *doctor.TPM) { e.Flags[4] = 1 }, map[string]row{doctor.RowTPMOn: {doctor.Bad, "deactivated", "activate"}}},
		"NV not locked":       {func(e *doctor.TPM) { e.Flags[17] = 0 }, map[string]row{doctor.RowTPMOn: {doctor.Warning, "nvLocked", ""}}},
		"flags cut":           {func(e *doctor.TPM) { e.Flags = e.Flags[:17] }, map[string]row{doctor.RowTPMOn: {doctor.Unknown, "", ""}}},
		"little NV":           {func(e *doctor.TPM) { *e.FreeNV = 10 }, map[string]row{doctor.RowFreeNV: {doctor.Warning, "10 bytes", ""}}},
		"NV not told":         {func(e *doctor.TPM) { e.FreeNV = nil }, map[string]row{doctor.RowFreeNV: {doctor.Unknown, "", ""}}},
		"locked":              {func(e *doctor.TPM) { e.Defence.Locked = true }, map[string]row{doctor.RowLockout: {doctor.Warning, "does not say for how long", ""}}},
		"locked for a minute": {func(e *doctor.TPM) { *e.Defence = doctor.Defence{Locked: true, Seconds: 60} }, map[string]row{doctor.RowLockout: {doctor.Warning, "1m0s", ""}}},
		"a wrong try":         {func(e *doctor.TPM) { e.Defence.Failed = 1 }, map[string]row{doctor.RowLockout: {doctor.Warning, "1 of 5", ""}}},
		"no defence told":     {func(e *doctor.TPM) { e.Defence = nil }, map[string]row{doctor.RowLockout: {doctor.Unknown, "", ""}}},
		"version cut":         {func(e *doctor.TPM) { e.Version = e.Version[:10] }, map[string]row{doctor.RowTPMMaker: {doctor.Unknown, "", ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			e := tpm12Laptop(t)
			c.change(e.TPM)
			compare(t, tpm12Laptop(t), e, c.want)
		})
	}
}

// The versions of the maker's advisory, and their neighbours.
func TestInfineonsWeakKeys(t *testing.T) {
	for version, want := range map[doctor.Hex]doctor.State{
		4<<16 | 33: doctor.Warning, 4<<16 | 34: doctor.Good, 4<<16 | 39: doctor.Good, 4<<16 | 40: doctor.Warning, 4<<16 | 42: doctor.Warning, 4<<16 | 43: doctor.Good,
		5<<16 | 61: doctor.Warning, 5<<16 | 62: doctor.Good, 6<<16 | 42: doctor.Warning, 6<<16 | 43: doctor.Good,
		7<<16 | 61: doctor.Warning, 7<<16 | 62: doctor.Good, 133<<16 | 32: doctor.Warning, 133<<16 | 33: doctor.Good, 15<<16 | 20: doctor.Good,
	} {
		e := txtLaptop(t)
		e.TPM.Properties[0x10b] = version
		if r := doctor.Find(doctor.Examine(e, today), doctor.RowTPMMaker); r.State != want {
			t.Errorf("%s is %s", r.Text, r.State)
		}
		e.TPM.Properties[0x105] = 0x53544d20 // another maker's chip
		if r := doctor.Find(doctor.Examine(e, today), doctor.RowTPMMaker); r.State != doctor.Good {
			t.Errorf("%s is %s", r.Text, r.State)
		}
	}
}

// dom0 is Qubes' or Xen's own domain, from which Xen hides what the CPU can do.
func dom0(t testing.TB) *doctor.Evidence {
	e := txtLaptop(t)
	notLaunched(e)
	e.Registers = registers(map[int]uint64{0: 0, 0x8f0: 0})
	e.CPUInfo = cpuinfo("GenuineIntel", 6, 94, 3, "Intel(R) Core(TM) i5-6500T CPU @ 2.50GHz", "hypervisor")
	e.Firmware.IOMMUs, e.Firmware.Tables, e.Firmware.FeatureControl = []string{}, []string{}, ptr(doctor.Hex(1))
	e.Xen = &doctor.Xen{Host: true, Version: "4.17.4", Capabilities: "bfebfbff:77fafbff:2c100800:00000121:0000000f:009c6fbf:00000000:00000100", Virtual: "pv hvm hvm_directio"}
	return e
}

func TestXenHidesTheCPUFromDom0(t *testing.T) {
	good := txtLaptop(t)
	notLaunched(good)
	good.Registers = registers(map[int]uint64{0: 0, 0x8f0: 0})
	compare(t, good, dom0(t), map[string]row{
		doctor.RowMachine: {doctor.Good, "under Xen 4.17.4", ""},
		doctor.RowSENTER:  {doctor.Good, "the firmware prepared TXT", ""},
		doctor.RowIOMMU:   {doctor.Good, "Xen uses the IOMMU", ""},
	})
	for name, c := range map[string]struct {
		change func(e *doctor.Evidence)
		want   map[string]row
	}{
		"no SMX": {func(e *doctor.Evidence) {
			e.Xen.Capabilities = strings.Replace(e.Xen.Capabilities, "77fafbff", "77fafbbf", 1)
		}, map[string]row{
			doctor.RowSMX: {doctor.Bad, "has no SMX", ""},
		}},
		"xl was not run": {func(e *doctor.Evidence) {
			*e.Xen, e.Missing = doctor.Xen{Host: true}, map[string]string{"xen.json": "xl is not there"}
		}, map[string]row{
			doctor.RowSMX: {doctor.Unknown, "xl is not there", "dom0"}, doctor.RowIOMMU: {doctor.Unknown, "xl is not there", "dom0"},
		}},
		"no heap": {func(e *doctor.Evidence) { e.Heap = nil }, map[string]row{
			doctor.RowSENTER: {doctor.Unknown, "Xen does not show", ""}, doctor.RowHeap: {doctor.Unknown, "", ""},
		}},
		"no IOMMU": {func(e *doctor.Evidence) { e.Xen.Virtual = "pv hvm" }, map[string]row{
			doctor.RowIOMMU: {doctor.Bad, "Xen uses no IOMMU", "iommu=no"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			e := dom0(t)
			c.change(e)
			compare(t, dom0(t), e, c.want)
		})
	}
}

func TestXenHidesSVMFromDom0(t *testing.T) {
	e := amdMachine(t)
	e.CPUInfo = cpuinfo("AuthenticAMD", 22, 48, 1, "AMD GX-412TC SOC", "hypervisor")
	e.Firmware.VMCR, e.Firmware.IOMMUs, e.Firmware.Tables = nil, []string{}, []string{}
	e.Xen = &doctor.Xen{Host: true, Capabilities: "178bf3ff:3ed8220b:2fd3fbff:154017ff", Virtual: "pv hvm pv_directio"}
	compare(t, amdMachine(t), e, map[string]row{
		doctor.RowSVM: {doctor.Good, "Xen uses SVM", ""}, doctor.RowIOMMU: {doctor.Good, "Xen uses the IOMMU", ""},
	})
	e.Xen.Virtual = "pv pv_directio"
	if r := doctor.Find(doctor.Examine(e, today), doctor.RowSVM); r.State != doctor.Unknown {
		t.Errorf("%s: %s", r.State, r.Text)
	}
}

// A dump whose part about Xen is broken must not turn dom0 into a virtual machine.
func TestABrokenPartAboutXen(t *testing.T) {
	e := dom0(t)
	e.Xen, e.Missing = nil, map[string]string{"xen.json": "it can't be read"}
	if r := doctor.Find(doctor.Examine(e, today), doctor.RowMachine); r.State != doctor.Unknown || !strings.Contains(r.Text, "it can't be read") {
		t.Errorf("%s: %s", r.State, r.Text)
	}
}

// Who decodes the TXT registers is Intel's, even where the part about the CPU is lost.
func TestRegistersTellThePlatform(t *testing.T) {
	e := txtLaptop(t)
	e.CPUInfo = nil
	compare(t, txtLaptop(t), e, map[string]row{doctor.RowMachine: {doctor.Unknown, "not among the evidence", ""}})
}

// Without any evidence every row says so.
func TestNoEvidence(t *testing.T) {
	for _, r := range doctor.Examine(&doctor.Evidence{}, today) {
		if r.State == doctor.Good || r.State == doctor.Bad {
			t.Errorf("%s is %s: %s", r.Name, r.State, r.Text)
		}
	}
}

// Evidence may come from anybody, and rows go to terminals.
func TestForeignTextCanNotReachTheTerminal(t *testing.T) {
	evil := "\x1b[2J\x07\u202e\u009b" + strings.Repeat("x", 5000)
	e := txtLaptop(t)
	e.Firmware.Maker, e.Firmware.LogFrom, e.Firmware.Lockdown = evil, evil, evil
	e.CPUInfo = cpuinfo("GenuineIntel", 6, 94, 3, evil, "vmx smx")
	e.Modules[0].Path, e.TPM.Family = evil, evil
	e.TPM.Banks[0].Alg = evil
	for _, r := range doctor.Examine(e, today) {
		for _, s := range []string{r.Text, r.Advice} {
			if strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' }) || len(s) > 1100 {
				t.Errorf("%s: %d bytes: %q", r.Name, len(s), s)
			}
		}
	}
	if got := doctor.Find(doctor.Examine(e, today), doctor.RowMachine).Text; !strings.HasPrefix(got, `\x1b[2J\x07\u{202e}\x9b`) {
		t.Errorf("%q", got)
	}
}
