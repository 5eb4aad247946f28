package cel_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/eventlog/cel"
	"github.com/antievilmaid/aem/tpm"
)

// Items written out by hand: the content's type and the content.
var cborVectors = map[string]struct {
	item    string
	content cel.Content
}{
	"firmware event": {"05 0a a2 00 08 01 44 aabbccdd", cel.PCClient{Type: eventlog.SCRTMVersion, Data: []byte{0xaa, 0xbb, 0xcc, 0xdd}}},
	"EFI event":      {"05 0a a2 00 1a 80000007 01 40", cel.PCClient{Type: eventlog.EFIAction}},
	"named event":    {"05 0a a2 00 6c 65765f6e6f5f616374696f6e 01 40", cel.PCClient{Type: eventlog.NoAction}},
	"IMA template":   {"07 0a a2 00 63 696d61 01 41 ff", cel.IMATemplate{Name: "ima", Data: []byte{0xff}}},
	"IMA TLV":        {"08 0a 42 1234", cel.IMATLV{Data: []byte{0x12, 0x34}}},
	"version":        {"04 0a a2 00 01 01 a2 00 01 01 00", cel.Management{{Type: cel.Version, Major: 1}}},
	"firmware end":   {"04 0a a1 00 02", cel.Management{{Type: cel.FirmwareEnd}}},
	"timestamp":      {"04 0a a2 00 1850 01 19 1234", cel.Management{{Type: cel.Timestamp, Value: 0x1234}}},
	"transition":     {"04 0a a2 00 1851 01 02", cel.Management{{Type: cel.StateTransition, Value: cel.Kexec}}},

	"systemd":       {"09 0a 43 616263", cel.Unknown{Type: 9, Encoding: cel.CBOR, Raw: []byte("\x43abc")}},
	"extension":     {"18c8 0a a2 00 f5 01 82 20 c1 fb 3ff199999999999a", cel.Unknown{Type: 200, Encoding: cel.CBOR, Raw: []byte("\xa2\x00\xf5\x01\x82\x20\xc1\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a")}},
	"other names":   {"05 0a a2 00 61 78 01 40", cel.Unknown{Type: 5, Encoding: cel.CBOR, Raw: []byte("\xa2\x00\x61x\x01\x40")}},
	"other notes":   {"04 0a a2 00 07 01 00", cel.Unknown{Type: 4, Encoding: cel.CBOR, Raw: []byte("\xa2\x00\x07\x01\x00")}},
	"notes past u8": {"04 0a a2 00 190102 01 00", cel.Unknown{Type: 4, Encoding: cel.CBOR, Raw: []byte("\xa2\x00\x19\x01\x02\x01\x00")}},
}

func TestCBORBytes(t *testing.T) {
	for name, v := range cborVectors {
		for index, r := range map[string]cel.Record{
			"01 00":          {PCR: 0},
			"02 1a 12341234": {NV: true, NVIndex: 0x12341234},
		} {
			r.Number, r.Content = 1234, v.content
			r.Digests = []tpm.TaggedDigest{{Alg: tpm.SHA1, Digest: unhex(t, someSHA1)}}
			want := unhex(t, "81 a5 00 19 04d2 "+index+" 03 81 a2 00 04 01 54"+someSHA1+"09"+v.item)
			back, err := cel.ReadCBOR(want)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if d := cmp.Diff([]cel.Record{r}, back, same); d != "" {
				t.Errorf("%s (-want +read):\n%s", name, d)
			}
			if got, err := cel.AppendCBOR(nil, back); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is written again as\n%x, %v; want\n%x", name, got, err, want)
			}
			if got, err := cel.AppendCBOR(nil, []cel.Record{r}); name != "named event" && (err != nil || !bytes.Equal(got, want)) {
				t.Errorf("%s is written as\n%x, %v; want\n%x", name, got, err, want)
			}
		}
	}
}

// A type that was changed is not written with the name that it had.
func TestCBORNamesGoWithTheirTypes(t *testing.T) {
	records, err := cel.ReadCBOR(unhex(t, "81 a5 00 00 01 00 03 80 09"+cborVectors["named event"].item))
	if err != nil {
		t.Fatal(err)
	}
	event := records[0].Content.(cel.PCClient)
	event.Type = eventlog.Separator
	records[0].Content = event
	b, err := cel.AppendCBOR(nil, records)
	if want := unhex(t, "81 a5 00 00 01 00 03 80 09 05 0a a2 00 04 01 40"); err != nil || !bytes.Equal(b, want) {
		t.Errorf("written as %x, %v; want %x", b, err, want)
	}
}

const (
	cborGood  = "a5 00 05 01 07 03 80 09 08 0a 41 aa"
	cborStart = "a5 00 05 01 07 03 80 09 " // 8 bytes
)

func TestMalformedCBOR(t *testing.T) {
	deep := strings.Repeat("81", 20) + "00"
	for name, test := range map[string]struct {
		bytes  string
		offset int // within the record
		reason string
	}{
		"nothing":                               {"", 0, "ends before the record"},
		"no map":                                {"85", 0, "CBOR type 4, not 5"},
		"four members":                          {"a4 00 00 01 00 03 80 09 08", 0, "has 4 items, not 5"},
		"a map without a length":                {"bf ff", 0, "no deterministic encoding"},
		"a reserved length":                     {"bc", 0, "no deterministic encoding"},
		"a long form of a map":                  {"b805", 0, "not in its shortest form"},
		"a long form of 23":                     {"a5 00 1817 0000", 2, "not in its shortest form"},
		"a long form of 255":                    {"a5 00 1900ff 00", 2, "not in its shortest form"},
		"a long form of 65535":                  {"a5 00 1a0000ffff", 2, "not in its shortest form"},
		"a long form of 2^32-1":                 {"a5 00 1b00000000ffffffff", 2, "not in its shortest form"},
		"a number cut off":                      {"a5 00 1a 000000", 2, "ends within"},
		"a negative number":                     {"a5 00 20 00 00 00", 2, "CBOR type 1, not 0"},
		"another first key":                     {"a5 01 00 00 00 00", 1, "key 1 in place of"},
		"another second key":                    {"a5 00 00 03 00 00", 3, "key 3 in place of"},
		"an index of 33 bits":                   {"a5 00 00 01 1b0000000100000000", 4, "more than"},
		"digests that are a number":             {"a5 00 00 01 00 03 00", 6, "CBOR type 0, not 4"},
		"a list of 2^63 digests":                {"a5 00 00 01 00 03 9b8000000000000000", 6, "claims 9223372036854775808 items"},
		"a digest of one member":                {"a5 00 00 01 00 03 81 a1 00 00 00", 7, "has 1 items, not 2"},
		"an algorithm of 17 bits":               {"a5 00 00 01 00 03 81 a2 00 1a00010000 00", 9, "more than"},
		"a digest that is text":                 {"a5 00 00 01 00 03 81 a2 00 1899 01 61 61", 12, "CBOR type 3, not 2"},
		"a short SHA-256":                       {"a5 00 00 01 00 03 81 a2 00 0b 01 41 00", 7, "has 1 bytes, not 32"},
		"two digests alike":                     {"a5 00 00 01 00 03 82 a2 00 1899 01 41 00 a2 00 1899 01 41 00", 14, "two digests"},
		"no content":                            {"a5 00 00 01 00 03 80 0a 00", 7, "key 10 in place of"},
		"an event of one member":                {cborStart + "05 0a a1 00 01", 10, "has 1 items, not 2"},
		"an event type of 33 bits":              {cborStart + "05 0a a2 00 1b0000000100000000 01 40", 12, "more than"},
		"an event type as bytes":                {cborStart + "05 0a a2 00 40 01 40", 12, "CBOR type 2, not 0"},
		"a type's name not in UTF-8":            {cborStart + "05 0a a2 00 61 ff 01 40", 12, "no UTF-8"},
		"event data that is text":               {cborStart + "05 0a a2 00 00 01 60", 14, "CBOR type 3, not 2"},
		"event data past the log":               {cborStart + "05 0a a2 00 00 01 42 00", 14, "claims 2 items, and 1 bytes are left"},
		"a template's name as bytes":            {cborStart + "07 0a a2 00 40 01 40", 12, "CBOR type 2, not 3"},
		"an IMA entry as text":                  {cborStart + "08 0a 60", 10, "CBOR type 3, not 2"},
		"an empty note before what is like one": {cborStart + "04 0a a0 00 1841", 10, "has 0 items"},
		"an end with data":                      {cborStart + "04 0a a2 00 02 01 00", 10, "firmware_end has 2 items"},
		"a timestamp without":                   {cborStart + "04 0a a1 00 1850", 10, "cel_timestamp has 1 items"},
		"a version of 17 bits":                  {cborStart + "04 0a a2 00 01 01 a2 00 1a00010000 01 00", 16, "more than"},
		"a transition of 33 bits":               {cborStart + "04 0a a2 00 1851 01 1b0000000100000000", 15, "more than"},
		"unknown content too deep":              {cborStart + "0b 0a" + deep, 27, "more than 16 items deep"},
		"unknown keys in disorder":              {cborStart + "0b 0a a2 01 00 00 00", 13, "do not ascend"},
		"an unknown key twice":                  {cborStart + "0b 0a a2 01 00 01 00", 13, "do not ascend"},
		"unknown text not in UTF-8":             {cborStart + "0b 0a 61 ff", 10, "no UTF-8"},
		"unknown simple value":                  {cborStart + "0b 0a f818", 10, "not in its shortest form"},
		"unknown content cut off":               {cborStart + "0b 0a 82 00", 10, "claims 2 items"},
		"a tag of nothing":                      {cborStart + "0b 0a c1", 11, "ends before the content"},
	} {
		good := unhex(t, "82"+cborGood)
		bad := append(bytes.Clone(good), unhex(t, test.bytes)...)
		records, err := cel.ReadCBOR(bad)
		wantSyntax(t, name, records, err, cel.CBOR, len(good)+test.offset, test.reason)
	}
	good := unhex(t, "81"+cborGood)
	records, err := cel.ReadCBOR(append(good, 0))
	wantSyntax(t, "bytes after the log", records, err, cel.CBOR, len(good), "1 bytes follow")
}

func TestNoCBORLog(t *testing.T) {
	for _, b := range []string{"", "\xa0", "\x9f\xff", "\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "\x00"} {
		if records, err := cel.ReadCBOR([]byte(b)); err == nil || len(records) != 0 {
			t.Errorf("%x is read as %v, %v", b, records, err)
		}
	}
}
