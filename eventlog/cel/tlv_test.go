package cel_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/eventlog/cel"
	"github.com/antievilmaid/aem/tpm"
)

const someSHA1 = "0102030405060708091011121314151617181920"

// Byte tables, written out by hand.
var tlvVectors = map[string]struct {
	bytes   string
	content cel.Content
}{
	"firmware event": {"05 0000000f  00 00000001 08  01 00000004 aabbccdd", cel.PCClient{Type: eventlog.SCRTMVersion, Data: []byte{0xaa, 0xbb, 0xcc, 0xdd}}},
	"IMA template":   {"07 0000000e  00 00000003 696d61  01 00000001 ff", cel.IMATemplate{Name: "ima", Data: []byte{0xff}}},
	"IMA TLV":        {"08 00000002 1234", cel.IMATLV{Data: []byte{0x12, 0x34}}},
	"version":        {"04 00000011  01 0000000c  00 00000001 01  01 00000001 00", cel.Management{{Type: cel.Version, Major: 1}}},
	"the others": {"04 00000012  02 00000000  50 00000002 1234  51 00000001 02", cel.Management{
		{Type: cel.FirmwareEnd}, {Type: cel.Timestamp, Value: 0x1234}, {Type: cel.StateTransition, Value: cel.Kexec},
	}},
	"systemd":            {"09 00000003 616263", cel.Unknown{Type: 9, Encoding: cel.TLV, Raw: []byte("abc")}},
	"another management": {"04 00000006  07 00000001 00", cel.Unknown{Type: 4, Encoding: cel.TLV, Raw: []byte{7, 0, 0, 0, 1, 0}}},
}

func TestTLVBytes(t *testing.T) {
	for name, v := range tlvVectors {
		for index, r := range map[string]cel.Record{
			"01 00000001 00":       {PCR: 0},
			"02 00000004 12341234": {NV: true, NVIndex: 0x12341234},
		} {
			r.Number, r.Content = 1234, v.content
			r.Digests = []tpm.TaggedDigest{{Alg: tpm.SHA1, Digest: unhex(t, someSHA1)}}
			want := unhex(t, "00 00000002 04d2 "+index+" 03 00000019 04 00000014"+someSHA1+v.bytes)
			got, err := cel.AppendTLV(nil, []cel.Record{r})
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is written as\n%x, %v; want\n%x", name, got, err, want)
			}
			back, err := cel.ReadTLV(want)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if d := cmp.Diff([]cel.Record{r}, back, same); d != "" {
				t.Errorf("%s (-want +read):\n%s", name, d)
			}
		}
	}
}

// Writers give numbers four bytes, or eight and one, or as few as they need. Each
// keeps its own.
func TestTLVNumbersKeepTheirWidth(t *testing.T) {
	for _, s := range []string{
		"00 00000004 00000002  01 00000004 00000011  03 00000000  05 0000000e  00 00000004 00000502  01 00000000",
		"00 00000008 0000000000000002  01 00000001 11  03 00000000  05 0000000c  00 00000002 0502  01 00000000",
		"00 00000001 02  01 00000008 0000000000000011  03 00000000  05 0000000d  00 00000003 000502  01 00000000",
	} {
		b := unhex(t, s)
		records, err := cel.ReadTLV(b)
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		want := []cel.Record{{Number: 2, PCR: 17, Content: cel.PCClient{Type: eventlog.Slaunch}}}
		if d := cmp.Diff(want, records, same); d != "" {
			t.Errorf("%s (-want +read):\n%s", s, d)
		}
		if again, err := cel.AppendTLV(nil, records); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s is written again as %x, %v", s, again, err)
		}
	}
}

func TestTLVManagementKeepsItsWidths(t *testing.T) {
	b := unhex(t, "00 00000001 00  01 00000001 00  03 00000000  04 0000002d"+
		"01 0000000d  00 00000002 0001  01 00000001 02"+
		"50 00000008 0000000000000009  51 00000004 00000001  02 00000000")
	records, err := cel.ReadTLV(b)
	if err != nil {
		t.Fatal(err)
	}
	want := cel.Management{{Type: cel.Version, Major: 1, Minor: 2}, {Type: cel.Timestamp, Value: 9}, {Type: cel.StateTransition, Value: 1}, {Type: cel.FirmwareEnd}}
	if d := cmp.Diff(cel.Content(want), records[0].Content, same); d != "" {
		t.Errorf("(-want +read):\n%s", d)
	}
	if again, err := cel.AppendTLV(nil, records); err != nil || !bytes.Equal(again, b) {
		t.Errorf("written again as %x, %v; want %x", again, err, b)
	}
}

// A number that was made larger gets the bytes that it needs.
func TestTLVChangedNumbersFit(t *testing.T) {
	records, err := cel.ReadTLV(unhex(t, "00 00000002 0001  01 00000001 00  03 00000000  08 00000000"))
	if err != nil {
		t.Fatal(err)
	}
	records[0].Number = 0x123456
	b, err := cel.AppendTLV(nil, records)
	if want := unhex(t, "00 00000003 123456  01 00000001 00  03 00000000  08 00000000"); err != nil || !bytes.Equal(b, want) {
		t.Errorf("written as %x, %v; want %x", b, err, want)
	}
}

const (
	tlvGood  = "00 00000001 05  01 00000001 07  03 00000000  08 00000001 aa"
	tlvStart = "00 00000001 05  01 00000001 07  03 00000000  " // 17 bytes
)

// Where a log is malformed, the error names the field and the record, and what
// stands before the record is there.
func TestMalformedTLV(t *testing.T) {
	for name, test := range map[string]struct {
		bytes  string
		offset int // within the record
		reason string
	}{
		"no whole header":          {"00 000000", 0, "4 bytes are left"},
		"a value too long":         {"00 00000009 00", 0, "claims 9 bytes"},
		"the largest length":       {"00 ffffffff 00", 0, "claims 4294967295 bytes"},
		"no number":                {"01 00000001 00", 0, "in place of the record's number"},
		"a number of no bytes":     {"00 00000000", 5, "0 bytes"},
		"a number of nine bytes":   {"00 00000009 000000000000000001", 5, "9 bytes"},
		"no index":                 {"00 00000001 00  03 00000001 00", 6, "in place of the PCR or NV index"},
		"a register of CC":         {"00 00000001 00  6c 00000001 00", 6, "in place of the PCR or NV index"},
		"an index of 33 bits":      {"00 00000001 00  01 00000005 0100000000", 11, "more than"},
		"no digests":               {"00 00000001 00  01 00000001 00  05 00000000", 12, "in place of the list of digests"},
		"a digest past the list":   {"00 00000001 00  01 00000001 00  03 00000006 99 00000002 0000 00", 17, "claims 2 bytes, and 1 are left"},
		"rest in the list":         {"00 00000001 00  01 00000001 00  03 00000002 9900", 17, "2 bytes are left"},
		"a short SHA-256":          {"00 00000001 00  01 00000001 00  03 00000006 0b 00000001 00", 17, "has 1 bytes, not 32"},
		"two digests alike":        {"00 00000001 00  01 00000001 00  03 0000000c 99 00000001 00 99 00000001 00", 23, "two digests"},
		"an empty digest":          {"00 00000001 00  01 00000001 00  03 00000005 99 00000000", 17, "has 0 bytes"},
		"no content":               {tlvStart, 17, "0 bytes are left, too few for the content"},
		"a field for a content":    {tlvStart + "03 00000000", 17, "in place of the content"},
		"a content too long":       {tlvStart + "08 00000002 00", 17, "claims 2 bytes"},
		"no event type":            {tlvStart + "05 00000005 01 00000000", 22, "in place of the event's type"},
		"an event type of 33 bits": {tlvStart + "05 0000000f 00 00000005 0100000000 01 00000000", 27, "more than"},
		"no event data":            {tlvStart + "05 00000006 00 00000001 00", 28, "0 bytes are left"},
		"data past the event":      {tlvStart + "05 0000000b 00 00000001 00 01 00000001 00", 28, "claims 1 bytes"},
		"rest in the event":        {tlvStart + "05 0000000c 00 00000001 00 01 00000000 00", 33, "1 bytes are left over"},
		"data before the type":     {tlvStart + "05 0000000b 01 00000000 00 00000001 00", 22, "in place of the event's type"},
		"no template data":         {tlvStart + "07 00000005 00 00000000", 27, "0 bytes are left"},
		"no management":            {tlvStart + "04 00000000", 22, "no management event"},
		"257 management events":    {tlvStart + "04 00000505" + strings.Repeat("02 00000000", 257), 22 + 256*5, "more than 256"},
		"management cut off":       {tlvStart + "04 00000003 020000", 22, "3 bytes are left"},
		"an end with data":         {tlvStart + "04 00000006 02 00000001 00", 27, "1 bytes are left over"},
		"no minor version":         {tlvStart + "04 0000000b 01 00000006 00 00000001 01", 33, "0 bytes are left"},
		"a version of 17 bits":     {tlvStart + "04 00000013 01 0000000e 00 00000003 010000 01 00000001 00", 32, "more than"},
		"rest behind the version":  {tlvStart + "04 00000012 01 0000000d 00 00000001 01 01 00000001 00 00", 39, "1 bytes are left over"},
	} {
		good := unhex(t, tlvGood)
		bad := append(bytes.Clone(good), unhex(t, test.bytes)...)
		records, err := cel.ReadTLV(bad)
		wantSyntax(t, name, records, err, cel.TLV, len(good)+test.offset, test.reason)
	}
}

// wantSyntax asks for one good record and an error at an offset in the next.
func wantSyntax(t *testing.T, name string, records []cel.Record, err error, e cel.Encoding, offset int, reason string) {
	t.Helper()
	var syntax *cel.SyntaxError
	if !errors.As(err, &syntax) {
		t.Errorf("%s: error %v, and %d records", name, err, len(records))
		return
	}
	if syntax.Encoding != e || syntax.Record != 1 || syntax.Offset != offset || !strings.Contains(syntax.Reason, reason) {
		t.Errorf("%s: %v; want record 1, offset %d and %q", name, syntax, offset, reason)
	}
	if len(records) != 1 || records[0].Number != 5 || records[0].PCR != 7 {
		t.Errorf("%s: the good record before it is %v", name, records)
	}
}

func TestSyntaxErrorSaysWhere(t *testing.T) {
	_, err := cel.ReadTLV(unhex(t, tlvGood+"01 00000000"))
	want := "canonical event log in TLV: record 1, offset 23: there is a field 1 in place of the record's number, which is field 0"
	if err == nil || err.Error() != want {
		t.Errorf("the error is %v; want %s", err, want)
	}
}
