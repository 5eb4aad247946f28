package eventlog

import (
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/antievilmaid/aem/internal/wire"
	"github.com/antievilmaid/aem/tpm"
)

// AppendYAML appends the log in the form of the program tpm2_eventlog (tpm2-tools
// 5.4), so that what reads its output reads this. Differences are deliberate: logs
// of SHA-1 records are numbered as all others, which makes them valid YAML; a
// description of firmware is printed whole; a text where a region of firmware is
// expected stays a text; and the values are those of the banks
// given, which [Log.Replay] computes without extending informative events.
func (l *Log) AppendYAML(b []byte, values tpm.Banks) []byte {
	y := yaml{b}
	y.line(0, "---")
	y.line(0, "version: 1")
	y.line(0, "events:")
	number := 0
	if l.Format == CryptoAgile {
		y.header(l)
		number++
	}
	for i := range l.Events {
		y.event(number+i, &l.Events[i])
	}
	y.pcrs(l, values)
	return y.b
}

type yaml struct{ b []byte }

func (y *yaml) line(indent int, format string, args ...any) {
	for range indent {
		y.b = append(y.b, ' ')
	}
	y.b = append(fmt.Appendf(y.b, format, args...), '\n')
}

func (y *yaml) header(l *Log) {
	h := wire.NewReader(l.head)
	y.line(0, "- EventNum: 0")
	y.line(2, "PCRIndex: %d", h.U32())
	y.line(2, "EventType: %s", Type(h.U32()))
	y.line(2, "Digest: %q", hex.EncodeToString(h.Bytes(20)))
	y.line(2, "EventSize: %d", h.U32())
	y.line(2, "SpecID:")
	y.line(2, "- Signature: %s", Printable(h.Bytes(16)[:15]))
	y.line(4, "platformClass: %d", h.U32())
	y.line(4, "specVersionMinor: %d", h.U8())
	y.line(4, "specVersionMajor: %d", h.U8())
	y.line(4, "specErrata: %d", h.U8())
	y.line(4, "uintnSize: %d", h.U8())
	y.line(4, "numberOfAlgorithms: %d", h.U32())
	y.line(4, "Algorithms:")
	for i, a := range l.Algs {
		y.line(4, "- Algorithm[%d]:", i)
		y.line(6, "algorithmId: %s", a.Alg)
		y.line(6, "digestSize: %d", a.Size)
	}
	y.line(4, "vendorInfoSize: %d", len(l.VendorInfo))
	if len(l.VendorInfo) > 0 {
		y.line(4, "vendorInfo: %q", hex.EncodeToString(l.VendorInfo))
	}
}

func (y *yaml) event(number int, e *Event) {
	y.line(0, "- EventNum: %d", number)
	y.line(2, "PCRIndex: %d", e.PCR)
	y.line(2, "EventType: %s", e.Type)
	y.line(2, "DigestCount: %d", len(e.Digests))
	y.line(2, "Digests:")
	for _, d := range e.Digests {
		y.line(2, "- AlgorithmId: %s", d.Alg)
		y.line(4, "Digest: %q", d.Digest.String())
	}
	y.line(2, "EventSize: %d", len(e.Data))
	if len(e.Data) > 0 {
		y.body(e)
	}
}

// body prints the fields of the types that tpm2_eventlog decodes, and the bytes of
// all others.
func (y *yaml) body(e *Event) {
	if e.Type == IPL {
		y.line(2, "Event:")
		y.line(4, "String: |-")
		for line := range strings.SplitSeq(quoteYAML(e.Data), "\n") {
			y.line(6, `"%s"`, line)
		}
		return
	}
	switch d := e.Decode().(type) {
	case Variable:
		y.line(2, "Event:")
		y.line(4, "VariableName: %s", d.Vendor)
		y.line(4, "UnicodeNameLength: %d", len(appendUTF16(nil, d.Name))/2)
		y.line(4, "VariableDataLength: %d", len(d.Value))
		y.line(4, "UnicodeName: %s", Printable([]byte(d.Name)))
		if len(d.Value) > 0 {
			y.line(4, "VariableData: %q", hex.EncodeToString(d.Value))
		}
	case ImageLoad:
		y.line(2, "Event:")
		path := d.Path.AppendTo(nil)
		y.line(4, "ImageLocationInMemory: %#x", d.Address)
		y.line(4, "ImageLengthInMemory: %d", d.Length)
		y.line(4, "ImageLinkTimeAddress: %#x", d.LinkTimeAddress)
		y.line(4, "LengthOfDevicePath: %d", len(path))
		path = append(path, d.Trailing...)
		y.line(4, "DevicePath: '%s'", hex.EncodeToString(path))
	case FirmwareBlob:
		y.line(2, "Event:")
		if d.Description != nil {
			y.line(4, "BlobDescriptionSize: %d", len(*d.Description))
			y.line(4, "BlobDescription: %q", hex.EncodeToString([]byte(*d.Description)))
		}
		y.line(4, "BlobBase: %#x", d.Base)
		y.line(4, "BlobLength: %#x", d.Length)
	case Text:
		if e.Type != EFIAction && e.Type != PostCode {
			y.bytes(e.Data)
			return
		}
		y.line(2, "Event: |-")
		for line := range strings.SplitSeq(quoteYAML(e.Data), "\n") {
			y.line(4, "%s", line)
		}
	default:
		y.bytes(e.Data)
	}
}

func (y *yaml) bytes(b []byte) { y.line(2, "Event: %q", hex.EncodeToString(b)) }

// quoteYAML escapes what a terminal or a YAML reader would take for more than text.
func quoteYAML(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == 0:
			s.WriteString(`\0`)
		case r == '\n':
			s.WriteByte('\n')
		case r == '\t':
			s.WriteString(`\t`)
		case r == '\r':
			s.WriteString(`\r`)
		case r == '\'', r == '\\':
			s.WriteByte('\\')
			s.WriteRune(r)
		case r < ' ' || r > '~' || r == utf8.RuneError:
			for _, c := range b[:n] {
				fmt.Fprintf(&s, `\x%02x`, c)
			}
		default:
			s.WriteRune(r)
		}
		b = b[n:]
	}
	return s.String()
}

// pcrs prints the values of the PCRs that the log extends.
func (y *yaml) pcrs(l *Log, values tpm.Banks) {
	var used tpm.PCRs
	for i := range l.Events {
		if l.Events[i].Extended() {
			used |= tpm.PCRSet(l.Events[i].PCR)
		}
	}
	if used == 0 {
		return
	}
	y.line(0, "pcrs:")
	for i := range values {
		y.line(2, "%s:", values[i].Alg)
		for p := range used.All() {
			y.line(4, "%-3d: 0x%s", p, values[i].Values[p])
		}
	}
}
