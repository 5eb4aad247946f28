package doctor_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/aem/doctor"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// today is when the sample module of July 2019 is still young.
var today = time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)

var le = binary.LittleEndian

func put(values ...any) []byte {
	var b bytes.Buffer
	for _, v := range values {
		binary.Write(&b, le, v)
	}
	return b.Bytes()
}

// Where the sample machine's heap and its DMA protected range lie.
const (
	heapBase = 0xd8f20000
	heapSize = 0xe0000
)

// registers are those of a laptop in a measured environment, changed.
func registers(changes map[int]uint64) []byte {
	b := make([]byte, 0x1000)
	values := map[int]uint64{
		0: 0x10091, 0x110: 0x2_b001_8086, 0x100: ^uint64(0), 0x200: 1 << 31, 0x270: 0xd8ed0000, 0x278: 0x50000,
		0x300: heapBase, 0x308: heapSize, 0x330: 0xd9000041, 0x378: 2 << 13, 0x8f0: 2,
	}
	for at, v := range changes {
		values[at] = v
	}
	for at, v := range values {
		le.PutUint64(b[at:], v)
	}
	return b
}

// heap has the four tables; the firmware brings a module of so many bytes, and the
// log lies in so much memory.
func heap(sinit, allocated, used uint32) []byte {
	table := func(b []byte) []byte { return append(put(uint64(len(b)+8)), b...) }
	b := table(put(uint32(3), sinit, uint64(0), uint64(0), uint32(8), uint32(0), uint32(1<<1)))
	b = append(b, table([]byte("what the boot loader put here"))...)
	b = append(b, table(put(
		uint32(7), uint32(0), make([]byte, 72), uint32(0x226), uint64(0),
		uint32(8), uint32(28), uint64(0xa87e4000), allocated, uint32(0), used, uint32(0), uint32(8),
	))...)
	return append(b, put(uint64(0))...)
}

// sinit is a module for the chipset of registers, dated July 2019.
func sinit(device uint16) []byte {
	const header, scratch, total = 161, 143, 400
	b := put(uint16(2), uint16(0), uint32(header), uint32(0), device, uint16(0), uint32(0x8086), uint32(0x20190731), uint32(total),
		uint16(3), uint16(1), make([]byte, 20), uint32(0x1000), make([]byte, 64), uint32(64), uint32(scratch))
	b = append(b, make([]byte, total*4-len(b))...)
	at := (header + scratch) * 4
	copy(b[at:], []byte{0xaa, 0x3a, 0xc0, 0x7f, 0xa7, 0x46, 0xdb, 0x18, 0x2e, 0xac, 0x69, 0x8f, 0x8d, 0x41, 0x7f, 0x5a})
	copy(b[at+16:], put(uint8(1), uint8(6), uint16(48), uint32(1300), uint32(7), uint32(0x20000), uint32(0x22e), uint32(0), uint32(1400), uint32(1500)))
	copy(b[1300:], put(uint32(1), uint32(1), uint16(0x8086), device, uint16(0x0f), uint16(0), uint32(0)))
	copy(b[1400:], put(uint32(1), uint32(0x506e0), uint32(0xfffffff0), uint64(0), uint64(0)))
	copy(b[1500:], put(uint32(5), uint16(2), uint16(4), uint16(0xb)))
	return b
}

// skl is a Secure Kernel Loader of which 512 bytes are measured.
func skl() []byte {
	b := make([]byte, 1024)
	copy(b, []byte{0, 1, 0, 2})
	copy(b[4:], []byte{128, 0, 0, 2})
	copy(b[128:], []byte{0x78, 0xf1, 0x26, 0x8e, 0x04, 0x92, 0x11, 0xe9, 0x83, 0x2a, 0xc8, 0x5b, 0x76, 0xc4, 0xcc, 0x02, 7})
	return b
}

func module(path string, b []byte) doctor.Module {
	sum := sha256.Sum256(b)
	return doctor.Module{Path: path, Size: int64(len(b)), SHA256: sum[:], Head: b}
}

func cpuinfo(vendor string, family, model, stepping int, name, flags string) []byte {
	return []byte("processor\t: 0\nvendor_id\t: " + vendor + "\ncpu family\t: " + strconv.Itoa(family) + "\nmodel\t\t: " + strconv.Itoa(model) +
		"\nmodel name\t: " + name + "\nstepping\t: " + strconv.Itoa(stepping) + "\nflags\t\t: fpu " + flags + "\n")
}

// launch is a launch of Linux: its log, and what the TPM holds after it.
func launch(t testing.TB, p drtm.Platform, v tpm.Version) (log []byte, banks []doctor.Bank) {
	t.Helper()
	l := testbed.SampleLaunch(p, v)
	if v == tpm.V20 {
		l.Algs = []tpm.Alg{tpm.SHA1, tpm.SHA256}
	}
	ms, err := l.Measurements()
	if err != nil {
		t.Fatal(err)
	}
	values, err := drtm.Predict(l.Algs, ms)
	if err != nil {
		t.Fatal(err)
	}
	built, err := drtm.BuildLog(p, v, l.Algs, ms)
	if err != nil {
		t.Fatal(err)
	}
	if log, err = built.AppendTo(nil); err != nil {
		t.Fatal(err)
	}
	// The firmware has measured, too.
	for i := range values {
		values[i].Reset(tpm.PCRSet(0, 1, 2, 3, 4, 5, 6, 7, 13), false)
		for p := range tpm.PCR(8) {
			if err := values[i].Extend(p, values[i].Alg.Sum([]byte("firmware"))); err != nil {
				t.Fatal(err)
			}
		}
	}
	return log, keep(values)
}

func keep(banks tpm.Banks) []doctor.Bank {
	var list []doctor.Bank
	for _, b := range banks {
		one := doctor.Bank{Alg: b.Alg.String(), PCRs: map[string]doctor.Bytes{}}
		for p, v := range b.Values {
			if v != nil {
				one.PCRs[strconv.Itoa(p)] = doctor.Bytes(v)
			}
		}
		list = append(list, one)
	}
	return list
}

// notLaunched gives the PCRs of the launch the values after the TPM's start.
func notLaunched(e *doctor.Evidence) {
	for _, b := range e.TPM.Banks {
		for p := 17; p <= 22; p++ {
			b.PCRs[strconv.Itoa(p)] = bytes.Repeat([]byte{0xff}, len(b.PCRs["17"]))
		}
	}
	e.Log = nil
}

// discreteTPM is Infineon's, in good order.
func discreteTPM(banks []doctor.Bank) *doctor.TPM {
	return &doctor.TPM{
		Family: "2.0", Banks: banks, Indices: []doctor.Hex{0x01c10102, 0x01c10106},
		Properties: map[doctor.Hex]doctor.Hex{
			0x102: 138, 0x105: 0x49465800, 0x106: 0x534c4239, 0x107: 0x36373000, 0x108: 0, 0x109: 0, 0x10b: 0x00070055, 0x10c: 0x0011cb02,
			0x200: 1 << 2, 0x201: 0xf, 0x209: 4, 0x20b: 8, 0x20e: 0, 0x20f: 32, 0x210: 7200, 0x211: 86400,
		},
	}
}

func ptr[T any](v T) *T { return &v }

// txtLaptop is an Intel laptop after a launch, in good order.
func txtLaptop(t testing.TB) *doctor.Evidence {
	log, banks := launch(t, drtm.TXT, tpm.V20)
	return &doctor.Evidence{
		CPUInfo:   cpuinfo("GenuineIntel", 6, 94, 3, "Intel(R) Core(TM) i5-6500T CPU @ 2.50GHz", "vmx smx"),
		Registers: registers(nil), Heap: heap(0, 0x8000, 0x6ba), Log: log, TPM: discreteTPM(banks),
		Firmware: &doctor.Firmware{
			Maker: "HP", Model: "EliteDesk 800 G2", BIOS: "N21", BIOSDate: "01/02/2023", UEFI: true, SecureBoot: ptr(false), Lockdown: "none",
			RegistersBy: "memory", LogFrom: "Linux", FeatureControl: ptr(doctor.Hex(0xff07)), PlatformID: ptr(doctor.Hex(0)),
			IOMMUs: []string{"dmar0", "dmar1"}, Tables: []string{"DMAR"},
		},
		Modules: []doctor.Module{module("sinit-skylake.bin", sinit(0xb001))},
	}
}

// amdMachine is an AMD machine with a TPM of its own, after a launch.
func amdMachine(t testing.TB) *doctor.Evidence {
	log, banks := launch(t, drtm.SKINIT, tpm.V20)
	return &doctor.Evidence{
		CPUInfo: cpuinfo("AuthenticAMD", 22, 48, 1, "AMD GX-412TC SOC", "svm skinit wdt"),
		Log:     log, TPM: discreteTPM(banks),
		Firmware: &doctor.Firmware{
			Maker: "PC Engines", Model: "apu2", Lockdown: "none", LogFrom: "Linux",
			VMCR: ptr(doctor.Hex(0x8)), IOMMUs: []string{"ivhd0"}, Tables: []string{"IVRS"},
		},
		Modules: []doctor.Module{module("skl.bin", skl())},
	}
}

// row is what a test expects of a row: its state, and parts of text and advice.
type row struct {
	state        doctor.State
	text, advice string
}

// compare demands that the evidence gives the good machine's rows, but for those
// named, and what is expected of those.
func compare(t *testing.T, good, e *doctor.Evidence, want map[string]row) {
	t.Helper()
	before := doctor.Examine(good, today)
	for i, r := range doctor.Examine(e, today) {
		w, named := want[r.Name]
		switch {
		case !named && r.State != before[i].State:
			t.Errorf("%s was %s and is %s: %s", r.Name, before[i].State, r.State, r.Text)
		case named && (r.State != w.state || !strings.Contains(r.Text, w.text) || !strings.Contains(r.Advice, w.advice)):
			t.Errorf("%s is %s: %q, advice %q; want %s: %q, %q", r.Name, r.State, r.Text, r.Advice, w.state, w.text, w.advice)
		}
	}
}
