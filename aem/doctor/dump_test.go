package doctor_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/aem/doctor"
)

func TestSavedEvidenceGivesTheSameRows(t *testing.T) {
	for name, e := range map[string]*doctor.Evidence{
		"laptop": txtLaptop(t), "AMD": amdMachine(t), "TPM 1.2": tpm12Laptop(t), "dom0": dom0(t), "nothing": {},
		"no TPM": {TPM: &doctor.TPM{Absent: true}},
		"closed": {Missing: map[string]string{"tpm.json": "permission denied", "modules": "permission denied", "VM_CR": "no msr"}, Firmware: &doctor.Firmware{}},
	} {
		dir := filepath.Join(t.TempDir(), "new")
		if err := e.Save(dir); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		back, err := doctor.Load(dir)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(doctor.Examine(e, today), doctor.Examine(back, today)); diff != "" {
			t.Errorf("%s (-collected +loaded)\n%s", name, diff)
		}
		// Whatever was read is the same, too; only the reasons for the rest are filled in.
		back.Missing = e.Missing
		if diff := cmp.Diff(e, back); diff != "" {
			t.Errorf("%s (-collected +loaded)\n%s", name, diff)
		}
	}
}

func TestEvidenceIsForItsOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	if err := txtLaptop(t).Save(dir); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// What another machine left in a folder would be taken for this one's.
func TestAFolderInUseIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "txt-heap.bin"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := txtLaptop(t).Save(dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("%v", err)
	}
}

func TestLoadNeedsAFolder(t *testing.T) {
	if _, err := doctor.Load(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a folder that is not there was read")
	}
}

// saved is the laptop's evidence as files.
func saved(t testing.TB) fstest.MapFS { return savedFiles(t, txtLaptop(t)) }

func savedFiles(t testing.TB, e *doctor.Evidence) fstest.MapFS {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "new")
	if err := e.Save(dir); err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = &fstest.MapFile{Data: b}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Each case breaks one file. The row that depends on it says why it is unknown.
func TestBrokenEvidence(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		data []byte
		row  string
		text string
	}{
		"no TPM":                {"tpm.json", nil, doctor.RowTPM, "not among the evidence"},
		"a TPM that is cut":     {"tpm.json", []byte(`{"family": "2.`), doctor.RowTPM, "it can't be read: unexpected end"},
		"another shape":         {"tpm.json", []byte(`{"banks": 3}`), doctor.RowTPM, "it can't be read"},
		"a value of 65 bits":    {"tpm.json", []byte(`{"properties": {"0x105": "0x10000000000000000"}}`), doctor.RowTPM, "no number of 64 bits"},
		"half a byte":           {"tpm.json", []byte(`{"version": "0"}`), doctor.RowTPM, "it can't be read"},
		"a huge TPM":            {"tpm.json", make([]byte, 2<<20), doctor.RowTPM, "2097152 bytes, and 1048576 are the most"},
		"a null TPM":            {"tpm.json", []byte("null"), doctor.RowTPM, `family, "", is none`},
		"huge registers":        {"txt-registers.bin", make([]byte, 1<<20), doctor.RowRegisters, "1048576 bytes, and 65536 are the most"},
		"short registers":       {"txt-registers.bin", make([]byte, 100), doctor.RowRegisters, "has 100 bytes"},
		"a huge heap":           {"txt-heap.bin", make([]byte, 17<<20), doctor.RowHeap, "17825792 bytes"},
		"no CPU":                {"cpuinfo", nil, doctor.RowMachine, "not among the evidence"},
		"a huge CPU":            {"cpuinfo", make([]byte, 1<<20), doctor.RowMachine, "1048576 bytes"},
		"firmware of bytes":     {"firmware.json", []byte{0xff, 0xfe}, doctor.RowIOMMU, "it can't be read: invalid character"},
		"a list of other shape": {"modules/list.json", []byte(`{}`), doctor.RowSINIT, "none was found, and not everything could be looked at: it can't be read"},
		"a module without head": {"modules/00.bin", nil, doctor.RowSINIT, "by no module that lies below /boot"},
		"a module cut":          {"modules/00.bin", sinit(0xb001)[:500], doctor.RowSINIT, "by no module that lies below /boot"},
		"a huge module":         {"modules/00.bin", make([]byte, 5<<20), doctor.RowSINIT, "by no module that lies below /boot"},
		"a huge log":            {"eventlog.bin", make([]byte, 5<<20), doctor.RowLog, "5242880 bytes"},
		"an empty log":          {"eventlog.bin", []byte{}, doctor.RowLog, "the log is empty"},
		"a log of noise":        {"eventlog.bin", []byte(strings.Repeat("noise", 20)), doctor.RowLog, "0 events can be read of it"},
	} {
		t.Run(name, func(t *testing.T) {
			files := saved(t)
			delete(files, c.file)
			if c.data != nil {
				files[c.file] = &fstest.MapFile{Data: c.data}
			}
			r := doctor.Find(doctor.Examine(doctor.LoadFS(files), today), c.row)
			if r.State == doctor.Good || !strings.Contains(r.Text, c.text) {
				t.Errorf("%s is %s: %q; want %q", r.Name, r.State, r.Text, c.text)
			}
		})
	}
}

// A list of modules names files; it must not choose which are read.
func TestAListOfModulesCanNotNameFiles(t *testing.T) {
	files := saved(t)
	list := strings.Repeat(`{"path": "../../etc/shadow", "size": 1600}, `, 70)
	files["modules/list.json"] = &fstest.MapFile{Data: []byte("[" + strings.TrimSuffix(list, ", ") + "]")}
	e := doctor.LoadFS(files)
	if len(e.Modules) != 64 || e.Missing["modules"] == "" {
		t.Errorf("%d modules, %q", len(e.Modules), e.Missing["modules"])
	}
	for i, m := range e.Modules[1:] {
		if m.Head != nil {
			t.Errorf("module %d was read", i+1)
		}
	}
}

// A folder that somebody sent may hold links that lead out of it, and pipes that
// never end.
func TestAHostileFolder(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("vendor_id\t: GenuineIntel\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(secret, filepath.Join(dir, "cpuinfo")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "eventlog.bin"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "tpm.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	e, err := doctor.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if e.CPUInfo != nil || !strings.Contains(e.Missing["cpuinfo"], "escapes") {
		t.Errorf("the link was followed: %q, %q", e.CPUInfo, e.Missing["cpuinfo"])
	}
	for _, name := range []string{"eventlog.bin", "tpm.json"} {
		if e.Missing[name] != "it is no plain file" {
			t.Errorf("%s: %q", name, e.Missing[name])
		}
	}
}
