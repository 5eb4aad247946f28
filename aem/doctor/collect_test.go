package doctor_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/aem/doctor"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/txt"
	"github.com/antievilmaid/aem/internal/physmem"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
	"github.com/antievilmaid/aem/tpm2"
)

// machine makes a folder that looks like a machine's root, with an MSR device of
// the given registers.
func machine(t *testing.T, files map[string]string, msrs map[int64]uint64) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, content := range files {
		write(name, content)
	}
	if msrs != nil {
		f, err := os.OpenFile(write("dev/cpu/0/msr", ""), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for number, v := range msrs {
			if _, err := f.WriteAt(put(v), number); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func noTPM() (tpm.Channel, io.Closer, error) { return nil, nil, device.ErrNoTPM }

// laptopFiles are what a launched laptop shows.
func laptopFiles(t *testing.T) map[string]string {
	log, _ := launch(t, drtm.TXT, tpm.V20)
	cpu := string(cpuinfo("GenuineIntel", 6, 94, 3, "Intel Core i5", "vmx smx"))
	return map[string]string{
		"proc/cpuinfo":                  cpu + "\n" + strings.Replace(cpu, "i5", "of another name", 1),
		"sys/class/dmi/id/sys_vendor":   "HP\n",
		"sys/class/dmi/id/product_name": "EliteDesk\n",
		"sys/class/dmi/id/bios_version": "N21\n",
		"sys/class/dmi/id/bios_date":    "01/02/2023\n",
		"sys/class/dmi/id/product_uuid": "a number that is nobody's business\n",
		"sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": "\x06\x00\x00\x00\x01",
		"sys/kernel/security/lockdown":                                             "none [integrity] confidentiality\n",
		"sys/kernel/security/slaunch/eventlog":                                     string(log),
		"sys/class/iommu/dmar1/x":                                                  "",
		"sys/class/iommu/dmar0/x":                                                  "",
		"sys/firmware/acpi/tables/DMAR":                                            "",
		"boot/sinit-skylake.bin":                                                   string(sinit(0xb001)),
		"boot/efi/EFI/skl.bin":                                                     string(skl()),
		"boot/vmlinuz":                                                             "a kernel",
		"boot/noise.bin":                                                           "noise",
	}
}

// laptopMemory has the registers and the heap.
func laptopMemory(t *testing.T) physmem.Segments {
	t.Helper()
	whole := make([]byte, heapSize)
	copy(whole, heap(0, 0x8000, 0x6ba))
	m, err := physmem.NewSegments(physmem.Segment{Base: txt.PublicBase, Bytes: registers(nil)}, physmem.Segment{Base: heapBase, Bytes: whole})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCollectReadsAMachine(t *testing.T) {
	files := laptopFiles(t)
	e := doctor.Collect(doctor.Options{
		Root: machine(t, files, map[int64]uint64{0x3a: 0xff07, 0x17: 1 << 50}), OpenTPM: noTPM, Memory: laptopMemory(t),
	})
	want := &doctor.Firmware{
		Maker: "HP", Model: "EliteDesk", BIOS: "N21", BIOSDate: "01/02/2023", UEFI: true, SecureBoot: ptr(true), Lockdown: "integrity",
		RegistersBy: "memory", LogFrom: e.Firmware.LogFrom, FeatureControl: ptr(doctor.Hex(0xff07)), PlatformID: ptr(doctor.Hex(1 << 50)),
		IOMMUs: []string{"dmar0", "dmar1"}, Tables: []string{"DMAR"},
	}
	if diff := cmp.Diff(want, e.Firmware); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if strings.Contains(string(e.CPUInfo), "another name") {
		t.Error("the other processors were kept")
	}
	if !bytes.Equal(e.Registers, registers(nil)) || string(e.Log) != files["sys/kernel/security/slaunch/eventlog"] {
		t.Errorf("%d bytes of registers, %d of the log", len(e.Registers), len(e.Log))
	}
	if e.TPM == nil || !e.TPM.Absent || e.Xen != nil || len(e.Missing) != 0 {
		t.Errorf("TPM %+v, Xen %+v, missing %v", e.TPM, e.Xen, e.Missing)
	}
	wantModules := []doctor.Module{module("efi/EFI/skl.bin", skl()), module("sinit-skylake.bin", sinit(0xb001))}
	if diff := cmp.Diff(wantModules, e.Modules); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What the boot loader keeps in the heap is its own business.
func TestTheLoadersTableIsNotKept(t *testing.T) {
	const private = "what the boot loader put here"
	memory := laptopMemory(t)
	o := doctor.Options{Root: machine(t, laptopFiles(t), nil), OpenTPM: noTPM, Memory: memory}
	e := doctor.Collect(o)
	if bytes.Contains(e.Heap, []byte(private)) || len(e.Heap) != heapSize {
		t.Error("the boot loader's table was kept")
	}
	h, err := txt.ParseHeap(e.Heap)
	if err != nil || h.OSSINIT == nil || h.OSSINIT.Version != 7 {
		t.Errorf("the tables around it are lost: %v", err)
	}
	// Where the tables' sizes make no sense, it lies anywhere.
	le.PutUint64(memory[0].Bytes, 44)
	le.PutUint64(memory[0].Bytes[44:], 1<<40)
	if e := doctor.Collect(o); bytes.Contains(e.Heap, []byte(private)) || len(e.Heap) != heapSize {
		t.Error("the boot loader's table was kept in a damaged heap")
	}
	le.PutUint64(memory[0].Bytes, 1<<40)
	if e := doctor.Collect(o); bytes.Contains(e.Heap, []byte(private)) || len(e.Heap) != heapSize {
		t.Error("the boot loader's table was kept in a heap without sizes")
	}
}

// Of a module, only its head is kept, but as much as its lists need.
func TestHeadsOfModules(t *testing.T) {
	near := append(sinit(0xb001), make([]byte, 100<<10)...)
	le.PutUint32(near[24:], uint32(len(near)/4))
	far := append(sinit(0xb001), make([]byte, 100<<10)...)
	le.PutUint32(far[24:], uint32(len(far)/4))
	copy(far[70<<10:], far[1300:1400]) // the list of chipsets
	clear(far[1300:1400])
	le.PutUint32(far[(161+143)*4+20:], 70<<10)
	for name, c := range map[string]struct {
		file []byte
		head int
	}{"near lists": {near, 16 << 10}, "far lists": {far, len(far)}} {
		files := laptopFiles(t)
		files["boot/sinit-skylake.bin"] = string(c.file)
		e := doctor.Collect(doctor.Options{Root: machine(t, files, nil), OpenTPM: noTPM, Memory: laptopMemory(t)})
		m := e.Modules[len(e.Modules)-1]
		if len(m.Head) != c.head || m.Size != int64(len(c.file)) {
			t.Errorf("%s: %d of %d bytes are kept; want %d", name, len(m.Head), m.Size, c.head)
		}
		if r := doctor.Find(doctor.Examine(e, today), doctor.RowSINIT); r.State != doctor.Good {
			t.Errorf("%s: %s", name, r.Text)
		}
	}
}

// A server's module lies in memory.
func TestTheFirmwaresModule(t *testing.T) {
	whole := make([]byte, heapSize)
	copy(whole, heap(1600, 0x8000, 0x6ba))
	memory, err := physmem.NewSegments(physmem.Segment{Base: txt.PublicBase, Bytes: registers(nil)},
		physmem.Segment{Base: heapBase, Bytes: whole}, physmem.Segment{Base: 0xd8ed0000, Bytes: sinit(0xb001)})
	if err != nil {
		t.Fatal(err)
	}
	files := laptopFiles(t)
	delete(files, "boot/sinit-skylake.bin")
	e := doctor.Collect(doctor.Options{Root: machine(t, files, nil), OpenTPM: noTPM, Memory: memory})
	r := doctor.Find(doctor.Examine(e, today), doctor.RowSINIT)
	if r.State != doctor.Good || r.Text != "the firmware's, in memory at 0xd8ed0000 of 2019-07-31" {
		t.Errorf("%s: %s", r.State, r.Text)
	}
}

// Where memory is closed, Linux shows a few registers.
func TestRegistersThatTheKernelShows(t *testing.T) {
	files := laptopFiles(t)
	for name, v := range map[string]string{"sts": "0x10091", "ests": "0x0", "errorcode": "0xc0001c21", "didvid": "0x2b0018086", "ver_emif": "0x80000000", "scratchpad": "0x4000", "e2sts": "0x2"} {
		files["sys/kernel/security/slaunch/txt/"+name] = v + "\n"
	}
	e := doctor.Collect(doctor.Options{Root: machine(t, files, nil), OpenTPM: noTPM})
	records := doctor.Examine(e, today)
	for name, want := range map[string]row{
		doctor.RowRegisters: {doctor.Good, "the kernel shows a few", ""},
		doctor.RowChipset:   {doctor.Good, "8086:b001, revision 0x2, production", ""},
		doctor.RowError:     {doctor.Warning, "0xc0001c21", ""},
		doctor.RowHeap:      {doctor.Unknown, "does not show", ""},
		doctor.RowSINIT:     {doctor.Good, "sinit-skylake.bin", ""},
		doctor.RowSENTER:    {doctor.Good, "executed in this boot", ""},
	} {
		if r := doctor.Find(records, name); r.State != want.state || !strings.Contains(r.Text, want.text) {
			t.Errorf("%s is %s: %s", name, r.State, r.Text)
		}
	}
}

// An empty machine has a reason for everything.
func TestCollectSaysWhy(t *testing.T) {
	e := doctor.Collect(doctor.Options{Root: t.TempDir(), OpenTPM: func() (tpm.Channel, io.Closer, error) {
		return nil, nil, errors.New("the TPM is busy")
	}})
	for item, want := range map[string]string{
		"cpuinfo": "no such file", "tpm.json": "the TPM is busy", "txt-registers.bin": "no CPU of Intel's",
		"txt-heap.bin": "were not read", "eventlog.bin": "none was found", "modules": "no such file", "lockdown": "no such file",
	} {
		if !strings.Contains(e.Missing[item], want) {
			t.Errorf("%s: %q; want %q", item, e.Missing[item], want)
		}
	}
	for _, r := range doctor.Examine(e, today) {
		if r.Required && r.State != doctor.Unknown {
			t.Errorf("%s is %s: %s", r.Name, r.State, r.Text)
		}
	}
	closed := doctor.Collect(doctor.Options{Root: machine(t, laptopFiles(t), nil), OpenTPM: noTPM})
	for item, want := range map[string]string{
		"txt-registers.bin": "dev/mem", "IA32_FEATURE_CONTROL": "load the kernel's module msr",
	} {
		if !strings.Contains(closed.Missing[item], want) {
			t.Errorf("%s: %q; want %q", item, closed.Missing[item], want)
		}
	}
}

func TestAnAMDMachineIsNotAskedForTXT(t *testing.T) {
	files := map[string]string{"proc/cpuinfo": string(cpuinfo("AuthenticAMD", 22, 48, 1, "AMD GX", "svm skinit")), "boot/skl.bin": string(skl())}
	e := doctor.Collect(doctor.Options{Root: machine(t, files, map[int64]uint64{0xc0010114: 0x18}), OpenTPM: noTPM, Memory: laptopMemory(t)})
	if e.Registers != nil || e.Firmware.FeatureControl != nil || e.Firmware.VMCR == nil || *e.Firmware.VMCR != 0x18 {
		t.Errorf("%+v", e.Firmware)
	}
}

func TestCollectAsksXen(t *testing.T) {
	files := map[string]string{
		"proc/cpuinfo":          string(cpuinfo("GenuineIntel", 6, 94, 3, "Intel Core i5", "hypervisor")),
		"sys/hypervisor/type":   "xen\n",
		"proc/xen/capabilities": "control_d\n",
	}
	ask := func() ([]byte, error) {
		return []byte("host                   : my-name\nhw_caps                : bfebfbff:77fafbff:2c100800:00000121\nvirt_caps              : pv hvm hvm_directio\nxen_version            : 4.17.4\n"), nil
	}
	silent := func() ([]byte, error) { return nil, errors.New("xl is not there") }
	o := doctor.Options{Root: machine(t, files, nil), OpenTPM: noTPM, XenInfo: ask, XenRing: silent}
	e := doctor.Collect(o)
	want := &doctor.Xen{Host: true, Capabilities: "bfebfbff:77fafbff:2c100800:00000121", Virtual: "pv hvm hvm_directio", Version: "4.17.4"}
	if diff := cmp.Diff(want, e.Xen); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	o.XenInfo = silent
	if e := doctor.Collect(o); e.Xen == nil || !e.Xen.Host || e.Missing["xen.json"] != "xl is not there" {
		t.Errorf("%+v, %v", e.Xen, e.Missing)
	}
}

// closer notes that it was called.
type closer struct{ closed bool }

func (c *closer) Close() error { c.closed = true; return nil }

// A real TPM of each family, launched: what it says gives the rows.
func TestCollectAsksATPM(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V12, tpm.V20} {
		t.Run(v.String(), func(t *testing.T) {
			chip, _ := testbed.NewTPM(t, v)
			l := testbed.SampleLaunch(drtm.TXT, v)
			if v == tpm.V20 {
				algs, err := tpm2.New(chip).PCRBanks()
				if err != nil {
					t.Fatal(err)
				}
				l.Algs = algs
			}
			log, err := testbed.LaunchLinux(chip, l)
			if err != nil {
				t.Fatal(err)
			}
			files := laptopFiles(t)
			files["sys/kernel/security/slaunch/eventlog"] = string(log)
			c := &closer{}
			counted := &tpm.Counter{Channel: chip}
			e := doctor.Collect(doctor.Options{Root: machine(t, files, nil), Memory: laptopMemory(t), OpenTPM: func() (tpm.Channel, io.Closer, error) {
				return counted, c, nil
			}})
			if !c.closed {
				t.Error("the TPM was not given back")
			}
			for item, reason := range e.Missing {
				if strings.HasPrefix(item, "TPM") || item == "tpm.json" {
					t.Errorf("%s: %s", item, reason)
				}
			}
			records := doctor.Examine(e, today)
			want := map[string]row{
				doctor.RowTPM:      {doctor.Good, v.String(), ""},
				doctor.RowTPMMaker: {doctor.Good, "IBM", ""},
				doctor.RowTPMOn:    {doctor.Good, "", ""},
				doctor.RowBankUse:  {doctor.Warning, "measures into no bank", ""},
				doctor.RowFreeNV:   {doctor.Good, "", ""},
				doctor.RowLaunch:   {doctor.Good, "launched by Intel TXT", ""},
				doctor.RowLog:      {doctor.Good, "complete", ""},
			}
			if v == tpm.V20 {
				want[doctor.RowLockout] = row{doctor.Warning, "no lockout password is set; 0 of 3 wrong tries; one is forgiven every 16m40s", ""}
				want[doctor.RowTPMMaker] = row{doctor.Good, "IBM SWTPM, firmware ", ""}
			} else {
				want[doctor.RowLockout] = row{doctor.Good, "no wrong tries", ""}
				want[doctor.RowBanks] = row{doctor.Warning, "sha1 alone", ""}
				want[doctor.RowTPMOn] = row{doctor.Warning, "nvLocked", ""} // so swtpm leaves its factory
			}
			for name, w := range want {
				if r := doctor.Find(records, name); r.State != w.state || !strings.Contains(r.Text, w.text) {
					t.Errorf("%s is %s: %q; want %s, %q", name, r.State, r.Text, w.state, w.text)
				}
			}
			dir := filepath.Join(t.TempDir(), "new")
			if err := e.Save(dir); err != nil {
				t.Fatal(err)
			}
			back, err := doctor.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(records, doctor.Examine(back, today)); diff != "" {
				t.Errorf("(-collected +loaded)\n%s", diff)
			}
			t.Logf("%d commands", counted.Commands)
		})
	}
}

// answers is a TPM that gives one answer to everything.
type answers []byte

func (a answers) Send([]byte) ([]byte, error) { return a, nil }

// A chip may answer anything. What it says is refused, never believed or waited for.
func TestATPMThatAnswersNonsense(t *testing.T) {
	for name, a := range map[string]answers{
		"nothing":             nil,
		"a header":            {0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0},
		"a header of 1.2":     {0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 0},
		"an error":            {0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1},
		"a count too large":   {0x80, 1, 0, 0, 0, 27, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0, 0, 0, 0, 1},
		"more, for ever":      {0x80, 1, 0, 0, 0, 27, 0, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1},
		"the last property":   {0x80, 1, 0, 0, 0, 27, 0, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1},
		"a length too large":  {0, 0xc4, 0, 0, 0, 14, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
		"another capability":  {0x80, 1, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0},
		"a cut property list": {0x80, 1, 0, 0, 0, 15, 0, 0, 0, 0, 0, 0, 0, 0, 6},
	} {
		counted := &tpm.Counter{Channel: a}
		e := doctor.Collect(doctor.Options{Root: t.TempDir(), OpenTPM: func() (tpm.Channel, io.Closer, error) { return counted, nil, nil }})
		for _, r := range doctor.Examine(e, today) {
			if r.Name != doctor.RowTPM && strings.Contains(r.Name, "TPM") && r.State == doctor.Good {
				t.Errorf("%s: %s is good: %s", name, r.Name, r.Text)
			}
		}
		if counted.Commands > 40 {
			t.Errorf("%s: %d commands", name, counted.Commands)
		}
	}
}
