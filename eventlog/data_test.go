package eventlog_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

func guid(t testing.TB, s string) eventlog.GUID {
	t.Helper()
	g, err := eventlog.ParseGUID(s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// bodies are one body of each kind, and what a person reads.
func bodies(t testing.TB) []struct {
	typ  eventlog.Type
	data eventlog.Data
	text string
} {
	global := guid(t, "8be4df61-93ca-11d2-aa0d-00e098032b8c")
	path := eventlog.DevicePath{
		{Type: 2, SubType: 1, Data: eventlog.Raw{0xd0, 0x41, 0x03, 0x0a, 0, 0, 0, 0}},
		{Type: 1, SubType: 1, Data: eventlog.Raw{2, 0x1f}},
		{Type: 4, SubType: 4, Data: eventlog.Raw("\\\x00a\x00\x1b\x00\x00\x00")},
		{Type: 0x7f, SubType: 0xff, Data: eventlog.Raw{}},
	}
	option := append([]byte{1, 0, 0, 0, byte(len(path.AppendTo(nil))), 0, 'X', 0, 0, 0}, path.AppendTo(nil)...)
	list := append(guid(t, "c1c41626-504c-4092-aca9-41f936934328").AppendTo(nil), 76, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0)
	list = append(list, make([]byte, 48)...)
	header := make([]byte, 92)
	copy(header[56:], global[:])
	name := "FV"
	disk := eventlog.GPT{Header: header, Disk: global, Partitions: []eventlog.Partition{
		{Kind: guid(t, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"), First: 34, Last: 99, Name: ""},
		{Kind: global, First: 100, Last: 200, Name: "root"},
	}}
	return []struct {
		typ  eventlog.Type
		data eventlog.Data
		text string
	}{
		{eventlog.NoAction, eventlog.StartupLocality{Locality: 3}, "the TPM was started at locality 3"},
		{eventlog.NoAction, eventlog.ReferenceManifest{Signature: "SP800-155 Event", Vendor: 311, Manifest: global, Rest: eventlog.Raw("x")},
			"reference manifest 8be4df61-93ca-11d2-aa0d-00e098032b8c of vendor 311"},
		{eventlog.Separator, eventlog.SeparatorValue(0), "separator"},
		{eventlog.Separator, eventlog.SeparatorValue(1), "separator: the firmware met an error"},
		{eventlog.IPL, eventlog.Text("grub_cmd: linux\x00"), "grub_cmd: linux"},
		{eventlog.IPL, eventlog.Text16{Text: "quiet", Zeros: 2}, "quiet"},
		{eventlog.SCRTMVersion, eventlog.Text16{Text: "N1 ", Zeros: 2}, "N1"},
		{eventlog.EventTag, eventlog.Tagged{{ID: 7, Data: eventlog.Raw("a")}, {ID: 0x40010001, List: eventlog.Tagged{{ID: 8, Data: eventlog.Raw{}}}}},
			"0x7 = 61, 0x40010001 (1 values)"},
		{eventlog.EFIPlatformFirmwareBlob, eventlog.FirmwareBlob{Base: 0x1000, Length: 16}, "firmware, 16 bytes at 0x1000"},
		{eventlog.EFIPlatformFirmwareBlob2, eventlog.FirmwareBlob{Description: &name, Base: 0x1000, Length: 16}, "firmware, 16 bytes at 0x1000, FV"},
		{eventlog.EFIHandoffTables, eventlog.HandoffTables{Tables: []eventlog.HandoffTable{{Kind: guid(t, "eb9d2d31-2d88-11d3-9a16-0090273fc14d"), Address: 9}}},
			"tables: SMBIOS table"},
		{eventlog.EFIVariableDriverConfig, eventlog.Variable{Vendor: global, Name: "SecureBoot", Value: eventlog.Raw{1}, Meaning: eventlog.Switch(true), Trailing: eventlog.Raw{}}, "SecureBoot: on"},
		{eventlog.EFIVariableDriverConfig, eventlog.Variable{Vendor: global, Name: "PK", Value: eventlog.Raw{}, Trailing: eventlog.Raw{}}, "PK is not set"},
		{eventlog.EFIVariableDriverConfig, eventlog.Variable{Vendor: global, Name: "dbx", Value: list, Meaning: eventlog.Signatures{{
			Kind: guid(t, "c1c41626-504c-4092-aca9-41f936934328"), Header: eventlog.Raw{}, Entries: []eventlog.Signature{{Data: make(eventlog.Raw, 32)}},
		}}, Trailing: eventlog.Raw{}}, "dbx: 1 digests"},
		{eventlog.EFIVariableBoot, eventlog.Variable{Vendor: global, Name: "BootOrder", Value: eventlog.Raw{1, 0, 0x1a, 0}, Meaning: eventlog.Order{1, 0x1a}, Trailing: eventlog.Raw{}},
			"BootOrder: 0001, 001A"},
		{eventlog.EFIVariableBoot, eventlog.Variable{Vendor: global, Name: "Boot0001", Value: option,
			Meaning: eventlog.LoadOption{Attributes: 1, Description: "X", Path: path, Optional: eventlog.Raw{}}, Trailing: eventlog.Raw{}},
			`Boot0001: X, PciRoot(0x0)/Pci(0x1f,0x2)/\\a\x1b`},
		{eventlog.EFIVariableAuthority, eventlog.Variable{Vendor: global, Name: "SbatLevel", Value: eventlog.Raw("sbat,1\n"), Meaning: eventlog.Text("sbat,1\n"), Trailing: eventlog.Raw{}},
			"SbatLevel: sbat,1"},
		{eventlog.EFIBootServicesApplication, eventlog.ImageLoad{Address: 1, Length: 2, Path: path, Wide: true, Trailing: eventlog.Raw{}}, `PciRoot(0x0)/Pci(0x1f,0x2)/\\a\x1b`},
		{eventlog.EFIBootServicesApplication, eventlog.ImageLoad{Address: 1, Length: 2, Path: path, Trailing: eventlog.Raw{}}, `PciRoot(0x0)/Pci(0x1f,0x2)/\\a\x1b`},
		{eventlog.EFIGPTEvent, disk, "partitions of disk 8be4df61-93ca-11d2-aa0d-00e098032b8c: 1 EFI system partition, 2 root"},
		{eventlog.TXTHashStart, eventlog.HashStart{SINIT: make(eventlog.Raw, 20), EDXFlags: 1}, "SINIT module " + strings.Repeat("0", 40) + ", flags 0x1"},
		{eventlog.TXTPCRMapping, eventlog.DetailsMapping, "details and authorities PCR mapping"},
		{eventlog.TXTCPUSCRTMStat, eventlog.Word{Name: "firmware measured by the CPU:", Value: 1}, "firmware measured by the CPU: 0x1"},
		{eventlog.TXTSTMHash, eventlog.Absent{What: "system management monitor"}, "no system management monitor"},
		{eventlog.TXTNVInfoHash, eventlog.NVInfo{{Present: true, Index: 0x01c10102, NameAlg: tpm.SHA256, Attributes: 7, AuthPolicy: make(eventlog.Raw, 32), Size: 104}, {}},
			"NV indices 0x1c10102"},
		{eventlog.Slaunch, eventlog.Text("Measured \x7f"), ""},
	}
}

func TestBodiesAreDecoded(t *testing.T) {
	for _, c := range bodies(t) {
		if c.text == "" {
			continue
		}
		e := eventlog.Event{Type: c.typ, Data: c.data.AppendTo(nil)}
		got := e.Decode()
		if diff := cmp.Diff(c.data, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.typ, diff)
		}
		if got.String() != c.text {
			t.Errorf("%s: it says %q; want %q", c.typ, got.String(), c.text)
		}
	}
}

// What can't be decoded is kept as it is: each kind of body, cut anywhere.
func TestBodiesThatAreCutOffAreKept(t *testing.T) {
	for _, c := range bodies(t) {
		whole := c.data.AppendTo(nil)
		for n := range whole {
			e := eventlog.Event{Type: c.typ, Data: whole[:n]}
			if got := e.Decode().AppendTo(nil); !bytes.Equal(got, whole[:n]) {
				t.Errorf("%s, %d of %d bytes: encoded again it is %x", c.typ, n, len(whole), got)
			}
		}
	}
}

// A list that nests without end must not take the stack with it.
func TestNestedTagsEnd(t *testing.T) {
	b := []byte("x")
	for range 1000 {
		b = append([]byte{1, 0, 0, 0x40, byte(len(b)), byte(len(b) >> 8), 0, 0}, b...)
	}
	e := eventlog.Event{Type: eventlog.EventTag, Data: b}
	if got := e.Decode(); !bytes.Equal(got.AppendTo(nil), b) {
		t.Errorf("it became %.100q", got)
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range bodies(f) {
		f.Add(uint32(c.typ), c.data.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, typ uint32, body []byte) {
		e := eventlog.Event{Type: eventlog.Type(typ), Data: body}
		d := e.Decode()
		if !bytes.Equal(d.AppendTo(nil), body) {
			t.Errorf("%s: encoded again it differs", e.Type)
		}
		for _, r := range d.String() {
			if r < ' ' || r > '~' {
				t.Fatalf("%s: it prints %q", e.Type, d.String())
			}
		}
	})
}
