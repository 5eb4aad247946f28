package eventlog

import "fmt"

// GUID is an EFI_GUID as it lies in memory: its first three fields little-endian.
type GUID [16]byte

// String is the registry format, such as 8be4df61-93ca-11d2-aa0d-00e098032b8c.
func (g GUID) String() string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(g[:]), le.Uint16(g[4:]), le.Uint16(g[6:]), g[8:10], g[10:])
}

// MarshalText writes a GUID as String does, for JSON.
func (g GUID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// ParseGUID is the inverse of String.
func ParseGUID(s string) (g GUID, err error) {
	var a uint32
	var b, c uint16
	var d, e []byte
	if _, err := fmt.Sscanf(s, "%8x-%4x-%4x-%4x-%12x", &a, &b, &c, &d, &e); err != nil || len(d) != 2 || len(e) != 6 {
		return g, fmt.Errorf("%q is no GUID", s)
	}
	le.PutUint32(g[:], a)
	le.PutUint16(g[4:], b)
	le.PutUint16(g[6:], c)
	copy(g[8:], d)
	copy(g[10:], e)
	return g, nil
}

// Names of GUIDs that a person meets in logs (UEFI specification; shim).
var guidNames = map[string]string{
	"8be4df61-93ca-11d2-aa0d-00e098032b8c": "EFI global",
	"d719b2cb-3d3a-4596-a3bc-dad00e67656f": "image security database",
	"605dab50-e046-4300-abb6-3dd810dd8b23": "shim",
	"77fa9abd-0359-4d32-bd60-28f4e78f784b": "Microsoft",
	"c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system partition",
	"0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux data",
	"a5c059a1-94e4-4aa7-87b5-ab155c2bf072": "X.509",
	"c1c41626-504c-4092-aca9-41f936934328": "SHA-256",
	"eb9d2d31-2d88-11d3-9a16-0090273fc14d": "SMBIOS table",
	"f2fd1544-9794-4a2c-992e-e5bbcf20e394": "SMBIOS 3 table",
	"8868e871-e4f1-11d3-bc22-0080c73c8881": "ACPI 2.0 table",
}

// Name is what the GUID stands for, or the GUID itself.
func (g GUID) Name() string {
	if n, ok := guidNames[g.String()]; ok {
		return n
	}
	return g.String()
}
