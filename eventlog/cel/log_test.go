package cel_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/eventlog/cel"
	"github.com/antievilmaid/aem/internal/corpus"
	"github.com/antievilmaid/aem/tpm"
)

func event(p tpm.PCR, t eventlog.Type, text string, algs ...tpm.Alg) eventlog.Event {
	return eventlog.Event{PCR: p, Type: t, Digests: digests(text, algs...), Data: []byte(text)}
}

// headers is one for each format that a log can have.
func headers() []eventlog.Header {
	return []eventlog.Header{
		{Format: eventlog.CryptoAgile, Algs: twoBanks, Uintn: 2},
		{Format: eventlog.CryptoAgile, Algs: []tpm.Alg{tpm.SHA256, tpm.SM3}},
		{Format: eventlog.CryptoAgile, Algs: twoBanks, SKL: true, Address: 0x1000, Capacity: 0x400},
		{Format: eventlog.TCG12, Algs: []tpm.Alg{tpm.SHA1}},
		{Format: eventlog.TXT12Container, Algs: []tpm.Alg{tpm.SHA1}, Capacity: 0x400},
		{Format: eventlog.SKL12, Algs: []tpm.Alg{tpm.SHA1}, Capacity: 0x400},
		{Format: eventlog.TXTPerAlg, Algs: []tpm.Alg{tpm.SHA384}},
	}
}

// made is a log with some events that set PCRs and some that don't.
func made(t testing.TB, h eventlog.Header) *eventlog.Log {
	t.Helper()
	log, err := eventlog.New(h)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []eventlog.Event{
		event(0, eventlog.NoAction, "StartupLocality\x00\x03", h.Algs...),
		event(0, eventlog.SCRTMVersion, "firmware", h.Algs...),
		event(17, eventlog.SlaunchStart, "start", h.Algs...),
		event(17, eventlog.Slaunch, "kernel", h.Algs...),
		event(255, eventlog.Slaunch, "nowhere", h.Algs...),
		event(17, eventlog.Slaunch, "\x00\x00", h.Algs...),
	} {
		if err := log.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	return log
}

// wantReplay sends a log through every encoding and asks for the same PCRs.
func wantReplay(t *testing.T, name string, log *eventlog.Log) {
	t.Helper()
	for _, c := range codecs {
		b, err := c.write(cel.FromLog(log))
		if err != nil {
			t.Errorf("%s in %s: %v", name, c.name, err)
			continue
		}
		records, err := c.read(b)
		if err != nil {
			t.Errorf("%s in %s: %v", name, c.name, err)
		}
		back, err := cel.ToLog(records)
		if err != nil {
			t.Errorf("%s in %s: %v", name, c.name, err)
			continue
		}
		for _, launched := range []bool{false, true} {
			if d := cmp.Diff(log.Replay(launched), back.Replay(launched)); d != "" {
				t.Errorf("%s in %s, launched %t, replays otherwise (-log +records):\n%s", name, c.name, launched, d)
			}
		}
		if back.Format != eventlog.CryptoAgile || back.Truncated || len(back.Events) != len(log.Events) {
			t.Errorf("%s in %s becomes a log of format %s with %d events, not %d", name, c.name, back.Format, len(back.Events), len(log.Events))
		}
		for i, e := range back.Events {
			e.Offset = log.Events[i].Offset
			if d := cmp.Diff(log.Events[i], e); d != "" {
				t.Errorf("%s in %s: event %d differs (-log +records):\n%s", name, c.name, i, d)
				break
			}
		}
	}
}

func TestLogsReplayAlikeThroughEveryEncoding(t *testing.T) {
	for _, h := range headers() {
		wantReplay(t, h.Format.String(), made(t, h))
	}
}

// The Spec ID event declares banks that no event has a digest in.
func TestBanksWithoutDigestsStay(t *testing.T) {
	log, err := eventlog.New(eventlog.Header{Format: eventlog.CryptoAgile, Algs: twoBanks})
	if err != nil {
		t.Fatal(err)
	}
	wantReplay(t, "a log without events", log)
	if err := log.Append(event(4, eventlog.Separator, "x", tpm.SHA256)); err != nil {
		t.Fatal(err)
	}
	wantReplay(t, "a log that lacks SHA-1 digests", log)
}

func TestTheCorpusReplaysAlikeThroughEveryEncoding(t *testing.T) {
	replayed := 0
	for _, name := range corpus.Files(t, "srtm", "drtm", "drtm-reconstructed", "drtm-synthetic") {
		// Logs that can't be read to their end count too, as far as they go.
		log, _ := eventlog.Parse(corpus.Read(t, name))
		if len(log.Events) == 0 {
			continue
		}
		wantReplay(t, name, log)
		replayed++
	}
	if replayed < 40 {
		t.Errorf("only %d logs of the corpus have events", replayed)
	}
}

func TestFromLogNumbersEachPCRAndKeepsTheSpecID(t *testing.T) {
	log := made(t, headers()[0])
	records := cel.FromLog(log)
	type place struct {
		PCR    tpm.PCR
		Number uint64
	}
	var got []place
	for _, r := range records {
		got = append(got, place{r.PCR, r.Number})
	}
	if d := cmp.Diff([]place{{0, 0}, {0, 1}, {0, 2}, {17, 0}, {17, 1}, {255, 0}, {17, 2}}, got); d != "" {
		t.Errorf("numbers (-want +got):\n%s", d)
	}
	b, err := log.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := cel.PCClient{Type: eventlog.NoAction, Data: b[32 : 32+int(b[28])]}
	if d := cmp.Diff(cel.Content(want), records[0].Content, same); d != "" {
		t.Errorf("the first record (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]tpm.TaggedDigest{{Alg: tpm.SHA1, Digest: make([]byte, 20)}}, records[0].Digests); d != "" {
		t.Errorf("its digests (-want +got):\n%s", d)
	}
}

func TestFromLogOfAHalfReadLog(t *testing.T) {
	b, err := made(t, headers()[0]).AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(b) {
		log, _ := eventlog.Parse(b[:n])
		records := cel.FromLog(log)
		if len(records) != 0 && len(records) != len(log.Events) && len(records) != len(log.Events)+1 {
			t.Errorf("of %d bytes, %d events become %d records", n, len(log.Events), len(records))
		}
	}
}

// What was extended is replayed, whatever kind it is; notes about the log are not.
func TestOtherKindsReplay(t *testing.T) {
	list := digests("entry", tpm.SHA256)
	ima := cel.IMATemplate{Name: "ima-ng", Data: []byte("entry")}
	records := []cel.Record{
		{PCR: 10, Content: cel.Management{{Type: cel.Version, Major: 1}}},
		{PCR: 10, Digests: digests("never", tpm.SHA256), Content: cel.Management{{Type: cel.FirmwareEnd}}},
		{PCR: 10, Digests: list, Content: ima},
		{PCR: 11, Digests: list, Content: cel.Unknown{Type: 9, Encoding: cel.TLV, Raw: []byte("phase")}},
		{PCR: 12, Digests: list, Content: cel.Management{{Type: cel.StateTransition, Value: cel.Kexec}}},
	}
	log, err := cel.ToLog(records)
	if err != nil {
		t.Fatal(err)
	}
	want := tpm.SHA256.Sum(make([]byte, 32), list[0].Digest)
	banks := log.Replay(false)
	for p := tpm.PCR(10); p <= 12; p++ {
		if got := banks.Value(tpm.SHA256, p); !got.Equal(want) {
			t.Errorf("PCR %d replays to %s; want %s", p, got, want)
		}
	}
	wantData := [][]byte{
		unhex(t, "04 43454c 11000000 01 0000000c 00 00000001 01 01 00000001 00"),
		unhex(t, "04 43454c 05000000 02 00000000"),
		unhex(t, "07 43454c 15000000 00 00000006 696d612d6e67 01 00000005 656e747279"),
		unhex(t, "09 43454c 05000000 7068617365"),
		unhex(t, "04 43454c 06000000 51 00000001 02"),
	}
	for i, e := range log.Events {
		if kind := e.Type == eventlog.EventTag; kind != records[i].Extended() || !bytes.Equal(e.Data, wantData[i]) {
			t.Errorf("event %d is %s with %x; want %x", i, e.Type, e.Data, wantData[i])
		}
	}
}

func TestToLogRefuses(t *testing.T) {
	ok := cel.Record{PCR: 1, Digests: digests("x", tpm.SHA1), Content: cel.PCClient{Type: eventlog.Action}}
	spec := cel.FromLog(made(t, headers()[0]))[0]
	bad := func(change func(*cel.Record)) cel.Record {
		r := ok
		change(&r)
		return r
	}
	for name, test := range map[string]struct {
		records []cel.Record
		is      error
	}{
		"no records":                   {nil, cel.ErrNoBanks},
		"no digests at all":            {[]cel.Record{{Content: cel.Management{{Type: cel.FirmwareEnd}}}}, cel.ErrNoBanks},
		"an NV index":                  {[]cel.Record{ok, bad(func(r *cel.Record) { r.NV = true })}, cel.ErrNV},
		"no content":                   {[]cel.Record{ok, bad(func(r *cel.Record) { r.Content = nil })}, nil},
		"an extension without digests": {[]cel.Record{ok, bad(func(r *cel.Record) { r.Digests = nil })}, nil},
		"two digests alike":            {[]cel.Record{ok, bad(func(r *cel.Record) { r.Digests = digests("x", tpm.SHA1, tpm.SHA1) })}, nil},
		"a bank that is not declared":  {[]cel.Record{spec, bad(func(r *cel.Record) { r.Digests = digests("x", tpm.SHA384) })}, nil},
		"two lengths of an algorithm": {[]cel.Record{
			bad(func(r *cel.Record) { r.Digests = []tpm.TaggedDigest{{Alg: 0x99, Digest: []byte{1}}} }),
			bad(func(r *cel.Record) { r.Digests = []tpm.TaggedDigest{{Alg: 0x99, Digest: []byte{1, 2}}} }),
		}, nil},
		// Read as one byte, it would go on with a length that covers the rest.
		"a digest that hides a length": {[]cel.Record{
			bad(func(r *cel.Record) { r.Digests = []tpm.TaggedDigest{{Alg: 0x99, Digest: []byte{1}}} }),
			bad(func(r *cel.Record) {
				r.Digests = []tpm.TaggedDigest{{Alg: 0x99, Digest: []byte{1, 4, 0, 0, 0}}}
			}),
		}, nil},
		"a digest longer than a bank can declare": {[]cel.Record{ok,
			bad(func(r *cel.Record) { r.Digests = []tpm.TaggedDigest{{Alg: tpm.SHA1, Digest: make([]byte, 1<<16+20)}} }),
		}, nil},
		"17 banks": {func() (l []cel.Record) {
			for i := range 17 {
				l = append(l, bad(func(r *cel.Record) { r.Digests = []tpm.TaggedDigest{{Alg: tpm.Alg(0x80 + i), Digest: []byte{1}}} }))
			}
			return l
		}(), nil},
	} {
		log, err := cel.ToLog(test.records)
		if err == nil || log != nil || test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("%s: %v, error %v; want %v", name, log, err, test.is)
		}
	}
}

// A Spec ID event's word on how much of its memory is used would hide what stands
// behind that from the reader of the log.
func TestASpecIDEventHidesNoRecords(t *testing.T) {
	records := cel.FromLog(made(t, headers()[2]))
	more := append(records, cel.Record{PCR: 18, Digests: digests("more", twoBanks...), Content: cel.PCClient{Type: eventlog.Slaunch}})
	log, err := cel.ToLog(more)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(log.Events); n != len(more)-1 || log.Events[n-1].PCR != 18 {
		t.Errorf("%d records become %d events", len(more), n)
	}
}
