package doctor_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/aem/doctor"
	"github.com/antievilmaid/aem/drtm"
)

func TestVerdicts(t *testing.T) {
	changed := func(e *doctor.Evidence, f func(e *doctor.Evidence)) *doctor.Evidence { f(e); return e }
	for name, c := range map[string]struct {
		e    *doctor.Evidence
		want doctor.Verdict
	}{
		"laptop": {txtLaptop(t), doctor.Verdict{Platform: drtm.TXT, Way: "txt", State: doctor.Good, Text: "This machine can make a launch by Intel TXT."}},
		"AMD":    {amdMachine(t), doctor.Verdict{Platform: drtm.SKINIT, Way: "skinit", State: doctor.Good, Text: "This machine can make a launch by AMD SKINIT."}},
		"TPM 1.2": {tpm12Laptop(t), doctor.Verdict{Platform: drtm.TXT, Way: "txt", State: doctor.Warning, Rows: []string{doctor.RowBanks},
			Text: "This machine can make a launch by Intel TXT. Look at: PCR banks."}},
		"AMD's firmware TPM": {changed(amdMachine(t), func(e *doctor.Evidence) { notLaunched(e); e.TPM.Properties[0x105] = 0x414d4400 }),
			doctor.Verdict{Platform: drtm.SKINIT, Way: "skinit", State: doctor.Bad, Rows: []string{doctor.RowLocality},
				Text: "This machine can't make a launch by AMD SKINIT as it is. Look at: locality 4."}},
		"a boot without a launch": {changed(amdMachine(t), notLaunched),
			doctor.Verdict{Platform: drtm.SKINIT, Way: "skinit", State: doctor.Good, Text: "This machine can make a launch by AMD SKINIT."}},
		"two witnesses who differ": {changed(txtLaptop(t), func(e *doctor.Evidence) { log := e.Log; notLaunched(e); e.Log = log }),
			doctor.Verdict{Platform: drtm.TXT, Way: "txt", State: doctor.Warning, Rows: []string{doctor.RowLaunch},
				Text: "This machine can make a launch by Intel TXT. Look at: this boot."}},
		"no SKINIT": {changed(amdMachine(t), func(e *doctor.Evidence) { e.CPUInfo = cpuinfo("AuthenticAMD", 22, 48, 1, "AMD GX", "svm") }),
			doctor.Verdict{Way: "none", State: doctor.Bad, Rows: []string{doctor.RowSKINIT}, Text: "This machine can't make a dynamic launch: CPU: SKINIT."}},
		"a virtual machine": {changed(txtLaptop(t), func(e *doctor.Evidence) { e.CPUInfo = append(e.CPUInfo[:len(e.CPUInfo)-1], " hypervisor\n"...) }),
			doctor.Verdict{Way: "none", State: doctor.Bad, Rows: []string{doctor.RowMachine}, Text: "This machine can't make a dynamic launch: machine."}},
		"another maker's CPU": {changed(amdMachine(t), func(e *doctor.Evidence) { e.CPUInfo = cpuinfo("CentaurHauls", 6, 1, 1, "VIA", "fpu") }),
			doctor.Verdict{Way: "none", State: doctor.Bad, Rows: []string{doctor.RowSMX, doctor.RowSINIT}, Text: "This machine can't make a dynamic launch: CPU: SMX, SINIT module."}},
		"an error that does not stand in the way": {changed(txtLaptop(t), func(e *doctor.Evidence) { e.Firmware.IOMMUs, e.Firmware.Tables = nil, nil }),
			doctor.Verdict{Platform: drtm.TXT, Way: "txt", State: doctor.Warning, Rows: []string{doctor.RowIOMMU}, Text: "This machine can make a launch by Intel TXT. Look at: IOMMU."}},
		"something unread": {changed(amdMachine(t), func(e *doctor.Evidence) { e.Firmware.VMCR = nil }),
			doctor.Verdict{Platform: drtm.SKINIT, Way: "skinit", State: doctor.Unknown, Rows: []string{doctor.RowSVM},
				Text: "Whether this machine can make a launch by AMD SKINIT is not known. Look at: firmware switch: SVM."}},
	} {
		if diff := cmp.Diff(c.want, doctor.Judge(doctor.Examine(c.e, today))); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
	for name, records := range map[string][]doctor.Record{"no evidence": doctor.Examine(&doctor.Evidence{}, today)} {
		if v := doctor.Judge(records); v.Way != "unknown" || v.State != doctor.Unknown || len(v.Rows) == 0 {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if v := doctor.Judge(nil); v.Way != "none" || v.State != doctor.Bad {
		t.Errorf("no rows: %+v", v)
	}
}

func TestRecordsAsJSON(t *testing.T) {
	records := doctor.Examine(txtLaptop(t), today)
	b, err := json.Marshal(records)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"name":"TPM","required":true,"chapter":"TPM 2.0 Library`) || !strings.Contains(string(b), `"state":"not applicable"`) {
		t.Errorf("%s", b)
	}
	var back []doctor.Record
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(records, back); diff != "" {
		t.Errorf("(-written +read)\n%s", diff)
	}
	if err := json.Unmarshal([]byte(`[{"state":"fine"}]`), &back); err == nil {
		t.Error("a state that is none was read")
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range doctor.Examine(&doctor.Evidence{}, today) {
		if seen[r.Name] {
			t.Errorf("%s twice", r.Name)
		}
		seen[r.Name] = true
	}
}
