package doctor_test

import (
	"testing"
	"testing/fstest"

	"github.com/antievilmaid/aem/aem/doctor"
)

// Evidence comes from anybody. Whatever the files hold, there is a whole table, in
// printable text, and nothing is required and good without something to show for it.
func FuzzLoad(f *testing.F) {
	for _, e := range []*doctor.Evidence{txtLaptop(f), amdMachine(f), tpm12Laptop(f), dom0(f)} {
		files := seed(f, e)
		f.Add(files["cpuinfo"], files["txt-registers.bin"], files["txt-heap.bin"], files["eventlog.bin"], files["tpm.json"],
			files["firmware.json"], files["xen.json"], files["modules/list.json"], files["modules/00.bin"])
	}
	f.Add([]byte{}, []byte{}, []byte{}, []byte{}, []byte("{}"), []byte("null"), []byte("[]"), []byte("[null]"), []byte{})
	f.Fuzz(func(t *testing.T, cpu, registers, heap, log, tpm, firmware, xen, list, module []byte) {
		files := fstest.MapFS{}
		for name, b := range map[string][]byte{
			"cpuinfo": cpu, "txt-registers.bin": registers, "txt-heap.bin": heap, "eventlog.bin": log, "tpm.json": tpm,
			"firmware.json": firmware, "xen.json": xen, "modules/list.json": list, "modules/00.bin": module,
		} {
			files[name] = &fstest.MapFile{Data: b}
		}
		records := doctor.Examine(doctor.LoadFS(files), today)
		if len(records) != len(doctor.Examine(&doctor.Evidence{}, today)) {
			t.Errorf("%d rows", len(records))
		}
		for _, r := range records {
			if r.Text == "" || r.State > doctor.NotApplicable {
				t.Errorf("%+v", r)
			}
			for _, c := range r.Text + r.Advice {
				if c < ' ' || c > '~' {
					t.Errorf("%s: %q", r.Name, r.Text)
				}
			}
		}
		if v := doctor.Judge(records); v.Text == "" || v.State == doctor.NotApplicable {
			t.Errorf("%+v", v)
		}
	})
}

// seed is evidence as files.
func seed(f *testing.F, e *doctor.Evidence) map[string][]byte {
	f.Helper()
	files := map[string][]byte{}
	for name, file := range savedFiles(f, e) {
		files[name] = file.Data
	}
	if len(files) < 6 {
		f.Fatalf("the seed has only %d files", len(files))
	}
	return files
}
