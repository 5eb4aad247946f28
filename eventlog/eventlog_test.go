package eventlog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

var twoBanks = []tpm.Alg{tpm.SHA1, tpm.SHA256}

// event measures a text into a PCR.
func event(p tpm.PCR, t eventlog.Type, text string, algs ...tpm.Alg) eventlog.Event {
	return eventlog.Event{PCR: p, Type: t, Digests: tpm.SumAll(algs, []byte(text)), Data: []byte(text)}
}

// build makes a log of two banks.
func build(t testing.TB, events ...eventlog.Event) *eventlog.Log {
	t.Helper()
	log, err := eventlog.New(eventlog.Header{Format: eventlog.CryptoAgile, Algs: twoBanks, Uintn: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if err := log.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	return log
}

func launchEvents() []eventlog.Event {
	return []eventlog.Event{
		event(17, eventlog.Slaunch, "SKINIT", twoBanks...),
		event(17, eventlog.Slaunch, "kernel", twoBanks...),
		event(18, eventlog.Slaunch, "command line", twoBanks...),
		event(17, eventlog.Slaunch, "initramfs", twoBanks...),
	}
}

func bytesOf(t testing.TB, log *eventlog.Log) []byte {
	t.Helper()
	b, err := log.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWrittenLogsOfEachFormatAreReadAgain(t *testing.T) {
	for _, h := range []eventlog.Header{
		{Format: eventlog.TCG12, Algs: []tpm.Alg{tpm.SHA1}},
		{Format: eventlog.CryptoAgile, Algs: twoBanks, Uintn: 1},
		{Format: eventlog.CryptoAgile, Algs: twoBanks, Uintn: 2, SKL: true, Address: 0xddf6f000, Capacity: 0x8000},
		{Format: eventlog.TXT12Container, Algs: []tpm.Alg{tpm.SHA1}, Capacity: 0x8000},
		{Format: eventlog.SKL12, Algs: []tpm.Alg{tpm.SHA1}, Capacity: 0x8000},
		{Format: eventlog.TXTPerAlg, Algs: []tpm.Alg{tpm.SHA256}},
	} {
		log, err := eventlog.New(h)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"first", "second", ""} {
			if err := log.Append(event(17, eventlog.Slaunch, text, h.Algs...)); err != nil {
				t.Fatal(err)
			}
		}
		b := bytesOf(t, log)
		if h.Capacity != 0 && len(b) != int(h.Capacity) {
			t.Errorf("%s: %d bytes were written, and the memory has %d", h.Format, len(b), h.Capacity)
		}
		back, err := eventlog.Parse(b)
		if err != nil || back.Format != h.Format || len(back.Events) != 3 || back.Truncated {
			t.Errorf("%s: read again it is %s with %d events, %v", h.Format, back.Format, len(back.Events), err)
			continue
		}
		if got, want := back.Replay(true).Value(h.Algs[0], 17), log.Replay(true).Value(h.Algs[0], 17); !got.Equal(want) {
			t.Errorf("%s: read again it replays to %s; want %s", h.Format, got, want)
		}
		// And it can be continued where it lies.
		if err := back.Append(event(17, eventlog.Slaunch, "third", h.Algs...)); err != nil {
			t.Errorf("%s: continuing it: %v", h.Format, err)
		}
		if again, err := eventlog.Parse(bytesOf(t, back)); err != nil || len(again.Events) != 4 {
			t.Errorf("%s: continued and read again it has %d events, %v", h.Format, len(again.Events), err)
		}
		if !bytes.Equal(bytesOf(t, log), b) {
			t.Errorf("%s: continuing the copy changed the original's bytes", h.Format)
		}
	}
}

func TestAFullLogRefusesAndSaysSo(t *testing.T) {
	log, err := eventlog.New(eventlog.Header{Format: eventlog.TXT12Container, Algs: []tpm.Alg{tpm.SHA1}, Capacity: 48 + 40})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Append(event(17, eventlog.Slaunch, "123456789", tpm.SHA1)); !errors.Is(err, eventlog.ErrFull) {
		t.Fatalf("41 bytes into 40: %v", err)
	}
	if err := log.Append(event(17, eventlog.Slaunch, "12345678", tpm.SHA1)); err != nil {
		t.Fatal(err)
	}
	actual := log.Replay(true)
	if err := actual[0].Extend(17, tpm.SHA1.Sum([]byte("not logged"))); err != nil {
		t.Fatal(err)
	}
	if r := log.Verify(actual, tpm.PCRSet(17), true); r[0].Verdict != eventlog.Incomplete {
		t.Errorf("a PCR that a full log does not explain is called %s", r[0].Verdict)
	}
}

// Without an event, the log is the one to which it was never appended.
func TestEventsThatAreTakenAway(t *testing.T) {
	for _, h := range []eventlog.Header{
		{Format: eventlog.CryptoAgile, Algs: []tpm.Alg{tpm.SHA256}, Uintn: 2, SKL: true, Capacity: 0x1000},
		{Format: eventlog.CryptoAgile, Algs: []tpm.Alg{tpm.SHA256}},
		{Format: eventlog.TXT12Container, Algs: []tpm.Alg{tpm.SHA1}, Capacity: 0x1000},
		{Format: eventlog.SKL12, Algs: []tpm.Alg{tpm.SHA1}, Capacity: 0x1000},
	} {
		want, err := eventlog.New(h)
		if err != nil {
			t.Fatal(err)
		}
		all, err := eventlog.New(h)
		if err != nil {
			t.Fatal(err)
		}
		for i, text := range []string{"first", "second", "third"} {
			e := event(17, eventlog.Slaunch, text, h.Algs...)
			if err := all.Append(e); err != nil {
				t.Fatal(err)
			}
			if i == 1 {
				continue
			}
			if err := want.Append(e); err != nil {
				t.Fatal(err)
			}
		}
		before := bytesOf(t, all)
		if got := bytesOf(t, all.Without(func(i int) bool { return i == 1 })); !bytes.Equal(got, bytesOf(t, want)) {
			t.Errorf("%s: left are\n%x", h.Format, got)
		}
		if !bytes.Equal(bytesOf(t, all), before) {
			t.Errorf("%s: the log itself was changed", h.Format)
		}
	}
}

func TestVerdicts(t *testing.T) {
	log := build(t, launchEvents()...)
	truth := func() tpm.Banks { return log.Replay(true) }
	with := func(change func(tpm.Banks)) tpm.Banks {
		b := truth()
		change(b)
		return b
	}
	one := event(18, eventlog.Slaunch, "x", twoBanks...)
	one.Digests[0].Digest = append(tpm.Digest{1}, make([]byte, 19)...)
	for _, c := range []struct {
		name     string
		log      *eventlog.Log
		actual   tpm.Banks
		pcr      tpm.PCR
		launched bool
		want     [2]eventlog.Verdict // SHA-1, SHA-256
	}{
		{"the truth", log, truth(), 17, true, [2]eventlog.Verdict{eventlog.Match, eventlog.Match}},
		{"one bank differs", log, with(func(b tpm.Banks) { b[1].Values[17] = make([]byte, 32) }), 17, true,
			[2]eventlog.Verdict{eventlog.Match, eventlog.Mismatch}},
		{"no events and the start value", log, truth(), 19, true, [2]eventlog.Verdict{eventlog.Match, eventlog.Match}},
		{"no events and another value", log, with(func(b tpm.Banks) { b[0].Values[19] = bytes.Repeat([]byte{0x42}, 20) }), 19, true,
			[2]eventlog.Verdict{eventlog.NoEvents, eventlog.Match}},
		{"a launch is claimed and PCR 17 is all ones", log, with(func(b tpm.Banks) { b[0].Reset(tpm.PCRSet(17), false) }), 17, true,
			[2]eventlog.Verdict{eventlog.NotLaunched, eventlog.Match}},
		{"a placeholder", build(t, one), build(t, one).Replay(true), 18, true, [2]eventlog.Verdict{eventlog.Unusable, eventlog.Match}},
		{"not launched, and the ones are there", build(t), build(t).Replay(false), 17, false, [2]eventlog.Verdict{eventlog.Match, eventlog.Match}},
	} {
		r := c.log.Verify(c.actual, tpm.PCRSet(c.pcr), c.launched)
		if len(r) != 2 || [2]eventlog.Verdict{r[0].Verdict, r[1].Verdict} != c.want {
			t.Errorf("%s: %v; want %v", c.name, r, c.want)
		}
	}
	if r := log.Verify(append(truth(), tpm.Bank{Alg: tpm.SHA384, Values: [24]tpm.Digest{17: make([]byte, 48)}}), tpm.PCRSet(17), true); r.OK() {
		t.Error("a bank that the log lacks passes")
	}
	if (eventlog.Report{}).OK() {
		t.Error("a comparison of nothing passes")
	}
}

func TestInformativeEventsAreNeverExtended(t *testing.T) {
	plain := build(t, launchEvents()...)
	var events []eventlog.Event
	for _, ty := range []eventlog.Type{eventlog.NoAction, eventlog.TXTPCRMapping, eventlog.SlaunchStart, eventlog.SlaunchEnd} {
		events = append(events, event(17, ty, "hearsay", twoBanks...))
	}
	events = append(append(events, event(255, eventlog.Slaunch, "no register", twoBanks...)), launchEvents()...)
	if got, want := build(t, events...).Replay(true).Value(tpm.SHA256, 17), plain.Replay(true).Value(tpm.SHA256, 17); !got.Equal(want) {
		t.Errorf("with informative events PCR 17 replays to %s; want %s", got, want)
	}
}

func TestStartupLocality(t *testing.T) {
	for _, c := range []struct {
		event eventlog.Event
		want  byte
	}{
		{event(0, eventlog.NoAction, "StartupLocality\x00\x03", twoBanks...), 3},
		{event(1, eventlog.NoAction, "StartupLocality\x00\x03", twoBanks...), 0},
	} {
		v := build(t, c.event).Replay(false).Value(tpm.SHA1, 0)
		if v[19] != c.want || !v[:19].All(0) {
			t.Errorf("PCR 0 starts as %s; want …%02x", v, c.want)
		}
	}
}

func TestUnwrittenMemoryIsNoEvent(t *testing.T) {
	b := bytesOf(t, build(t, launchEvents()...))
	for _, fill := range []byte{0, 0xff} {
		for n := range 200 {
			log, err := eventlog.Parse(append(bytes.Clone(b), bytes.Repeat([]byte{fill}, n)...))
			if err != nil || len(log.Events) != 4 {
				t.Fatalf("%d bytes of %#x after it: %d events, %v", n, fill, len(log.Events), err)
			}
		}
	}
}

func TestNothingIsReadAfterAHole(t *testing.T) {
	b := bytesOf(t, build(t, launchEvents()...))
	late := bytesOf(t, build(t, event(17, eventlog.Slaunch, "late", twoBanks...)))
	hole := append(append(bytes.Clone(b), make([]byte, 64)...), late...)
	log, err := eventlog.Parse(hole)
	var syntax *eventlog.SyntaxError
	if !errors.As(err, &syntax) || len(log.Events) != 4 || syntax.Offset != len(b) || syntax.Event != 4 || !log.Truncated {
		t.Errorf("%d events, error %v; the hole is at %d", len(log.Events), err, len(b))
	}
}

func TestHostileSizes(t *testing.T) {
	good := bytesOf(t, build(t, launchEvents()...))
	log, err := eventlog.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	at := log.Events[1].Offset
	dataSize := at + 12 + 2 + 20 + 2 + 32
	for name, c := range map[string]struct {
		at    int
		value uint32
	}{
		"no digest":                {at + 8, 0},
		"more digests than banks":  {at + 8, 3},
		"4294967295 digests":       {at + 8, 0xffffffff},
		"a bank that is not there": {at + 12, 0x0c},
		"the same bank twice":      {at + 12 + 2 + 20, 0x04},
		"a byte of data too many":  {dataSize, uint32(len(good))},
		"data of 2 GiB":            {dataSize, 0x7fffffff},
		"data that wraps":          {dataSize, 0xfffffff0},
	} {
		b := bytes.Clone(good)
		if c.at == at+12 || c.at == at+12+22 {
			binary.LittleEndian.PutUint16(b[c.at:], uint16(c.value))
		} else {
			binary.LittleEndian.PutUint32(b[c.at:], c.value)
		}
		got, err := eventlog.Parse(b)
		var syntax *eventlog.SyntaxError
		if !errors.As(err, &syntax) || len(got.Events) != 1 || syntax.Offset != at {
			t.Errorf("%s: %d events, %v", name, len(got.Events), err)
		}
	}
	for n := range len(good) {
		if got, err := eventlog.Parse(good[:n]); err == nil && len(got.Events) == 4 {
			t.Errorf("cut to %d of %d bytes it is whole", n, len(good))
		}
	}
}

func TestDiffNamesTheFirstDifference(t *testing.T) {
	before := build(t, launchEvents()...)
	text := func(e *eventlog.Event) string {
		if e == nil {
			return "-"
		}
		return string(e.Data)
	}
	for name, c := range map[string]struct {
		change func([]eventlog.Event) []eventlog.Event
		want   string
	}{
		"nothing": {func(e []eventlog.Event) []eventlog.Event { return e }, ""},
		"the initramfs changed": {func(e []eventlog.Event) []eventlog.Event {
			e[3].Digests = tpm.SumAll(twoBanks, []byte("evil"))
			return e
		}, "changed 17.2 initramfs initramfs"},
		"the command line and the kernel changed": {func(e []eventlog.Event) []eventlog.Event {
			e[1].Digests = tpm.SumAll(twoBanks, []byte("evil"))
			e[2].Digests = tpm.SumAll(twoBanks, []byte("evil"))
			return e
		}, "changed 17.1 kernel kernel; changed 18.0 command line command line"},
		"an event was added": {func(e []eventlog.Event) []eventlog.Event {
			return append(e, event(17, eventlog.Slaunch, "rootkit", twoBanks...))
		}, "added 17.3 - rootkit"},
		"an event was removed": {func(e []eventlog.Event) []eventlog.Event { return e[:3] }, "removed 17.2 initramfs -"},
		"two events changed places": {func(e []eventlog.Event) []eventlog.Event {
			e[1], e[3] = e[3], e[1]
			return e
		}, "moved 17.2 kernel kernel"},
		"text and type lie": {func(e []eventlog.Event) []eventlog.Event {
			e[3].Data, e[3].Type = []byte("anything"), eventlog.TbootMeasurement
			return e
		}, ""},
	} {
		var got []string
		for _, ch := range eventlog.Diff(before, build(t, c.change(launchEvents())...), tpm.PCRSet(17, 18)) {
			got = append(got, strings.Join([]string{ch.Kind.String(), at(ch), text(ch.Before), text(ch.After)}, " "))
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("%s: %q; want %q", name, strings.Join(got, "; "), c.want)
		}
	}
}

func at(c eventlog.Change) string {
	return string(rune('0'+c.PCR/10)) + string(rune('0'+c.PCR%10)) + "." + string(rune('0'+c.Index))
}

func TestPrintableHidesNothing(t *testing.T) {
	for in, want := range map[string]string{
		"quiet splash":       "quiet splash",
		"\x1b[2J\r\n":        `\x1b[2J\r\n`,
		"\u202egnp.exe \x00": `\u202egnp.exe \x00`,
		"\xff":               `\xff`,
	} {
		if got := eventlog.Printable([]byte(in)); got != want {
			t.Errorf("Printable(%q) = %s; want %s", in, got, want)
		}
	}
}

func hundred(t testing.TB) []byte {
	var events []eventlog.Event
	for i := range 100 {
		events = append(events, event(tpm.PCR(i%8), eventlog.EFIAction, strings.Repeat("x", 100+i), twoBanks...))
	}
	return bytesOf(t, build(t, events...))
}

func TestParseAndReplayAllocateLittle(t *testing.T) {
	b := hundred(t)
	n := testing.AllocsPerRun(20, func() {
		log, err := eventlog.Parse(b)
		if err != nil || len(log.Replay(false)) != 2 {
			t.Fatal(err)
		}
	})
	if n > 10 {
		t.Errorf("reading and replaying 100 events in two banks takes %v allocations", n)
	}
}

func BenchmarkParse(b *testing.B) {
	log := hundred(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(log)))
	for b.Loop() {
		if _, err := eventlog.Parse(log); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseAndReplay(b *testing.B) {
	raw := hundred(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		log, err := eventlog.Parse(raw)
		if err != nil {
			b.Fatal(err)
		}
		log.Replay(false)
	}
}

// The byte that says how long the vendor information is, is one that somebody else wrote.
func TestALoaderLogWhoseVendorInformationClaimsToBeShort(t *testing.T) {
	log, err := eventlog.New(eventlog.Header{Format: eventlog.SKL12, Algs: []tpm.Alg{tpm.SHA1}, Capacity: 0x400})
	if err != nil {
		t.Fatal(err)
	}
	b := bytesOf(t, log)
	container := bytes.Index(b, []byte("TXT Event Container"))
	b[container-1] = byte(len("TXT Event Container\x00"))
	short, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if short.Full() {
		t.Error("an empty log of 1024 bytes is full")
	}
}

// Whatever the bytes: no panic, what was read is written again as it stood, and a
// comparison never passes for a PCR that holds something else.
func FuzzParse(f *testing.F) {
	seeds := [][]byte{{}, hundred(f)}
	for _, h := range []eventlog.Header{
		{Format: eventlog.CryptoAgile, Algs: twoBanks, SKL: true, Address: 0x1000, Capacity: 0x400},
		{Format: eventlog.TXT12Container, Algs: []tpm.Alg{tpm.SHA1}, Capacity: 0x400},
		{Format: eventlog.SKL12, Algs: []tpm.Alg{tpm.SHA1}, Capacity: 0x400},
		{Format: eventlog.TXTPerAlg, Algs: []tpm.Alg{tpm.SHA384}},
		{Format: eventlog.TCG12, Algs: []tpm.Alg{tpm.SHA1}},
	} {
		log, err := eventlog.New(h)
		if err != nil {
			f.Fatal(err)
		}
		if err := log.Append(event(17, eventlog.Slaunch, "seed", h.Algs...)); err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, bytesOf(f, log))
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		log, err := eventlog.Parse(b)
		if (err != nil) != log.Truncated {
			t.Errorf("error %v, and truncated is %t", err, log.Truncated)
		}
		again, err := log.AppendTo(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("written again it differs, %v", err)
		}
		actual := tpm.Banks{{Alg: tpm.SHA256}}
		actual[0].Values[17] = bytes.Repeat([]byte{0x42}, 32)
		if log.Verify(actual, tpm.PCRSet(17), true).OK() {
			t.Error("a PCR with a value that no log leads to is verified")
		}
		log.Full()
		eventlog.Diff(log, log, 1<<tpm.NumPCRs-1)
	})
}

// An event that is measured in no bank of the TPM could be written into the log by
// anybody; the PCR would still match.
func TestAnEventThatNoBankProvesIsNoMatch(t *testing.T) {
	log, err := eventlog.New(eventlog.Header{Format: eventlog.CryptoAgile, Algs: twoBanks})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []eventlog.Event{event(17, eventlog.Slaunch, "measured", twoBanks...), event(17, eventlog.Slaunch, "in SHA-256 alone", tpm.SHA256)} {
		if err := log.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	both := log.Replay(true)
	if report := log.Verify(both, tpm.PCRSet(17), true); !report.OK() {
		t.Errorf("with both banks: %+v", report)
	}
	report := log.Verify(tpm.Banks{*both.Bank(tpm.SHA1)}, tpm.PCRSet(17), true)
	if len(report) != 1 || report[0].Verdict != eventlog.Incomplete {
		t.Errorf("with SHA-1 alone: %+v", report)
	}
}

// A known fault explains the value, and still no bank proves the event.
func TestAFaultDoesNotProveAnEventThatNoBankProves(t *testing.T) {
	log, err := eventlog.New(eventlog.Header{Format: eventlog.CryptoAgile, Algs: twoBanks})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Append(event(5, eventlog.IPL, "in SHA-256 alone", tpm.SHA256)); err != nil {
		t.Fatal(err)
	}
	sha1 := *log.Replay(false).Bank(tpm.SHA1)
	for _, text := range []string{"Exit Boot Services Invocation", "Exit Boot Services Returned with Success"} {
		if err := sha1.Extend(5, tpm.SHA1.Sum([]byte(text))); err != nil {
			t.Fatal(err)
		}
	}
	report := log.Verify(tpm.Banks{sha1}, tpm.PCRSet(5), false)
	if len(report) != 1 || report[0].Fault == nil || report[0].Verdict != eventlog.Incomplete {
		t.Errorf("%+v", report)
	}
}

// Older modules keep a log for each algorithm; together they are one.
func TestLogsOfOneAlgorithmAreJoined(t *testing.T) {
	one := func(a tpm.Alg, texts ...string) *eventlog.Log {
		log, err := eventlog.New(eventlog.Header{Format: eventlog.TXTPerAlg, Algs: []tpm.Alg{a}})
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			if err := log.Append(event(17, eventlog.Slaunch, text, a)); err != nil {
				t.Fatal(err)
			}
		}
		return log
	}
	joined, err := eventlog.Join([]*eventlog.Log{one(tpm.SHA1, "a", "b"), one(tpm.SHA256, "a", "b")})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range twoBanks {
		if got, want := joined.Replay(true).Value(a, 17), one(a, "a", "b").Replay(true).Value(a, 17); !got.Equal(want) {
			t.Errorf("%s: %s; want %s", a, got, want)
		}
	}
	for name, logs := range map[string][]*eventlog.Log{
		"none": nil, "another length": {one(tpm.SHA1, "a"), one(tpm.SHA256, "a", "b")},
		"another event": {one(tpm.SHA1, "a"), one(tpm.SHA256, "b")}, "the same bank": {one(tpm.SHA1, "a"), one(tpm.SHA1, "a")},
	} {
		if _, err := eventlog.Join(logs); !errors.Is(err, eventlog.ErrJoin) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A log whose own word of where it ends lies inside an event is malformed; what can
// be read is shown all the same.
func TestAnEndInsideAnEventIsReadOverAndReported(t *testing.T) {
	for _, h := range []eventlog.Header{
		{Format: eventlog.CryptoAgile, Algs: twoBanks, SKL: true, Address: 0x1000, Capacity: 0x400},
		{Format: eventlog.TXT12Container, Algs: []tpm.Alg{tpm.SHA1}, Capacity: 0x400},
	} {
		log, err := eventlog.New(h)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"one", "two"} {
			if err := log.Append(event(17, eventlog.Slaunch, text, h.Algs...)); err != nil {
				t.Fatal(err)
			}
		}
		good := bytesOf(t, log)
		at := bytes.Index(good, []byte("two"))
		for name, next := range map[string]uint32{"inside": uint32(at), "beyond": 0x500} {
			b := bytes.Clone(good)
			field := 44
			if h.SKL {
				field = bytes.Index(good, []byte("\x00\x10\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00")) + 16
			}
			binary.LittleEndian.PutUint32(b[field:], next)
			if h.SKL && name == "beyond" {
				binary.LittleEndian.PutUint32(b[field-8:], 0x500) // or it is not taken for SKL's
			}
			got, err := eventlog.Parse(b)
			var syntax *eventlog.SyntaxError
			if !errors.As(err, &syntax) || !got.Truncated || len(got.Events) != 2 {
				t.Errorf("%s, %s: %d events, %v", h.Format, name, len(got.Events), err)
			}
			if again, err := got.AppendTo(nil); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%s, %s: written again it differs, %v", h.Format, name, err)
			}
		}
	}
}

// Intel's agile log does not say how large its memory is; the TXT heap does.
func TestALogIsFullWhereATableSaysSo(t *testing.T) {
	log := firmware(t)
	for room, want := range map[int]bool{4096: false, 10: true} {
		log.SetRoom(room)
		if log.Full() != want {
			t.Errorf("with %d bytes left: full is %t", room, log.Full())
		}
	}
	log.SetRoom(0)
	actual := log.Replay(true)
	if err := actual.Bank(tpm.SHA256).Extend(17, tpm.SHA256.Sum([]byte("not logged"))); err != nil {
		t.Fatal(err)
	}
	for _, r := range log.Verify(actual, tpm.PCRSet(17), true) {
		if r.Alg == tpm.SHA256 && r.Verdict != eventlog.Incomplete {
			t.Errorf("a full log: %s", r.Verdict)
		}
	}
}
