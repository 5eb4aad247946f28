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

func TestJSONText(t *testing.T) {
	records := []cel.Record{
		{Number: 12, PCR: 9, Digests: []tpm.TaggedDigest{
			{Alg: tpm.SHA1, Digest: bytes.Repeat([]byte{0xaa}, 20)}, {Alg: 0x99, Digest: []byte{1}},
		}, Content: cel.PCClient{Type: eventlog.NoAction, Data: []byte{0xaa, 0xbb}}},
		{PCR: 17, Content: cel.PCClient{Type: eventlog.Slaunch}},
		{PCR: 0, Content: cel.PCClient{Type: 0x800000e1}},
		{Number: 9, PCR: 12, Content: cel.IMATemplate{Name: `a "name"`, Data: []byte{0xcc}}},
		{PCR: 10, Content: cel.IMATLV{Data: []byte{0, 1}}},
		{Number: 4, NV: true, NVIndex: 2, Content: cel.Management{
			{Type: cel.FirmwareEnd}, {Type: cel.Timestamp, Value: 1234567890}, {Type: cel.StateTransition, Value: 2}, {Type: cel.Version, Major: 1, Minor: 1},
		}},
		{PCR: 1, Content: cel.Management{{Type: cel.StateTransition, Value: 9}}},
		{PCR: 11, Content: cel.Unknown{Name: "systemd", Encoding: cel.JSON, Raw: []byte(`{"eventType":"phase"}`)}},
		{PCR: 11, Content: cel.Unknown{Type: 200, Encoding: cel.JSON, Raw: []byte(`null`)}},
	}
	want := `[
{"recnum":12,"pcr":9,"digests":[{"hashAlg":"sha1","digest":"` + strings.Repeat("aa", 20) + `"},{"hashAlg":"0x0099","digest":"01"}],"content_type":"pcclient_std","content":{"event_type":"EV_NO_ACTION","event_data":"aabb"}},
{"recnum":0,"pcr":17,"digests":[],"content_type":"pcclient_std","content":{"event_type":1282,"event_data":""}},
{"recnum":0,"pcr":0,"digests":[],"content_type":"pcclient_std","content":{"event_type":"EV_EFI_SPDM_FIRMWARE_BLOB","event_data":""}},
{"recnum":9,"pcr":12,"digests":[],"content_type":"ima_template","content":{"template_name":"a \"name\"","template_data":"cc"}},
{"recnum":0,"pcr":10,"digests":[],"content_type":"ima_tlv","content":"0001"},
{"recnum":4,"nv_index":2,"digests":[],"content_type":"cel","content":[{"type":"firmware_end"},{"type":"cel_timestamp","data":1234567890},{"type":"state_trans","data":"kexec"},{"type":"cel_version","data":{"major":1,"minor":1}}]},
{"recnum":0,"pcr":1,"digests":[],"content_type":"cel","content":{"type":"state_trans","data":9}},
{"recnum":0,"pcr":11,"digests":[],"content_type":"systemd","content":{"eventType":"phase"}},
{"recnum":0,"pcr":11,"digests":[],"content_type":200,"content":null}
]
`
	var got bytes.Buffer
	if err := cel.WriteJSON(&got, records); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got.String()); d != "" {
		t.Errorf("(-want +written):\n%s", d)
	}
	back, err := cel.ReadJSON(got.Bytes())
	if err != nil {
		t.Error(err)
	}
	if d := cmp.Diff(records, back, same); d != "" {
		t.Errorf("(-written +read):\n%s", d)
	}
}

// Writers differ in what they give as a number and in the names' case.
func TestJSONOfOtherWriters(t *testing.T) {
	in := ` [ {"content": {"event_data": "AABB", "event_type": 3}, "content_type": 5, "digests": [
		{"digest": "` + strings.Repeat("Ab", 20) + `", "hashAlg": 4}, {"digest":"01","hashAlg":"0x0099"}], "pcr": 9, "recnum": 1},
	{"recnum":2,"pcr":9,"digests":[{"hashAlg":"sha","digest":"` + strings.Repeat("ab", 20) + `"}],"content_type":"PCCLIENT_STD","content":{"event_type":"ev_no_action","event_data":"aabb"}},
	{"recnum":3,"pcr":9,"digests":[],"content_type":4,"content":{"type":80,"data":7}},
	{"recnum":4,"pcr":9,"digests":[],"content_type":"cel","content":[{"type":81,"data":"Suspend"},{"type":2}]},
	{"recnum":5,"pcr":9,"digests":[],"content_type":"pcclient_std","content":{"event_type":"strange","event_data":"00"}},
	{"recnum":6,"pcr":9,"digests":[],"content_type":"cel","content":{"type":"strange"}},
	{"recnum":7,"pcr":9,"digests":[],"content_type":"cel","content":{"type":82,"data":[]}}
	] ` + "\n"
	sha1 := tpm.TaggedDigest{Alg: tpm.SHA1, Digest: bytes.Repeat([]byte{0xab}, 20)}
	noAction := cel.PCClient{Type: eventlog.NoAction, Data: []byte{0xaa, 0xbb}}
	want := []cel.Record{
		{Number: 1, PCR: 9, Digests: []tpm.TaggedDigest{sha1, {Alg: 0x99, Digest: []byte{1}}}, Content: noAction},
		{Number: 2, PCR: 9, Digests: []tpm.TaggedDigest{sha1}, Content: noAction},
		{Number: 3, PCR: 9, Content: cel.Management{{Type: cel.Timestamp, Value: 7}}},
		{Number: 4, PCR: 9, Content: cel.Management{{Type: cel.StateTransition, Value: cel.Suspend}, {Type: cel.FirmwareEnd}}},
		{Number: 5, PCR: 9, Content: cel.Unknown{Type: 5, Encoding: cel.JSON, Raw: []byte(`{"event_type":"strange","event_data":"00"}`)}},
		{Number: 6, PCR: 9, Content: cel.Unknown{Type: 4, Encoding: cel.JSON, Raw: []byte(`{"type":"strange"}`)}},
		{Number: 7, PCR: 9, Content: cel.Unknown{Type: 4, Encoding: cel.JSON, Raw: []byte(`{"type":82,"data":[]}`)}},
	}
	got, err := cel.ReadJSON([]byte(in))
	if err != nil {
		t.Error(err)
	}
	if d := cmp.Diff(want, got, same); d != "" {
		t.Errorf("(-want +read):\n%s", d)
	}
}

const jsonGood = `{"recnum":5,"pcr":7,"digests":[],"content_type":"ima_tlv","content":"aa"}`

func TestMalformedJSON(t *testing.T) {
	content := func(kind, value string) string {
		return `{"recnum":5,"pcr":7,"digests":[],"content_type":` + kind + `,"content":` + value + `}`
	}
	digest := func(list string) string { return strings.Replace(jsonGood, "[]", list, 1) }
	for name, test := range map[string]struct{ record, reason string }{
		"no object":               {`7`, "no object"},
		"null":                    {`null`, "no object"},
		"cut off":                 {`{"recnum":5,`, "invalid character"},
		"no number":               {`{"pcr":7,"digests":[],"content_type":"ima_tlv","content":"aa"}`, `lacks the member "recnum"`},
		"no index":                {`{"recnum":5,"digests":[],"content_type":"ima_tlv","content":"aa"}`, "the PCR or NV index is"},
		"two indices":             {strings.Replace(jsonGood, `"pcr":7`, `"pcr":7,"nv_index":7`, 1), "both"},
		"a member twice":          {strings.Replace(jsonGood, `"pcr":7`, `"pcr":7,"pcr":8`, 1), `"pcr" twice`},
		"a member twice, escaped": {strings.Replace(jsonGood, `"pcr":7`, `"pcr":7,"\u0070cr":8`, 1), `"pcr" twice`},
		"a member's other case":   {strings.Replace(jsonGood, `"pcr":7`, `"PCR":7`, 1), `"PCR"`},
		"an unknown member":       {strings.Replace(jsonGood, `"pcr":7`, `"pcr":7,"x":1`, 1), `"x"`},
		"a negative number":       {strings.Replace(jsonGood, `:5`, `:-5`, 1), "not a number"},
		"a fraction":              {strings.Replace(jsonGood, `:5`, `:5.0`, 1), "not a number"},
		"a number of 65 bits":     {strings.Replace(jsonGood, `:5`, `:18446744073709551616`, 1), "not a number"},
		"an index of 33 bits":     {strings.Replace(jsonGood, `:7`, `:4294967296`, 1), "not a number up to 4294967295"},
		"digests null":            {digest(`null`), "no list"},
		"a digest that is text":   {digest(`["aa"]`), "no object"},
		"an unknown algorithm":    {digest(`[{"hashAlg":"md5","digest":"00"}]`), `"md5", which is not known`},
		"an algorithm of 17 bits": {digest(`[{"hashAlg":65536,"digest":"00"}]`), "not a number up to 65535"},
		"no hexadecimal":          {digest(`[{"hashAlg":153,"digest":"0"}]`), "not hexadecimal"},
		"a digest as base64":      {digest(`[{"hashAlg":153,"digest":"qg=="}]`), "not hexadecimal"},
		"a short SHA-256":         {digest(`[{"hashAlg":"sha256","digest":"00"}]`), "has 1 bytes, not 32"},
		"two digests alike":       {digest(`[{"hashAlg":153,"digest":"00"},{"hashAlg":"0x0099","digest":"00"}]`), "two digests"},
		"17 elements":             {digest("[" + strings.Repeat("0,", 16) + "0]"), "more than 16 elements"},
		"257 management events":   {content(`4`, "["+strings.Repeat(`{"type":2},`, 256)+`{"type":2}]`), "more than 256 elements"},
		"no type":                 {content(`""`, `""`), "not known"},
		"a type that is a list":   {content(`[]`, `""`), "not a number"},
		"an event that is text":   {content(`5`, `"aa"`), "no object"},
		"event data as an object": {content(`5`, `{"event_type":3,"event_data":{}}`), "not a string"},
		"an event type twice":     {content(`5`, `{"event_type":3,"event_type":4,"event_data":""}`), "twice"},
		"no template name":        {content(`7`, `{"template_data":""}`), "template_name"},
		"no management event":     {content(`4`, `[]`), "no management event"},
		"an end with data":        {content(`4`, `{"type":2,"data":0}`), "needs none"},
		"a timestamp without":     {content(`4`, `{"type":80}`), "lacks its data"},
		"a version of 17 bits":    {content(`4`, `{"type":1,"data":{"major":65536,"minor":0}}`), "not a number up to 65535"},
	} {
		head := "[\n" + jsonGood + " ,\n "
		records, err := cel.ReadJSON([]byte(head + test.record + "\n]"))
		wantSyntax(t, name, records, err, cel.JSON, len(head), test.reason)
	}
	for name, tail := range map[string]struct{ text, reason string }{
		"no end":           {"", "does not end"},
		"another end":      {"}", "does not end"},
		"something behind": {"] []", "follows"},
		"half behind":      {"]\n{", "follows"},
	} {
		records, err := cel.ReadJSON([]byte("[" + jsonGood + tail.text))
		offset := 1 + len(jsonGood) + min(1, strings.Count(tail.text, "]"))
		wantSyntax(t, name, records, err, cel.JSON, offset, tail.reason)
	}
}

func TestNoJSONLog(t *testing.T) {
	for _, s := range []string{"", "{}", jsonGood, "null", "\xff", "[\xff]",
		// Go's reader would put another character in the place of what is none.
		`[{"recnum":5,"pcr":7,"digests":[],"content_type":"ima_template","content":{"template_name":"` + "\xff" + `","template_data":""}}]`,
	} {
		if records, err := cel.ReadJSON([]byte(s)); err == nil || len(records) != 0 {
			t.Errorf("%q is read as %v, %v", s, records, err)
		}
	}
}
