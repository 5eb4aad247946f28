package cel_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/eventlog/cel"
	"github.com/antievilmaid/aem/tpm"
)

var twoBanks = []tpm.Alg{tpm.SHA1, tpm.SHA256}

// same compares values without the widths that TLV's numbers had.
var same = cmp.Options{
	cmpopts.IgnoreUnexported(cel.Record{}, cel.PCClient{}, cel.ManagementEvent{}),
	cmpopts.EquateEmpty(),
}

// codec is an encoding's reader and writer.
type codec struct {
	name  string
	read  func([]byte) ([]cel.Record, error)
	write func([]cel.Record) ([]byte, error)
}

var codecs = []codec{
	{"TLV", cel.ReadTLV, func(r []cel.Record) ([]byte, error) { return cel.AppendTLV(nil, r) }},
	{"CBOR", cel.ReadCBOR, func(r []cel.Record) ([]byte, error) { return cel.AppendCBOR(nil, r) }},
	{"JSON", cel.ReadJSON, func(r []cel.Record) ([]byte, error) {
		var b bytes.Buffer
		err := cel.WriteJSON(&b, r)
		return b.Bytes(), err
	}},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func digests(text string, algs ...tpm.Alg) []tpm.TaggedDigest {
	return tpm.SumAll(algs, []byte(text))
}

// everyKind has a record of each kind of content that all encodings can hold.
func everyKind() []cel.Record {
	sm3 := tpm.TaggedDigest{Alg: tpm.SM3, Digest: bytes.Repeat([]byte{7}, 32)}
	other := tpm.TaggedDigest{Alg: 0x99, Digest: []byte{1, 2, 3}}
	return []cel.Record{
		{Number: 0, PCR: 0, Digests: digests("a", tpm.SHA1), Content: cel.PCClient{Type: eventlog.NoAction, Data: []byte("a")}},
		{Number: 1, PCR: 0, Digests: digests("b", twoBanks...), Content: cel.PCClient{Type: eventlog.SCRTMVersion, Data: []byte("b")}},
		{Number: 300, PCR: 17, Digests: digests("c", twoBanks...), Content: cel.PCClient{Type: eventlog.Slaunch}},
		{Number: 1 << 40, PCR: 0xffffffff, Digests: digests("d", tpm.SHA384), Content: cel.PCClient{Type: 0x800000e2, Data: make([]byte, 70000)}},
		{NV: true, NVIndex: 0x01400001, Digests: []tpm.TaggedDigest{sm3, other}, Content: cel.PCClient{Type: eventlog.EFIAction, Data: []byte{0}}},
		{PCR: 10, Digests: digests("e", twoBanks...), Content: cel.IMATemplate{Name: "ima-ng", Data: []byte{1, 2, 3}}},
		{PCR: 10, Digests: digests("f", tpm.SHA256), Content: cel.IMATLV{Data: []byte{0, 0, 0, 0, 1, 'x'}}},
		{PCR: 1, Digests: nil, Content: cel.Management{{Type: cel.Version, Major: 1, Minor: 300}}},
		{PCR: 1, Digests: digests("g", tpm.SHA1), Content: cel.Management{{Type: cel.FirmwareEnd}}},
		{PCR: 1, Digests: digests("h", tpm.SHA1), Content: cel.Management{{Type: cel.Timestamp, Value: 1234567890123}}},
		{PCR: 1, Digests: digests("i", tpm.SHA1), Content: cel.Management{{Type: cel.StateTransition, Value: cel.Kexec}}},
		{PCR: 1, Digests: digests("j", tpm.SHA1), Content: cel.Management{{Type: cel.StateTransition, Value: 77}}},
	}
}

func TestEachKindIsReadAsItWasWritten(t *testing.T) {
	for _, c := range codecs {
		b, err := c.write(everyKind())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got, err := c.read(b)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if d := cmp.Diff(everyKind(), got, same); d != "" {
			t.Errorf("%s (-written +read):\n%s", c.name, d)
		}
	}
}

func TestWriteBehindWhatIsThere(t *testing.T) {
	records := everyKind()[:2]
	for name, f := range map[string]func([]byte, []cel.Record) ([]byte, error){"TLV": cel.AppendTLV, "CBOR": cel.AppendCBOR} {
		alone, err := f(nil, records)
		if err != nil {
			t.Fatal(err)
		}
		behind, err := f([]byte("xyz"), records)
		if err != nil || !bytes.Equal(behind, append([]byte("xyz"), alone...)) {
			t.Errorf("%s: behind other bytes it is %x, %v; want xyz and %x", name, behind, err, alone)
		}
	}
}

func TestALogWithoutRecords(t *testing.T) {
	for _, c := range codecs {
		b, err := c.write(nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got, err := c.read(b); err != nil || len(got) != 0 {
			t.Errorf("%s: %q is read as %v, %v", c.name, b, got, err)
		}
	}
}

// What each encoding can't hold is refused, never bent.
func TestWritersRefuse(t *testing.T) {
	ok := everyKind()[1]
	with := func(change func(*cel.Record)) []cel.Record {
		r := ok
		change(&r)
		return []cel.Record{ok, r}
	}
	for name, test := range map[string]struct {
		records []cel.Record
		codecs  string
	}{
		"an algorithm of 16 bits": {with(func(r *cel.Record) {
			r.Digests = []tpm.TaggedDigest{{Alg: 0x10b, Digest: make([]byte, 32)}}
		}), "TLV"},
		"a digest too short": {with(func(r *cel.Record) {
			r.Digests = []tpm.TaggedDigest{{Alg: tpm.SHA256, Digest: make([]byte, 20)}}
		}), "TLV CBOR JSON"},
		"an empty digest":   {with(func(r *cel.Record) { r.Digests = []tpm.TaggedDigest{{Alg: 0x99}} }), "TLV CBOR JSON"},
		"two digests alike": {with(func(r *cel.Record) { r.Digests = digests("x", tpm.SHA1, tpm.SHA1) }), "TLV CBOR JSON"},
		"17 digests": {with(func(r *cel.Record) {
			r.Digests = nil
			for i := range 17 {
				r.Digests = append(r.Digests, tpm.TaggedDigest{Alg: tpm.Alg(0x80 + i), Digest: []byte{1}})
			}
		}), "TLV CBOR JSON"},
		"no content":          {with(func(r *cel.Record) { r.Content = nil }), "TLV CBOR JSON"},
		"no management event": {with(func(r *cel.Record) { r.Content = cel.Management{} }), "TLV CBOR JSON"},
		"257 management events": {with(func(r *cel.Record) {
			r.Content = cel.Management(slices.Repeat([]cel.ManagementEvent{{Type: cel.FirmwareEnd}}, 257))
		}), "TLV CBOR JSON"},
		"two management events":                  {with(func(r *cel.Record) { r.Content = cel.Management{{Type: cel.FirmwareEnd}, {Type: cel.Version}} }), "CBOR"},
		"a management event that does not exist": {with(func(r *cel.Record) { r.Content = cel.Management{{Type: 9}} }), "TLV CBOR JSON"},
		"a transition of 33 bits": {with(func(r *cel.Record) {
			r.Content = cel.Management{{Type: cel.StateTransition, Value: 1 << 32}}
		}), "TLV CBOR JSON"},
		"a name that is no text": {with(func(r *cel.Record) { r.Content = cel.IMATemplate{Name: "\xff"} }), "CBOR JSON"},
		"unknown content of TLV": {with(func(r *cel.Record) { r.Content = cel.Unknown{Type: 9, Encoding: cel.TLV, Raw: []byte{1}} }), "CBOR JSON"},
		"unknown content of CBOR": {with(func(r *cel.Record) {
			r.Content = cel.Unknown{Type: 200, Encoding: cel.CBOR, Raw: []byte{1}}
		}), "TLV JSON"},
		"unknown content of JSON": {with(func(r *cel.Record) {
			r.Content = cel.Unknown{Name: "systemd", Encoding: cel.JSON, Raw: []byte("{}")}
		}), "TLV CBOR"},
		"unknown content that is no JSON": {with(func(r *cel.Record) {
			r.Content = cel.Unknown{Name: "systemd", Encoding: cel.JSON, Raw: []byte("{")}
		}), "TLV CBOR JSON"},
		"a tag that TLV gives to a field": {with(func(r *cel.Record) { r.Content = cel.Unknown{Type: 3, Encoding: cel.TLV} }), "TLV CBOR JSON"},
		"a tag of nine bits":              {with(func(r *cel.Record) { r.Content = cel.Unknown{Type: 256, Encoding: cel.TLV} }), "TLV CBOR JSON"},
	} {
		for _, c := range codecs {
			_, err := c.write(test.records)
			if refused := strings.Contains(test.codecs, c.name); (err != nil) != refused {
				t.Errorf("%s in %s: error %v; want one: %t", name, c.name, err, refused)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "record 1: ") {
				t.Errorf("%s in %s: %q does not name record 1", name, c.name, err)
			}
		}
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errBroken }

var errBroken = errors.New("broken")

func TestWriteJSONReportsTheWritersError(t *testing.T) {
	for _, records := range [][]cel.Record{nil, everyKind()} {
		if err := cel.WriteJSON(brokenPipe{}, records); !errors.Is(err, errBroken) {
			t.Errorf("%d records: error %v", len(records), err)
		}
	}
}

func TestExtended(t *testing.T) {
	for want, list := range map[bool][]cel.Content{
		true: {
			cel.PCClient{Type: eventlog.IPL}, cel.IMATemplate{}, cel.IMATLV{}, cel.Unknown{},
			cel.Management{{Type: cel.Timestamp}}, cel.Management{{Type: cel.Version}, {Type: cel.StateTransition}},
		},
		false: {cel.PCClient{Type: eventlog.NoAction}, cel.Management{{Type: cel.Version}}, cel.Management{{Type: cel.FirmwareEnd}}},
	} {
		for _, c := range list {
			if r := (cel.Record{Content: c}); r.Extended() != want {
				t.Errorf("a record with %T %v is extended: %t; want %t", c, c, !want, want)
			}
		}
	}
}

// What a log claims of itself costs nothing, and what it has a bounded multiple.
func TestReadersNeedLittleMemory(t *testing.T) {
	smallest := unhex(t, "a500000100038009"+"0b0a00")
	many := append([]byte{0x99, 0x10, 0x00}, bytes.Repeat(smallest, 0x1000)...)
	for name, test := range map[string]struct {
		log  []byte
		read func([]byte) ([]cel.Record, error)
	}{
		"a TLV length":           {unhex(t, "00 fffffff0 00"), cel.ReadTLV},
		"a CBOR log":             {unhex(t, "9b 0000000fffffffff 00"), cel.ReadCBOR},
		"a CBOR list":            {unhex(t, "81 a5 00 00 01 00 03 9a 7fffffff 00"), cel.ReadCBOR},
		"a CBOR string":          {unhex(t, "81 a5 00 00 01 00 03 80 09 08 0a 5a 7fffffff 00"), cel.ReadCBOR},
		"the smallest records":   {many, cel.ReadCBOR},
		"a CBOR log of nothing":  {append(unhex(t, "9a 00010000"), make([]byte, 1<<16)...), cel.ReadCBOR},
		"a list of small things": {[]byte(`[{"recnum":0,"pcr":0,"digests":[` + strings.Repeat("0,", 1<<16) + `0]}]`), cel.ReadJSON},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := test.read(test.log)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 1<<16+64*uint64(len(test.log)) {
			t.Errorf("%s: reading %d bytes allocates %d, error %v", name, len(test.log), used, err)
		}
	}
}
