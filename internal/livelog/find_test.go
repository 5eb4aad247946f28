package livelog_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm/slrt"
	"github.com/antievilmaid/aem/drtm/txt"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/livelog"
	"github.com/antievilmaid/aem/tpm"
)

// one demands that exactly one launch's log was found, and that it parses.
func one(t *testing.T, r result) livelog.Found {
	t.Helper()
	if len(r.launch) != 1 || len(r.static) != 0 {
		t.Fatalf("%d logs of a launch and %d static ones; skipped: %+v", len(r.launch), len(r.static), r.skipped)
	}
	if _, err := eventlog.Parse(r.launch[0].Bytes); err != nil {
		t.Errorf("%s: %v", r.launch[0].Name, err)
	}
	return r.launch[0]
}

var registersPage = span{txt.PublicBase, 0x1000}

func TestLogsInFiles(t *testing.T) {
	for path, source := range map[string]livelog.Source{
		linuxFile:                                   livelog.Linux,
		openXTFolder + "tpm20_binary_evtlog_tcg":    livelog.OpenXT,
		openXTFolder + "tpm20_binary_evtlog_legacy": livelog.OpenXT,
		openXTFolder + "tpm12_binary_evtlog":        livelog.OpenXT,
	} {
		m := newMachine(t)
		bytes := inRoom(agile(t, "a launch"), logRoom) // a kernel shows all of the log's memory
		m.file(t, path, bytes)
		got := one(t, m.find(t))
		want := livelog.Found{Source: source, Name: got.Name, Bytes: bytes}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", path, diff)
		}
	}
}

func TestStaticLog(t *testing.T) {
	m := newMachine(t)
	bytes := agile(t, "a boot")
	m.file(t, firmwareFile, bytes)
	r := m.find(t)
	want := []livelog.Found{{Source: livelog.Firmware, Name: "firmware, /" + firmwareFile, Static: true, Bytes: bytes}}
	if diff := cmp.Diff(want, r.static); diff != "" || len(r.launch) != 0 {
		t.Errorf("%d logs of a launch; (-want +got)\n%s", len(r.launch), diff)
	}
}

func TestSimulatedLaunch(t *testing.T) {
	m := newMachine(t)
	bytes := agile(t, "a launch")
	m.simulate(t, simulated(bytes))
	want := livelog.Found{Source: livelog.Simulator, Name: "drtmsim's hand-over", Simulated: true, Bytes: bytes}
	if diff := cmp.Diff(want, one(t, m.find(t))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// An agile log in memory has no size of its own; what was written is between the
// pointer's two offsets, and the memory behind it is nobody's.
func TestTXTElement8(t *testing.T) {
	for name, skip := range map[string]int{"from the start": 0, "behind 16 bytes": 16} {
		m := newMachine(t)
		bytes := agile(t, "a launch")
		m.txt(make([]byte, 96), pointer8(agileLog, logRoom, skip, skip+len(bytes)))
		m.pieces[agileLog] = append(make([]byte, skip), append(bytes, "what lies behind it"...)...)
		r := m.find(t)
		want := livelog.Found{Source: livelog.TXTHeap, Name: "TXT heap, element 8, at 0xa87e4000", Bytes: bytes, Address: agileLog + uint64(skip),
			Room: logRoom - skip - len(bytes), RoomKnown: true}
		if diff := cmp.Diff(want, one(t, r)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
		asked := []span{registersPage, {heapBase, heapSize}, {agileLog + uint64(skip), uint64(len(bytes))}}
		if diff := cmp.Diff(asked, r.asked); diff != "" {
			t.Errorf("%s: the memory was asked for (-want +got)\n%s", name, diff)
		}
	}
}

func TestTXTElement7(t *testing.T) {
	m := newMachine(t)
	sha1 := log(t, eventlog.Header{Format: eventlog.TCG12, Algs: []tpm.Alg{tpm.SHA1}}, "a launch")
	sha256 := log(t, eventlog.Header{Format: eventlog.TXTPerAlg, Algs: []tpm.Alg{tpm.SHA256}}, "a launch")
	m.txt(make([]byte, 96), element(txt.ElementEventLogPerAlg, append(put(uint32(2)), append(
		perAlg(tpm.SHA1, perAlgLog, logRoom, 0, len(sha1)), perAlg(tpm.SHA256, perAlgLog+logRoom, logRoom, 0, len(sha256))...)...)))
	m.pieces[perAlgLog], m.pieces[perAlgLog+logRoom] = inRoom(sha1, logRoom), inRoom(sha256, logRoom)
	r := m.find(t)
	want := []livelog.Found{
		{Source: livelog.TXTHeap, Name: "TXT heap, element 7 (sha1), at 0xa87ec000", Bytes: sha1, Address: perAlgLog, Alg: tpm.SHA1,
			Room: logRoom - len(sha1), RoomKnown: true},
		{Source: livelog.TXTHeap, Name: "TXT heap, element 7 (sha256), at 0xa87ed000", Bytes: sha256, Address: perAlgLog + logRoom, Alg: tpm.SHA256,
			Room: logRoom - len(sha256), RoomKnown: true},
	}
	if diff := cmp.Diff(want, r.launch); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	asked := []span{registersPage, {heapBase, heapSize}, {perAlgLog, uint64(len(sha1))}, {perAlgLog + logRoom, uint64(len(sha256))}}
	if diff := cmp.Diff(asked, r.asked); diff != "" {
		t.Errorf("the memory was asked for (-want +got)\n%s", diff)
	}
}

// A TPM 1.2 log is all of its memory, so that it can be told whether it is full.
func TestTXTElement5(t *testing.T) {
	m := newMachine(t)
	bytes := log(t, eventlog.Header{Format: eventlog.TXT12Container, Algs: []tpm.Alg{tpm.SHA1}, Capacity: logRoom}, "a launch")
	m.txt(make([]byte, 96), element(txt.ElementEventLog12, put(uint64(tpm12Log))))
	m.pieces[tpm12Log] = append(bytes, "what lies behind it"...)
	r := m.find(t)
	got := one(t, r)
	want := livelog.Found{Source: livelog.TXTHeap, Name: "TXT heap, element 5, at 0xa87f4000", Bytes: bytes, Address: tpm12Log}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if l, err := eventlog.Parse(got.Bytes); err != nil || l.Full() {
		t.Errorf("full: %t, %v", l.Full(), err)
	}
	asked := []span{registersPage, {heapBase, heapSize}, {tpm12Log, 48}, {tpm12Log, logRoom}}
	if diff := cmp.Diff(asked, r.asked); diff != "" {
		t.Errorf("the memory was asked for (-want +got)\n%s", diff)
	}
}

func TestSLRTInTheHeap(t *testing.T) {
	for name, v := range map[string]struct {
		osmle []byte
		slrt  []byte
	}{
		"old": {osmle(slrtBase), table(slrt.Old, slrt.TXT, slrtLog, logRoom)},
		"new": {newOSMLE(slrtBase), table(slrt.New, slrt.TXT, slrtLog, logRoom)},
	} {
		m := newMachine(t)
		m.txt(v.osmle)
		bytes := inRoom(agile(t, "a launch"), logRoom)
		m.pieces[slrtBase], m.pieces[slrtLog] = append(v.slrt, "what lies behind it"...), append(bytes, "and behind that"...)
		r := m.find(t)
		want := livelog.Found{Source: livelog.TXTSLRT, Name: "SLRT named in the TXT heap, at 0xc9f30000, log at 0xa87fc000", Bytes: bytes, Address: slrtLog}
		if diff := cmp.Diff(want, one(t, r)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
		asked := []span{registersPage, {heapBase, heapSize}, {slrtBase, 16}, {slrtBase, uint64(len(v.slrt))}, {slrtLog, logRoom}}
		if diff := cmp.Diff(asked, r.asked); diff != "" {
			t.Errorf("%s: the memory was asked for (-want +got)\n%s", name, diff)
		}
	}
}

// On AMD there are no registers to ask: Xen says where the loader's block lies.
func TestSLRTInTheLoaderBlock(t *testing.T) {
	for name, block := range map[string][]byte{
		"old": loaderBlock(4, table(slrt.Old, slrt.SKINIT, slrtLog, logRoom)),
		"new": loaderBlock(66, table(slrt.New, slrt.SKINIT, slrtLog, logRoom)),
	} {
		m := newMachine(t)
		m.file(t, "proc/cpuinfo", []byte("processor\t: 0\nvendor_id\t: AuthenticAMD\n"))
		m.xen = "(XEN) SLAUNCH: reserving SLB (0xce540000 - 0xce550000)\n"
		bytes := log(t, eventlog.Header{Format: eventlog.CryptoAgile, Algs: []tpm.Alg{tpm.SHA256}, SKL: true, Address: slrtLog, Capacity: logRoom}, "a launch")
		m.pieces[slbBase], m.pieces[slrtLog] = block, bytes
		r := m.find(t)
		want := livelog.Found{Source: livelog.SLBSLRT, Name: "SLRT in the secure loader block at 0xce540000, log at 0xa87fc000", Bytes: bytes, Address: slrtLog}
		if diff := cmp.Diff(want, one(t, r)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
		if diff := cmp.Diff([]span{{slbBase, 64 << 10}, {slrtLog, logRoom}}, r.asked); diff != "" {
			t.Errorf("%s: the memory was asked for (-want +got)\n%s", name, diff)
		}
	}
}

// everything is a machine that has all sources, each with a log of its own.
func everything(t testing.TB) *machine {
	m := newMachine(t)
	m.file(t, linuxFile, agile(t, "Linux"))
	for _, name := range []string{"tpm20_binary_evtlog_tcg", "tpm20_binary_evtlog_legacy", "tpm12_binary_evtlog"} {
		m.file(t, openXTFolder+name, agile(t, "OpenXT "+name))
	}
	heap8 := agile(t, "element 8")
	heap7 := log(t, eventlog.Header{Format: eventlog.TXTPerAlg, Algs: []tpm.Alg{tpm.SHA256}}, "element 7")
	m.txt(osmle(slrtBase),
		element(txt.ElementEventLog12, put(uint64(tpm12Log))), // not in the order of preference
		element(txt.ElementEventLogPerAlg, append(put(uint32(1)), perAlg(tpm.SHA256, perAlgLog, logRoom, 0, len(heap7))...)),
		pointer8(agileLog, logRoom, 0, len(heap8)))
	m.pieces[agileLog], m.pieces[perAlgLog] = inRoom(heap8, logRoom), inRoom(heap7, logRoom)
	m.pieces[tpm12Log] = log(t, eventlog.Header{Format: eventlog.TXT12Container, Algs: []tpm.Alg{tpm.SHA1}, Capacity: logRoom}, "element 5")
	m.pieces[slrtBase] = table(slrt.New, slrt.TXT, slrtLog, logRoom)
	m.pieces[slrtLog] = inRoom(agile(t, "SLRT"), logRoom)
	m.pieces[slbBase] = loaderBlock(4, table(slrt.Old, slrt.SKINIT, slrtLog+logRoom, logRoom))
	m.pieces[slrtLog+logRoom] = inRoom(agile(t, "SLB"), logRoom)
	m.pieces[ringLog] = inRoom(agile(t, "Xen"), logRoom)
	m.xen = "(XEN) SLAUNCH: reserving SLB (0xce540000 - 0xce550000)\n(XEN) SLAUNCH: reserving event log (0xc5de4000 - 0xc5de5000)\n"
	m.simulate(t, simulated(agile(t, "drtmsim")))
	m.file(t, firmwareFile, agile(t, "firmware"))
	return m
}

// texts are the events' texts, by which the logs are told apart.
func texts(t *testing.T, list []livelog.Found) []string {
	t.Helper()
	var got []string
	for _, f := range list {
		l, err := eventlog.Parse(f.Bytes)
		if err != nil || len(l.Events) != 1 {
			t.Fatalf("%s: %v", f.Name, err)
		}
		got = append(got, string(l.Events[0].Data))
	}
	return got
}

func TestOrderOfPreference(t *testing.T) {
	r := everything(t).find(t)
	want := []string{"Linux", "OpenXT tpm20_binary_evtlog_tcg", "OpenXT tpm20_binary_evtlog_legacy", "OpenXT tpm12_binary_evtlog",
		"element 8", "element 7", "element 5", "SLRT", "SLB", "Xen", "drtmsim"}
	if diff := cmp.Diff(want, texts(t, r.launch)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"firmware"}, texts(t, r.static)); diff != "" {
		t.Errorf("static (-want +got)\n%s", diff)
	}
	if len(r.skipped) != 0 {
		t.Errorf("skipped: %+v", r.skipped)
	}
}

// Where nothing is found, the person is told of every place that was looked in.
func TestMachineWithNothing(t *testing.T) {
	m := newMachine(t)
	m.pieces[txt.PublicBase] = make([]byte, 0x1000)
	r := m.find(t)
	seen := map[livelog.Source]bool{}
	for _, s := range r.skipped {
		if !s.Absent || s.Reason == "" || s.Name == "" {
			t.Errorf("%+v", s)
		}
		seen[s.Source] = true
	}
	for _, s := range []livelog.Source{livelog.Linux, livelog.OpenXT, livelog.TXTHeap, livelog.TXTSLRT, livelog.SLBSLRT, livelog.XenRing, livelog.Simulator, livelog.Firmware} {
		if !seen[s] {
			t.Errorf("nothing is said of %s", s)
		}
	}
	if len(r.launch)+len(r.static) != 0 {
		t.Errorf("found: %+v, %+v", r.launch, r.static)
	}
}

// In an initramfs, the file system that shows the logs may not be mounted; that is
// another thing than a kernel without such logs.
func TestSecurityFSThatIsNotMounted(t *testing.T) {
	said := func(m *machine) string {
		for _, s := range m.find(t).skipped {
			if s.Source == livelog.Linux && s.Absent {
				return s.Reason
			}
		}
		return ""
	}
	m := newMachine(t)
	if got := said(m); got != "securityfs is not mounted on /sys/kernel/security" {
		t.Errorf("no folder: %q", got)
	}
	m.file(t, "sys/kernel/security/x", nil)
	if got := said(m); got != "this kernel shows no such log" {
		t.Errorf("mounted: %q", got)
	}
	m.remove(t, "sys/kernel/security/x")
	if got := said(m); got != "securityfs is not mounted on /sys/kernel/security" {
		t.Errorf("an empty folder: %q", got)
	}
}
