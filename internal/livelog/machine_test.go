package livelog_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/slrt"
	"github.com/antievilmaid/aem/drtm/txt"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/handover"
	"github.com/antievilmaid/aem/internal/livelog"
	"github.com/antievilmaid/aem/internal/physmem"
	"github.com/antievilmaid/aem/tpm"
)

var le = binary.LittleEndian

func put(values ...any) []byte {
	var b bytes.Buffer
	for _, v := range values {
		if err := binary.Write(&b, le, v); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

// log makes a launch's log with one event; what names it, so that logs differ.
func log(t testing.TB, h eventlog.Header, what string) []byte {
	t.Helper()
	l, err := eventlog.New(h)
	if err != nil {
		t.Fatal(err)
	}
	event := eventlog.Event{PCR: 17, Type: 0x502, Data: []byte(what)}
	event.Digests = tpm.SumAll(h.Algs, event.Data)
	if err := l.Append(event); err != nil {
		t.Fatal(err)
	}
	b, err := l.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func agile(t testing.TB, what string) []byte {
	return log(t, eventlog.Header{Format: eventlog.CryptoAgile, Algs: []tpm.Alg{tpm.SHA1, tpm.SHA256}}, what)
}

// inRoom is a log at the beginning of memory that is zero behind it.
func inRoom(b []byte, size int) []byte { return append(b, make([]byte, size-len(b))...) }

// Where things lie in the test machines, as on the machines that the values were
// reported of.
const (
	heapBase  = 0xc9f20000
	heapSize  = 0x1000
	slrtBase  = 0xc9f30000
	agileLog  = 0xa87e4000
	perAlgLog = 0xa87ec000 // SHA-1; SHA-256 lies a page behind
	tpm12Log  = 0xa87f4000
	slrtLog   = 0xa87fc000
	slbBase   = 0xce540000
	ringLog   = 0xc5de4000
	logRoom   = 0x1000
)

// element is an extended element of the heap.
func element(kind txt.ElementType, data []byte) []byte {
	return append(put(uint32(kind), uint32(8+len(data))), data...)
}

// pointer8 points to an agile log.
func pointer8(address uint64, allocated, first, next int) []byte {
	return element(txt.ElementEventLogAgile, put(address, uint32(allocated), uint32(first), uint32(next)))
}

// perAlg is an entry of an element that points to one log for each algorithm.
func perAlg(alg tpm.Alg, address uint64, allocated, first, next int) []byte {
	return put(uint16(alg), uint16(0), address, uint32(allocated), uint32(first), uint32(next))
}

// heap writes the four tables. The firmware's has 44 bytes, as some machines'.
func heap(osmle []byte, elements ...[]byte) []byte {
	bios := put(uint32(3), make([]byte, 32))
	sinit := put(uint32(7), make([]byte, 88))
	sinit = append(sinit, bytes.Join(append(elements, element(txt.ElementEnd, nil)), nil)...)
	mle := put(uint32(8), make([]byte, 144))
	var b []byte
	for _, table := range [][]byte{bios, osmle, sinit, mle} {
		b = append(le.AppendUint64(b, uint64(8+len(table))), table...)
	}
	return inRoom(b, heapSize)
}

// osmle is the boot loader's table in TrenchBoot's older layout.
func osmle(slrt uint32) []byte {
	return put(uint32(1), uint32(0x1000), slrt, uint32(0), uint32(0), uint32(0), make([]byte, 64))
}

// newOSMLE is the same in the newer layout.
func newOSMLE(slrt uint64) []byte {
	return put(uint32(1), uint32(0), uint64(0x1000), slrt, uint64(0), uint32(0), uint32(0), make([]byte, 64))
}

// table writes an SLRT that names a log.
func table(l slrt.Layout, arch slrt.Architecture, address uint64, size int) []byte {
	var body []byte
	if l == slrt.Old {
		body = append(put(uint16(slrt.TagDLInfo), uint16(52)), make([]byte, 48)...)
		body = append(body, put(uint16(slrt.TagLogInfo), uint16(20), uint16(2), uint16(0), address, uint32(size))...)
		body = append(body, put(uint16(slrt.TagEnd), uint16(4))...)
	} else {
		body = append(put(uint32(slrt.TagDLInfo), uint32(72)), make([]byte, 64)...)
		body = append(body, put(uint32(slrt.TagLogInfo), uint32(24), uint16(2), uint16(0), uint32(size), address)...)
		body = append(body, put(uint32(slrt.TagEnd), uint32(8))...)
	}
	return append(put(uint32(slrt.Magic), uint16(1), uint16(arch), uint32(16+len(body)), uint32(0x1000)), body...)
}

// registers are the first page of the TXT registers after a launch.
func registers(sts, base, size uint64) []byte {
	b := make([]byte, 0x1000)
	le.PutUint64(b, sts)
	le.PutUint64(b[0x110:], 0x1_b001_8086)
	le.PutUint64(b[0x300:], base)
	le.PutUint64(b[0x308:], size)
	return b
}

const launched = 0x10091

// loaderBlock is a Secure Loader Block with the Secure Kernel Loader and an SLRT
// behind its measured part. at is where its offsets stand: 4 in older ones, 66 in newer.
func loaderBlock(at int, slrt []byte) []byte {
	const info, data = 0x80, 0x4000
	b := make([]byte, 64<<10)
	copy(b, put(uint16(0x100), uint16(0x2000)))
	copy(b[at:], put(uint16(info), uint16(data)))
	copy(b[info:], []byte{0x78, 0xf1, 0x26, 0x8e, 0x04, 0x92, 0x11, 0xe9, 0x83, 0x2a, 0xc8, 0x5b, 0x76, 0xc4, 0xcc, 0x02})
	copy(b[data:], slrt)
	return b
}

// span is a range that was asked for.
type span struct{ Address, Size uint64 }

// recorder is memory that remembers what it was asked for.
type recorder struct {
	memory physmem.Memory
	asked  []span
}

func (r *recorder) ReadAt(b []byte, address uint64) error {
	r.asked = append(r.asked, span{address, uint64(len(b))})
	return r.memory.ReadAt(b, address)
}

// machine is a test's machine: files and memory.
type machine struct {
	root   string
	pieces map[uint64][]byte
	xen    string // Xen's messages; none where it is empty
}

func newMachine(t testing.TB) *machine {
	return &machine{root: t.TempDir(), pieces: map[uint64][]byte{}}
}

// file writes a file of the machine.
func (m *machine) file(t testing.TB, path string, b []byte) {
	t.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(filepath.Join(m.root, path)); err != nil {
		t.Fatal(err)
	}
}

// link puts a link in a file's place.
func (m *machine) link(t testing.TB, to, path string) {
	t.Helper()
	m.remove(t, path)
	if err := os.Symlink(to, filepath.Join(m.root, path)); err != nil {
		t.Fatal(err)
	}
}

// txt gives the machine a launch by TXT.
func (m *machine) txt(osmle []byte, elements ...[]byte) {
	m.pieces[txt.PublicBase] = registers(launched, heapBase, heapSize)
	m.pieces[heapBase] = heap(osmle, elements...)
}

// simulate hands a log over as drtmsim does: in the memory of a PCI device.
func (m *machine) simulate(t testing.TB, h handover.Handover) {
	t.Helper()
	const device = "sys/bus/pci/devices/0000:00:04.0/"
	m.file(t, device+"vendor", []byte("0x1af4\n"))
	m.file(t, device+"device", []byte("0x1110\n"))
	f, err := handover.Create(filepath.Join(m.root, device+"resource2"), handover.DefaultSize)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := handover.Write(f, handover.DefaultSize, h); err != nil {
		t.Fatal(err)
	}
}

// result is what Find gave, and what it asked the memory for.
type result struct {
	launch, static []livelog.Found
	skipped        []livelog.Skipped
	asked          []span
}

func (m *machine) find(t testing.TB) result {
	t.Helper()
	var pieces []physmem.Segment
	for base, b := range m.pieces {
		pieces = append(pieces, physmem.Segment{Base: base, Bytes: b})
	}
	memory, err := physmem.NewSegments(pieces...)
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{memory: memory}
	x := livelog.Machine{Root: m.root, Memory: rec}
	if m.xen != "" {
		x.XenRing = func() ([]byte, error) { return []byte(m.xen), nil }
	}
	var r result
	r.launch, r.static, r.skipped = livelog.Find(x)
	r.asked = rec.asked
	return r
}

// The files in which kernels show logs.
const (
	linuxFile    = "sys/kernel/security/slaunch/eventlog"
	openXTFolder = "sys/kernel/security/txt/"
	firmwareFile = "sys/kernel/security/tpm0/binary_bios_measurements"
)

// simulated is a hand-over of a log.
func simulated(log []byte) handover.Handover {
	return handover.Handover{Generation: 1, Platform: drtm.SKINIT, Log: log}
}
