package cel

import (
	"fmt"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// Record is one record of a log (TPMS_CEL_EVENT; CEL, clause 4.2).
type Record struct {
	// Number counts the records of the same PCR or NV index from 0 (CEL, clause
	// 4.2.2). Some writers count all records of a log instead; readers take both.
	Number uint64
	// PCR is what was extended, unless NV is set. 255 and 0xffffffff occur where a
	// firmware's log has them: such records belong to no register.
	PCR tpm.PCR
	// NVIndex is the handle of the NV index that was extended, where NV is set.
	NVIndex uint32
	NV      bool
	Digests []tpm.TaggedDigest // in the order in which they stand in the log
	Content Content

	// width is how many bytes Number and the index have in TLV, where that is more
	// than they need.
	width [2]uint8
}

// Extended reports whether the record tells of an extension. Informative firmware
// events, the log's version and the firmware's end were never extended, whatever
// digests stand beside them (CEL, clause 4.2.3).
func (r *Record) Extended() bool {
	switch c := r.Content.(type) {
	case PCClient:
		return c.Type.Extended()
	case Management:
		for _, e := range c {
			if e.Type != Version && e.Type != FirmwareEnd {
				return true
			}
		}
		return false
	}
	return true
}

// ContentType tells the kinds of content apart; TLV and CBOR share the numbers
// (TPMI_CEL_CONTENT_TYPE; CEL, table 2).
type ContentType uint64

// The kinds of content that this package knows. 6 and 10 are reserved; 9 is what
// systemd measures, of which the sources know several shapes, so it is carried.
const (
	TypeManagement  ContentType = 4
	TypePCClient    ContentType = 5
	TypeIMATemplate ContentType = 7
	TypeIMATLV      ContentType = 8
)

// String is the name that the kind has in JSON, or its number.
func (t ContentType) String() string {
	switch t {
	case TypeManagement:
		return "cel"
	case TypePCClient:
		return "pcclient_std"
	case TypeIMATemplate:
		return "ima_template"
	case TypeIMATLV:
		return "ima_tlv"
	}
	return fmt.Sprintf("content type %d", uint64(t))
}

// Content is the event that a record holds: a [PCClient], [IMATemplate], [IMATLV],
// [Management] or [Unknown].
type Content interface {
	Kind() ContentType
}

// PCClient is an event of a firmware's log (TPMS_EVENT_PCCLIENT_STD).
type PCClient struct {
	Type eventlog.Type
	Data []byte

	width uint8 // of Type in TLV, where that is more than it needs
	// label is the text by which CBOR named a type, labelled, in place of a number.
	label    string
	labelled eventlog.Type
}

// IMATemplate is an entry of Linux's IMA list (TPMS_EVENT_IMA_TEMPLATE).
type IMATemplate struct {
	Name string // such as ima-ng
	Data []byte // as the kernel's binary list has it
}

// IMATLV is an IMA entry that is itself a list of TLV fields, which stay encoded.
type IMATLV struct {
	Data []byte
}

// Management is what the log says of itself. The TLV and JSON encodings can hold
// several such events in one record, CBOR one.
type Management []ManagementEvent

// ManagementEvent is a note about the log (TPMS_EVENT_CELMGT).
type ManagementEvent struct {
	Type ManagementType
	// Major and Minor are the version of the format, for Version.
	Major, Minor uint16
	// Value is a Timestamp, or what a StateTransition went through. The
	// specification gives a timestamp two units, seconds and milliseconds.
	Value uint64

	width [2]uint8 // of the numbers in TLV, where that is more than they need
}

// ManagementType tells management events apart (TPMI_CELMGTTYPE).
type ManagementType uint8

// The management events.
const (
	Version         ManagementType = 1
	FirmwareEnd     ManagementType = 2
	Timestamp       ManagementType = 80
	StateTransition ManagementType = 81
)

// What a machine went through in a StateTransition (TPMI_STATE_TRANS).
const (
	Suspend   = 0
	Hibernate = 1
	Kexec     = 2
)

// Unknown is content of a kind that this package doesn't know. It is carried as it
// stands, and can be written only in the encoding that it was read from.
type Unknown struct {
	Type     ContentType // 0 where JSON gave a name in its place
	Name     string      // in JSON
	Encoding Encoding
	Raw      []byte // the TLV field's value, the CBOR item, or the JSON value
}

// Kind is the content's type.
func (PCClient) Kind() ContentType { return TypePCClient }

// Kind is the content's type.
func (IMATemplate) Kind() ContentType { return TypeIMATemplate }

// Kind is the content's type.
func (IMATLV) Kind() ContentType { return TypeIMATLV }

// Kind is the content's type.
func (Management) Kind() ContentType { return TypeManagement }

// Kind is the content's type, 0 where only its name is known.
func (u Unknown) Kind() ContentType { return u.Type }

// Encoding is a form in which a log is stored.
type Encoding uint8

// The encodings.
const (
	TLV Encoding = iota + 1
	CBOR
	JSON
)

// String names the encoding.
func (e Encoding) String() string {
	switch e {
	case TLV:
		return "TLV"
	case CBOR:
		return "CBOR"
	case JSON:
		return "JSON"
	}
	return fmt.Sprintf("unknown encoding %d", uint8(e))
}
