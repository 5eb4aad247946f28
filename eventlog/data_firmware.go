package eventlog

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/antievilmaid/aem/internal/wire"
)

// StartupLocality is the informative event that says at which locality the TPM
// was started (TCG PFP, clause 10.4.5.3). PCR 0 starts with that number.
type StartupLocality struct{ Locality uint8 }

// AppendTo appends the signature and the locality.
func (d StartupLocality) AppendTo(b []byte) []byte {
	return append(append(b, signatureLocality...), d.Locality)
}

// String says the locality.
func (d StartupLocality) String() string {
	return fmt.Sprintf("the TPM was started at locality %d", d.Locality)
}

// ReferenceManifest is an informative event that names the firmware's reference
// measurements (TCG PFP, clause 10.4.5.2). The fields behind the GUID differ
// between the three versions and are kept as they are.
type ReferenceManifest struct {
	Signature string // "SP800-155 Event", or "SP800-155 Event2" and "3"
	Vendor    uint32 // the platform manufacturer's IANA enterprise number
	Manifest  GUID
	Rest      Raw
}

const signatureManifest = "SP800-155 Event"

// AppendTo appends the event's bytes.
func (d ReferenceManifest) AppendTo(b []byte) []byte {
	var signature [16]byte
	copy(signature[:], d.Signature)
	b = le.AppendUint32(append(b, signature[:]...), d.Vendor)
	return append(append(b, d.Manifest[:]...), d.Rest...)
}

// String names the manifest.
func (d ReferenceManifest) String() string {
	return fmt.Sprintf("reference manifest %s of vendor %d", d.Manifest, d.Vendor)
}

// SpecID is a log's header where it stands among the events: the second log of
// two that were joined.
type SpecID struct{ Raw }

// String names what it is.
func (d SpecID) String() string { return "header of a log: " + Text(d.Raw[:15]).String() }

func decodeNoAction(b []byte) Data {
	switch {
	case len(b) == 0:
		return Text("")
	case len(b) == len(signatureLocality)+1 && bytes.HasPrefix(b, []byte(signatureLocality)):
		return StartupLocality{b[len(b)-1]}
	case len(b) >= 36 && bytes.HasPrefix(b, []byte(signatureManifest)):
		r := wire.NewReader(b)
		return ReferenceManifest{
			Signature: string(bytes.TrimRight(r.Bytes(16), "\x00")), Vendor: r.U32(), Manifest: readGUID(&r), Rest: r.Rest(),
		}
	case len(b) >= 16 && (bytes.HasPrefix(b, []byte("Spec ID Event")) || bytes.HasPrefix(b, []byte(signaturePerAlg))):
		return SpecID{b}
	}
	return decodeTagged(b) // Windows: what an attestation key was made for
}

// FirmwareBlob is a region of firmware that was measured
// (UEFI_PLATFORM_FIRMWARE_BLOB; with a description, its successor "2").
type FirmwareBlob struct {
	Description *string // nil in the older event
	Base        uint64  // physical address
	Length      uint64  // bytes
}

func decodeBlob(b []byte) Data {
	r := wire.NewReader(b)
	d := FirmwareBlob{Base: r.U64(), Length: r.U64()}
	if r.Short() || r.Left() != 0 {
		return decodeText(b)
	}
	return d
}

func decodeBlob2(b []byte) Data {
	r := wire.NewReader(b)
	s := string(r.Bytes(uint32(r.U8())))
	d := FirmwareBlob{Description: &s, Base: r.U64(), Length: r.U64()}
	if r.Short() || r.Left() != 0 {
		return nil
	}
	return d
}

// AppendTo appends the event's bytes.
func (d FirmwareBlob) AppendTo(b []byte) []byte {
	if d.Description != nil {
		b = append(append(b, byte(len(*d.Description))), *d.Description...)
	}
	return le.AppendUint64(le.AppendUint64(b, d.Base), d.Length)
}

// String says where the region lies.
func (d FirmwareBlob) String() string {
	s := fmt.Sprintf("firmware, %d bytes at %#x", d.Length, d.Base)
	if d.Description != nil {
		s += ", " + Text(*d.Description).String()
	}
	return s
}

// HandoffTables are tables that the firmware hands to the system
// (UEFI_HANDOFF_TABLE_POINTERS; with a description, its successor "2").
type HandoffTables struct {
	Description *string
	Tables      []HandoffTable
}

// HandoffTable is one of them.
type HandoffTable struct {
	Kind    GUID
	Address uint64
}

func decodeTables(b []byte, description *string) Data {
	r := wire.NewReader(b)
	d := HandoffTables{Description: description}
	n := r.U64()
	if r.Short() || n > uint64(r.Left())/24 {
		return nil
	}
	for range n {
		d.Tables = append(d.Tables, HandoffTable{readGUID(&r), r.U64()})
	}
	return d
}

func decodeTables2(b []byte) Data {
	r := wire.NewReader(b)
	s := string(r.Bytes(uint32(r.U8())))
	if r.Short() {
		return nil
	}
	return decodeTables(r.Rest(), &s)
}

// AppendTo appends the event's bytes.
func (d HandoffTables) AppendTo(b []byte) []byte {
	if d.Description != nil {
		b = append(append(b, byte(len(*d.Description))), *d.Description...)
	}
	b = le.AppendUint64(b, uint64(len(d.Tables)))
	for _, t := range d.Tables {
		b = le.AppendUint64(append(b, t.Kind[:]...), t.Address)
	}
	return b
}

// String names the tables.
func (d HandoffTables) String() string {
	var names []string
	for _, t := range d.Tables {
		names = append(names, t.Kind.Name())
	}
	s := "tables: " + strings.Join(names, ", ")
	if d.Description != nil {
		s += " (" + Text(strings.TrimRight(*d.Description, "\x00")).String() + ")"
	}
	return s
}

// Tagged is a list of tagged values (TCG_PCClientTaggedEvent). Windows nests
// them: a tag with bit 30 set holds a list.
type Tagged []TaggedValue

// TaggedValue is one of them; Data is nil where List holds its parts.
type TaggedValue struct {
	ID   uint32
	Data Raw    `json:",omitempty"`
	List Tagged `json:",omitempty"`
}

// aggregation is the bit of a tag that holds further tags (Windows, wbcl.h, SIPAEVENTTYPE_AGGREGATION).
const aggregation = 0x40000000

// maxNesting is deeper than any firmware nests, and bounds what a log can make us do.
const maxNesting = 8

func decodeTagged(b []byte) Data {
	if d := taggedList(b, 0); d != nil {
		return d
	}
	return decodeText(b) // as some loaders write
}

func taggedList(b []byte, depth int) Tagged {
	r := wire.NewReader(b)
	var list Tagged
	for r.Left() > 0 {
		v := TaggedValue{ID: r.U32()}
		v.Data = r.Bytes(r.U32())
		if r.Short() {
			return nil
		}
		if v.ID&aggregation != 0 && depth < maxNesting && len(v.Data) > 0 {
			if v.List = taggedList(v.Data, depth+1); v.List != nil {
				v.Data = nil
			}
		}
		list = append(list, v)
	}
	return list
}

// AppendTo appends the list's bytes.
func (d Tagged) AppendTo(b []byte) []byte {
	for _, v := range d {
		body := []byte(v.Data)
		if v.List != nil {
			body = v.List.AppendTo(nil)
		}
		b = le.AppendUint32(le.AppendUint32(b, v.ID), uint32(len(body)))
		b = append(b, body...)
	}
	return b
}

// String shows the tags and the beginning of their values.
func (d Tagged) String() string {
	var parts []string
	for i, v := range d {
		if i == 4 {
			parts = append(parts, fmt.Sprintf("and %d more", len(d)-i))
			break
		}
		if v.List != nil {
			parts = append(parts, fmt.Sprintf("%#x (%d values)", v.ID, len(v.List)))
			continue
		}
		parts = append(parts, fmt.Sprintf("%#x = %s", v.ID, v.Data))
	}
	return strings.Join(parts, ", ")
}
