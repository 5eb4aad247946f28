package eventlog

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Data is the decoded body of an event. It is hearsay, as the body itself is:
// what was measured is the digest, and for many types that is the digest of
// something else than the body.
type Data interface {
	// AppendTo appends the bytes that the body was decoded from.
	AppendTo(b []byte) []byte
	// String is one line for a person. It holds nothing that could steer a terminal.
	String() string
}

// Decode gives an event's body a meaning. What has none here, and what is
// malformed, comes back as [Raw], so that nothing is lost: AppendTo of the
// result always gives e.Data.
func (e *Event) Decode() Data {
	if d := decode(e); d != nil && bytes.Equal(d.AppendTo(nil), e.Data) {
		return d
	}
	return Raw(e.Data)
}

// decode may be lenient: Decode takes only what leads back to the same bytes.
func decode(e *Event) Data {
	switch e.Type {
	case NoAction:
		return decodeNoAction(e.Data)
	case Separator:
		return decodeSeparator(e.Data)
	case PostCode, SCRTMContents, EFIPlatformFirmwareBlob:
		return decodeBlob(e.Data)
	case IPL:
		return decodeWide(e.Data)
	case SCRTMVersion:
		if len(e.Data) == 16 && !isText(e.Data) && e.Data[1] != 0 {
			return GUID(e.Data)
		}
		return decodeWide(e.Data)
	case CompactHash:
		if len(e.Data) == 4 {
			return Word{"value", le.Uint32(e.Data)}
		}
		return decodeText(e.Data)
	case EventTag:
		return decodeTagged(e.Data)
	case EFIPlatformFirmwareBlob2:
		return decodeBlob2(e.Data)
	case EFIHandoffTables:
		return decodeTables(e.Data, nil)
	case EFIHandoffTables2:
		return decodeTables2(e.Data)
	case EFIVariableDriverConfig, EFIVariableBoot, EFIVariableBoot2, EFIVariableAuthority:
		return decodeVariable(e.Type, e.Data)
	case EFIBootServicesApplication, EFIBootServicesDriver, EFIRuntimeServicesDriver:
		return decodeImage(e.Data)
	case EFIGPTEvent:
		return decodeGPT(e.Data)
	}
	if d := decodeTXT(e); d != nil {
		return d
	}
	return decodeText(e.Data)
}

// Raw is a body that was not decoded.
type Raw []byte

// AppendTo appends the bytes.
func (d Raw) AppendTo(b []byte) []byte { return append(b, d...) }

// String shows the beginning of the bytes.
func (d Raw) String() string {
	const most = 32
	if len(d) > most {
		return fmt.Sprintf("%x... (%d bytes)", []byte(d[:most]), len(d))
	}
	return hex.EncodeToString(d)
}

// MarshalText writes the bytes as hexadecimal digits, for JSON.
func (d Raw) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d)), nil }

// Text is a body of text, as most boot loaders and the secure launch write.
type Text string

func decodeText(b []byte) Data {
	if !isText(b) {
		return nil
	}
	return Text(b)
}

// isText accepts printable characters, spaces, and the zero byte of C at the end.
func isText(b []byte) bool {
	s := strings.TrimSuffix(string(b), "\x00")
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == 0x7f {
			return false
		}
	}
	return true
}

// AppendTo appends the text.
func (d Text) AppendTo(b []byte) []byte { return append(b, d...) }

// String is the text with everything escaped that could steer a terminal.
func (d Text) String() string { return Printable([]byte(strings.TrimRight(string(d), "\x00\n"))) }

// Text16 is a body of text in characters of two bytes, which firmware uses for
// its version and systemd-boot for command lines. Zeros counts the zero bytes at
// the end: two as the character that ends a text, or one by mistake.
type Text16 struct {
	Text  string
	Zeros int
}

// AppendTo appends the text's characters.
func (d Text16) AppendTo(b []byte) []byte {
	return append(appendUTF16(b, d.Text), make([]byte, d.Zeros)...)
}

// String is the text with everything escaped that could steer a terminal.
func (d Text16) String() string { return Printable([]byte(strings.TrimRight(d.Text, " "))) }

// decodeWide reads text of either kind.
func decodeWide(b []byte) Data {
	if len(b) < 2 || b[1] != 0 {
		return decodeText(b)
	}
	n := trim(b, 0)
	n = min(n+n%2, len(b)) // the high byte of the last character counts
	d := Text16{Text: fromUTF16(b[:n]), Zeros: len(b) - n}
	if !isText([]byte(d.Text)) {
		return nil
	}
	return d
}

// AppendTo appends the GUID as it lies in memory.
func (g GUID) AppendTo(b []byte) []byte { return append(b, g[:]...) }

// SeparatorValue is the body of a separator (TCG PFP, clause 10.4.1): zero, or
// all ones, where the firmware's part ends without an error; one for an error.
// Windows writes "WBCL" into registers of its own.
type SeparatorValue uint32

func decodeSeparator(b []byte) Data {
	if len(b) != 4 {
		return decodeText(b)
	}
	return SeparatorValue(le.Uint32(b))
}

// AppendTo appends the four bytes.
func (d SeparatorValue) AppendTo(b []byte) []byte { return le.AppendUint32(b, uint32(d)) }

// String names the value.
func (d SeparatorValue) String() string {
	switch d {
	case 0, 0xffffffff:
		return "separator"
	case 1:
		return "separator: the firmware met an error"
	}
	b := d.AppendTo(nil)
	if isText(b) {
		return "separator " + Text(b).String()
	}
	return fmt.Sprintf("separator %#x", uint32(d))
}
