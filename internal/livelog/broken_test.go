package livelog_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm/slrt"
	"github.com/antievilmaid/aem/drtm/txt"
	"github.com/antievilmaid/aem/internal/handover"
	"github.com/antievilmaid/aem/internal/livelog"
	"github.com/antievilmaid/aem/tpm"
)

// One source of a machine that has them all is broken. That it is, is said with the
// reason; all other logs are found as before.
func TestBrokenSources(t *testing.T) {
	whole := texts(t, everything(t).find(t).launch)
	for name, v := range map[string]struct {
		breakIt func(*machine)
		source  livelog.Source
		reason  string   // part of it
		lost    []string // texts of the logs that are no longer found
	}{
		"Linux: cleared": {func(m *machine) { m.file(t, linuxFile, make([]byte, 64)) },
			livelog.Linux, "its 64 bytes all read as 0x00", []string{"Linux"}},
		"Linux: empty": {func(m *machine) { m.file(t, linuxFile, nil) },
			livelog.Linux, "its 0 bytes", []string{"Linux"}},
		"Linux: another file": {func(m *machine) { m.file(t, linuxFile, []byte("this is no log of events, though it is long enough")) },
			livelog.Linux, "no event log", []string{"Linux"}},
		"Linux: too long": {func(m *machine) { m.file(t, linuxFile, make([]byte, livelog.MaxLog+1)) },
			livelog.Linux, "more than any launch leaves", []string{"Linux"}},
		"Linux: endless": {func(m *machine) { m.link(t, "/dev/zero", linuxFile) },
			livelog.Linux, "more than any launch leaves", []string{"Linux"}},
		"Linux: a folder": {func(m *machine) { m.link(t, t.TempDir(), linuxFile) },
			livelog.Linux, "is a directory", []string{"Linux"}},
		"OpenXT: ones": {func(m *machine) { m.file(t, openXTFolder+"tpm12_binary_evtlog", bytes.Repeat([]byte{0xff}, 100)) },
			livelog.OpenXT, "read as 0xff", []string{"OpenXT tpm12_binary_evtlog"}},

		"registers: not captured": {func(m *machine) { delete(m.pieces, txt.PublicBase) },
			livelog.TXTHeap, "does not hold this memory", []string{"element 8", "element 7", "element 5", "SLRT"}},
		"registers: no launch": {func(m *machine) { m.pieces[txt.PublicBase] = registers(2, heapBase, heapSize) },
			livelog.TXTHeap, "not launched", []string{"element 8", "element 7", "element 5", "SLRT"}},
		"registers: ones": {func(m *machine) { m.pieces[txt.PublicBase] = bytes.Repeat([]byte{0xff}, 0x1000) },
			livelog.TXTHeap, "read as ones", []string{"element 8", "element 7", "element 5", "SLRT"}},
		"registers: no heap": {func(m *machine) { m.pieces[txt.PublicBase] = registers(launched, 0, heapSize) },
			livelog.TXTHeap, "the TXT registers name no heap", []string{"element 8", "element 7", "element 5", "SLRT"}},
		"registers: the heap wraps": {func(m *machine) { m.pieces[txt.PublicBase] = registers(launched, ^uint64(0)-8, heapSize) },
			livelog.TXTHeap, "wrap around", []string{"element 8", "element 7", "element 5", "SLRT"}},
		"registers: a huge heap": {func(m *machine) { m.pieces[txt.PublicBase] = registers(launched, heapBase, 1<<40) },
			livelog.TXTHeap, "no more than", []string{"element 8", "element 7", "element 5", "SLRT"}},
		"heap: the firmware's table is larger than it": {func(m *machine) { le.PutUint64(m.pieces[heapBase], heapSize+1) },
			livelog.TXTHeap, "the firmware's table", []string{"element 8", "element 7", "element 5", "SLRT"}},
		"heap: the table for SINIT is cut off": {func(m *machine) { le.PutUint64(m.pieces[heapBase][44+96:], heapSize) },
			livelog.TXTHeap, "the table for SINIT", []string{"element 8", "element 7", "element 5"}},
		"heap: SINIT's table is too small": {func(m *machine) { b := m.pieces[heapBase]; le.PutUint64(b[sinitMLE(b):], 16) },
			livelog.TXTHeap, "SINIT's table", nil},

		"element 8: zero": {func(m *machine) { setPointer(m, 8, 0) },
			livelog.TXTHeap, "is zero", []string{"element 8"}},
		"element 8: wraps": {func(m *machine) { setPointer(m, 8, ^uint64(0)-8) },
			livelog.TXTHeap, "wraps around", []string{"element 8"}},
		"element 8: leads nowhere": {func(m *machine) { setPointer(m, 8, 0x5000) },
			livelog.TXTHeap, "does not hold this memory", []string{"element 8"}},
		"element 8: huge": {func(m *machine) { setBounds(m, 8, livelog.MaxLog+1, 0, livelog.MaxLog+1) },
			livelog.TXTHeap, "it claims 4194305 bytes", []string{"element 8"}},
		"element 8: the next before the first": {func(m *machine) { setBounds(m, 8, logRoom, 64, 63) },
			livelog.TXTHeap, "from 64 to 63", []string{"element 8"}},
		"element 8: the next behind its memory": {func(m *machine) { setBounds(m, 8, 64, 0, 65) },
			livelog.TXTHeap, "of 64 bytes", []string{"element 8"}},
		"element 8: nothing written": {func(m *machine) { setBounds(m, 8, logRoom, 0, 0) },
			livelog.TXTHeap, "nothing was written", []string{"element 8"}},
		"element 8: cleared memory": {func(m *machine) { clear(m.pieces[agileLog]) },
			livelog.TXTHeap, "the log was cleared", []string{"element 8"}},
		"element 8: other memory": {func(m *machine) { copy(m.pieces[agileLog], bytes.Repeat([]byte("other "), 30)) },
			livelog.TXTHeap, "no event log", []string{"element 8"}},
		"element 8: has a byte": {func(m *machine) {
			m.txt(osmle(slrtBase), element(txt.ElementEventLogAgile, []byte{1}), element(txt.ElementEventLog12, put(uint64(tpm12Log))))
		}, livelog.TXTHeap, "has only 1 bytes", []string{"element 8", "element 7"}},
		"no elements": {func(m *machine) { m.txt(osmle(slrtBase)) },
			livelog.TXTHeap, "names no event log", []string{"element 8", "element 7", "element 5"}},

		"element 7: more than its data": {func(m *machine) { le.PutUint32(m.pieces[heapBase][elementAt(m, 7):], 3) },
			livelog.TXTHeap, "element for event logs by algorithm", []string{"element 7"}},
		"element 7: far more": {func(m *machine) { le.PutUint32(m.pieces[heapBase][elementAt(m, 7):], ^uint32(0)) },
			livelog.TXTHeap, "lists 4294967295", []string{"element 7"}},

		"element 5: no container": {func(m *machine) { m.pieces[tpm12Log][0] = 'X' },
			livelog.TXTHeap, "no event container", []string{"element 5"}},
		"element 5: smaller than its header": {func(m *machine) { le.PutUint32(m.pieces[tpm12Log][36:], 47) },
			livelog.TXTHeap, "claims 47 bytes", []string{"element 5"}},
		"element 5: huge": {func(m *machine) { le.PutUint32(m.pieces[tpm12Log][36:], ^uint32(0)) },
			livelog.TXTHeap, "it claims 4294967295 bytes", []string{"element 5"}},
		"element 5: larger than its memory": {func(m *machine) { le.PutUint32(m.pieces[tpm12Log][36:], logRoom+1) },
			livelog.TXTHeap, "does not hold this memory", []string{"element 5"}},
		"element 5: cut off": {func(m *machine) { m.pieces[tpm12Log] = m.pieces[tpm12Log][:47] },
			livelog.TXTHeap, "does not hold this memory", []string{"element 5"}},

		"SLRT: not TrenchBoot's": {func(m *machine) { copy(m.pieces[heapBase][44+8:], make([]byte, 88)) },
			livelog.TXTSLRT, "none of TrenchBoot's", []string{"SLRT"}},
		"SLRT: leads nowhere": {func(m *machine) { copy(m.pieces[heapBase][44+8:], osmle(0x5000)) },
			livelog.TXTSLRT, "does not hold this memory", []string{"SLRT"}},
		"SLRT: none there": {func(m *machine) { m.pieces[slrtBase][0] = 'X' },
			livelog.TXTSLRT, "no SLRT begins", []string{"SLRT"}},
		"SLRT: huge": {func(m *machine) { le.PutUint32(m.pieces[slrtBase][8:], 64<<10+1) },
			livelog.TXTSLRT, "no SLRT begins", []string{"SLRT"}},
		"SLRT: tiny": {func(m *machine) { le.PutUint32(m.pieces[slrtBase][8:], 15) },
			livelog.TXTSLRT, "no SLRT begins", []string{"SLRT"}},
		"SLRT: an entry larger than it": {func(m *machine) { le.PutUint32(m.pieces[slrtBase][16+4:], 0x1000) },
			livelog.TXTSLRT, "claims 4096 bytes", []string{"SLRT"}},
		"SLRT: a log of no bytes": {func(m *machine) { m.pieces[slrtBase] = table(slrt.New, slrt.TXT, slrtLog, 0) },
			livelog.TXTSLRT, "names no event log", []string{"SLRT"}},
		"SLRT: a log that wraps": {func(m *machine) { m.pieces[slrtBase] = table(slrt.New, slrt.TXT, ^uint64(0), 2) },
			livelog.TXTSLRT, "names no event log", []string{"SLRT"}},
		"SLRT: a huge log": {func(m *machine) { m.pieces[slrtBase] = table(slrt.Old, slrt.TXT, slrtLog, livelog.MaxLog+1) },
			livelog.TXTSLRT, "it claims 4194305 bytes", []string{"SLRT"}},

		"SLB: another size": {func(m *machine) { m.xen = strings.Replace(m.xen, "0xce550000", "0xce540100", 1) },
			livelog.SLBSLRT, "64 KiB", []string{"SLB"}},
		"SLB: not aligned": {func(m *machine) {
			m.xen = strings.NewReplacer("0xce540000", "0xce541000", "0xce550000", "0xce551000").Replace(m.xen)
		},
			livelog.SLBSLRT, "aligned", []string{"SLB"}},
		"SLB: above 4 GiB": {func(m *machine) {
			m.xen = strings.NewReplacer("0xce540000", "0x1ce540000", "0xce550000", "0x1ce550000").Replace(m.xen)
		},
			livelog.SLBSLRT, "below 4 GiB", []string{"SLB"}},
		"SLB: no block": {func(m *machine) { copy(m.pieces[slbBase], []byte{0, 0, 3, 0}) },
			livelog.SLBSLRT, "no Secure Loader Block", []string{"SLB"}},
		"SLB: another loader": {func(m *machine) { m.pieces[slbBase][0x80] = 0 },
			livelog.SLBSLRT, "does not hold the Secure Kernel Loader", []string{"SLB"}},
		"SLB: no table": {func(m *machine) { m.pieces[slbBase][0x4000] = 0 },
			livelog.SLBSLRT, "no table begins", []string{"SLB"}},
		"SLB: the table at its last byte": {func(m *machine) { le.PutUint16(m.pieces[slbBase][6:], 0xffff) },
			livelog.SLBSLRT, "no table begins", []string{"SLB"}},
		"SLB: not captured": {func(m *machine) { delete(m.pieces, slbBase) },
			livelog.SLBSLRT, "does not hold this memory", []string{"SLB"}},

		"Xen: another form": {func(m *machine) {
			m.xen = strings.Replace(m.xen, "(0xc5de4000 - 0xc5de5000)", "at 0xc5de4000\x1b[2J", 1)
		},
			livelog.XenRing, `at 0xc5de4000\x1b[2J`, []string{"Xen"}},
		"Xen: the end before the start": {func(m *machine) { m.xen = strings.Replace(m.xen, "0xc5de5000", "0xc5de4000", 1) },
			livelog.XenRing, "is none", []string{"Xen"}},
		"Xen: from zero": {func(m *machine) { m.xen = strings.Replace(m.xen, "0xc5de4000", "0x0", 1) },
			livelog.XenRing, "is none", []string{"Xen"}},
		"Xen: huge": {func(m *machine) { m.xen = strings.Replace(m.xen, "0xc5de5000", "0xffffffffffffffff", 1) },
			livelog.XenRing, "more than any launch leaves", []string{"Xen"}},
		"Xen: more digits than an address has": {func(m *machine) { m.xen = strings.Replace(m.xen, "0xc5de5000", "0x10000000000000000", 1) },
			livelog.XenRing, "form that is not known", []string{"Xen"}},
		"Xen: overwritten": {func(m *machine) { m.xen = "event log (0xc5de4000 - 0xc5de5000)\n(XEN) later\n" },
			livelog.XenRing, "overwritten", []string{"SLB", "Xen"}},

		"drtmsim: no launch": {func(m *machine) { m.simulate(t, handover.Handover{Generation: 2}) },
			livelog.Simulator, "made no launch", []string{"drtmsim"}},
		"drtmsim: no log": {func(m *machine) { m.simulate(t, simulated(nil)) },
			livelog.Simulator, "its 0 bytes", []string{"drtmsim"}},
		"firmware: cleared": {func(m *machine) { m.file(t, firmwareFile, make([]byte, 8)) },
			livelog.Firmware, "cleared", nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := everything(t)
			v.breakIt(m)
			r := m.find(t)
			said := slices.ContainsFunc(r.skipped, func(s livelog.Skipped) bool {
				return s.Source == v.source && strings.Contains(s.Reason, v.reason)
			})
			if !said {
				t.Errorf("nothing of %s says %q: %+v", v.source, v.reason, r.skipped)
			}
			want := slices.DeleteFunc(slices.Clone(whole), func(s string) bool { return slices.Contains(v.lost, s) })
			if diff := cmp.Diff(want, texts(t, r.launch)); diff != "" {
				t.Errorf("found (-want +got)\n%s", diff)
			}
			for _, a := range r.asked {
				if a.Address == 0 || a.Size > livelog.MaxLog || a.Address+a.Size < a.Address {
					t.Errorf("the memory was asked for %d bytes at %#x", a.Size, a.Address)
				}
			}
		})
	}
}

// sinitMLE is where the heap's last table begins.
func sinitMLE(b []byte) uint64 {
	at := uint64(0)
	for range 3 {
		at += le.Uint64(b[at:])
	}
	return at
}

// elementAt is where the data of an element begins in the heap.
func elementAt(m *machine, kind uint32) int {
	b := m.pieces[heapBase]
	at := 44 + 96 + 8 + 92 // behind two tables and the fixed part of the third
	for le.Uint32(b[at:]) != kind {
		at += int(le.Uint32(b[at+4:]))
	}
	return at + 8
}

func setPointer(m *machine, kind uint32, address uint64) {
	le.PutUint64(m.pieces[heapBase][elementAt(m, kind):], address)
}

func setBounds(m *machine, kind uint32, allocated, first, next uint32) {
	copy(m.pieces[heapBase][elementAt(m, kind)+8:], put(allocated, first, next))
}

// Of several logs by algorithm, one that leads nowhere hides none of the others.
func TestOneBadPointerAmongSeveral(t *testing.T) {
	m := everything(t)
	good := len(agile(t, "element 7"))
	m.pieces[perAlgLog] = agile(t, "element 7")
	entries := slices.Concat(perAlg(tpm.SHA1, 0, logRoom, 0, 0), perAlg(tpm.SHA256, perAlgLog, logRoom, 0, good), perAlg(tpm.SHA384, perAlgLog, 1, 0, 2))
	m.txt(make([]byte, 96), element(txt.ElementEventLogPerAlg, append(put(uint32(3)), entries...)))
	r := m.find(t)
	var reasons []string
	for _, s := range r.skipped {
		if s.Source == livelog.TXTHeap {
			reasons = append(reasons, s.Reason)
		}
	}
	if len(reasons) != 2 || !strings.Contains(reasons[0], "is zero") || !strings.Contains(reasons[1], "from 0 to 2 of 1 bytes") {
		t.Errorf("%q", reasons)
	}
	if got := texts(t, r.launch); !slices.Contains(got, "element 7") {
		t.Errorf("found %q", got)
	}
}

// A log that breaks off after its first events still says something.
func TestDamagedLogsAreFound(t *testing.T) {
	m := newMachine(t)
	bytes := append(agile(t, "a launch"), 17, 0, 0, 0, 2, 5, 0, 0, 9, 9, 9, 9)
	m.file(t, linuxFile, bytes)
	r := m.find(t)
	if len(r.launch) != 1 || !slices.Equal(r.launch[0].Bytes, bytes) {
		t.Errorf("%+v", r)
	}
}

// A log that the system left behind is this boot's, and the PCRs may hold it.
func TestLaunchThatWasLeft(t *testing.T) {
	m := everything(t)
	m.pieces[txt.PublicBase] = registers(launched|2, heapBase, heapSize)
	if got := texts(t, m.find(t).launch); !slices.Contains(got, "element 8") {
		t.Errorf("found %q", got)
	}
}

// Memory that can't be opened costs the logs that lie in memory, and no others.
func TestMachineWithoutMemory(t *testing.T) {
	m := everything(t)
	launch, static, skipped := livelog.Find(livelog.Machine{Root: m.root, XenRing: func() ([]byte, error) { return []byte(m.xen), nil }})
	want := []string{"Linux", "OpenXT tpm20_binary_evtlog_tcg", "OpenXT tpm20_binary_evtlog_legacy", "OpenXT tpm12_binary_evtlog", "drtmsim"}
	if diff := cmp.Diff(want, texts(t, launch)); diff != "" || len(static) != 1 {
		t.Errorf("%d static; (-want +got)\n%s", len(static), diff)
	}
	var sources []livelog.Source
	for _, s := range skipped {
		if s.Absent {
			t.Errorf("%s is called absent: %s", s.Name, s.Reason)
		}
		if !strings.Contains(s.Reason, "dev/mem") && s.Source != livelog.TXTSLRT {
			t.Errorf("%s: %s", s.Name, s.Reason)
		}
		sources = append(sources, s.Source)
	}
	if diff := cmp.Diff([]livelog.Source{livelog.TXTHeap, livelog.TXTSLRT, livelog.SLBSLRT, livelog.XenRing}, sources); diff != "" {
		t.Errorf("skipped (-want +got)\n%s", diff)
	}
}

// dev/mem below the root is opened where no memory is given, and closed again.
func TestMachineWithADevice(t *testing.T) {
	m := newMachine(t)
	m.xen = "(XEN) SLAUNCH: reserving event log (0x1000 - 0x2000)\n"
	m.file(t, "dev/mem", append(make([]byte, 0x1000), inRoom(agile(t, "a launch"), 0x1000)...))
	launch, _, _ := livelog.Find(livelog.Machine{Root: m.root, XenRing: func() ([]byte, error) { return []byte(m.xen), nil }})
	if got := texts(t, launch); !slices.Equal(got, []string{"a launch"}) {
		t.Errorf("found %q", got)
	}
}

func TestXenThatDoesNotAnswer(t *testing.T) {
	m := everything(t)
	launch, _, skipped := livelog.Find(livelog.Machine{Root: m.root, XenRing: func() ([]byte, error) { return nil, errors.New("no permission") }})
	if len(launch) == 0 {
		t.Error("the other logs are lost")
	}
	for _, source := range []livelog.Source{livelog.SLBSLRT, livelog.XenRing} {
		if !slices.ContainsFunc(skipped, func(s livelog.Skipped) bool { return s.Source == source && s.Reason == "no permission" && !s.Absent }) {
			t.Errorf("%s: %+v", source, skipped)
		}
	}
}
