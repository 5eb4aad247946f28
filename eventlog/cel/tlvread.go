package cel

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// ReadTLV reads a log in TLV. Where it is malformed, ReadTLV returns the records
// before that and a [*SyntaxError]. The fields must stand in the specification's
// order; numbers may have leading zero bytes, up to eight in all, because writers
// differ there. The records alias b.
func ReadTLV(b []byte) ([]Record, error) {
	var records []Record
	r := tlvReader{b: b}
	for r.off < len(b) {
		r.record = len(records)
		if r.record == maxRecords {
			r.fail(r.off, "there are more than %d records", maxRecords)
			return records, r.err
		}
		rec := r.read()
		if r.err != nil {
			return records, r.err
		}
		records = append(records, rec)
	}
	return records, nil
}

// tlvReader walks over the bytes. After the first error it reads nothing more,
// and what it returns means nothing.
type tlvReader struct {
	b      []byte
	off    int
	record int
	err    error
}

func (r *tlvReader) fail(off int, format string, args ...any) {
	if r.err == nil {
		r.err = &SyntaxError{Encoding: TLV, Offset: off, Record: r.record, Reason: fmt.Sprintf(format, args...)}
	}
}

// field reads a field's tag and length, and returns where its value ends; it must
// end before limit. The reader then stands at the value.
func (r *tlvReader) field(limit int, name string) (tag uint8, end int) {
	if r.err != nil {
		return 0, r.off
	}
	if limit-r.off < 5 {
		r.fail(r.off, "%d bytes are left, too few for %s", limit-r.off, name)
		return 0, r.off
	}
	tag = r.b[r.off]
	size := binary.BigEndian.Uint32(r.b[r.off+1:])
	if uint64(size) > uint64(limit-r.off-5) {
		r.fail(r.off, "%s claims %d bytes, and %d are left", name, size, limit-r.off-5)
		return 0, r.off
	}
	r.off += 5
	return tag, r.off + int(size)
}

// want is field for a tag that must come now.
func (r *tlvReader) want(tag uint8, limit int, name string) (end int) {
	at := r.off
	got, end := r.field(limit, name)
	if r.err == nil && got != tag {
		r.fail(at, "there is a field %d in place of %s, which is field %d", got, name, tag)
	}
	return end
}

// value takes all up to end.
func (r *tlvReader) value(end int) []byte {
	if r.err != nil {
		return nil
	}
	v := r.b[r.off:end:end]
	r.off = end
	return v
}

// number takes all up to end as a number, and returns its width where that is
// more than it needs.
func (r *tlvReader) number(end int, most uint64, name string) (n uint64, width uint8) {
	at := r.off
	v := r.value(end)
	if r.err != nil {
		return 0, 0
	}
	if len(v) == 0 || len(v) > 8 {
		r.fail(at, "%s has %d bytes; a number has one to eight", name, len(v))
		return 0, 0
	}
	for _, c := range v {
		n = n<<8 | uint64(c)
	}
	if n > most {
		r.fail(at, "%s is %d, more than the %d that it can be", name, n, most)
	}
	if len(v) > needed(n) {
		width = uint8(len(v))
	}
	return n, width
}

func (r *tlvReader) read() (rec Record) {
	rec.Number, rec.width[0] = r.number(r.want(tagNumber, len(r.b), "the record's number"), math.MaxUint64, "the record's number")
	at := r.off
	tag, end := r.field(len(r.b), "the PCR or NV index")
	index, width := r.number(end, math.MaxUint32, "the PCR or NV index")
	rec.width[1] = width
	switch {
	case r.err != nil:
		return rec
	case tag == tagPCR:
		rec.PCR = tpm.PCR(index)
	case tag == tagNVIndex:
		rec.NV, rec.NVIndex = true, uint32(index)
	default:
		r.fail(at, "there is a field %d in place of the PCR or NV index", tag)
	}
	rec.Digests = r.digests()
	rec.Content = r.content()
	return rec
}

func (r *tlvReader) digests() []tpm.TaggedDigest {
	end := r.want(tagDigests, len(r.b), "the list of digests")
	var list []tpm.TaggedDigest
	for r.err == nil && r.off < end {
		at := r.off
		alg, e := r.field(end, "a digest")
		d := tpm.TaggedDigest{Alg: tpm.Alg(alg), Digest: r.value(e)}
		if reason := checkDigest(d, list); r.err == nil && reason != "" {
			r.fail(at, "%s", reason)
		}
		list = append(list, d)
	}
	return list
}

func (r *tlvReader) content() Content {
	at := r.off
	tag, end := r.field(len(r.b), "the content")
	if r.err != nil {
		return nil
	}
	var c Content
	switch kind := ContentType(tag); kind {
	case TypePCClient:
		t, width := r.number(r.want(tagEventType, end, "the event's type"), math.MaxUint32, "the event's type")
		c = PCClient{Type: eventlog.Type(t), width: width, Data: r.value(r.want(tagEventData, end, "the event's data"))}
	case TypeIMATemplate:
		name := r.value(r.want(tagName, end, "the template's name"))
		c = IMATemplate{Name: string(name), Data: r.value(r.want(tagData, end, "the template's data"))}
	case TypeIMATLV:
		c = IMATLV{Data: r.value(end)}
	case TypeManagement:
		c = r.management(end)
	default:
		if kind <= tagDigests {
			r.fail(at, "there is a field %d in place of the content", tag)
		}
		c = Unknown{Type: kind, Encoding: TLV, Raw: r.value(end)}
	}
	if r.err == nil && r.off != end {
		r.fail(r.off, "%d bytes are left over in its %s", end-r.off, ContentType(tag))
	}
	return c
}

// management reads management events. One of a type that is not known makes the
// whole content unknown: half of it could not be written again.
func (r *tlvReader) management(end int) Content {
	start := r.off
	if start == end {
		r.fail(start, "it has no management event")
	}
	var m Management
	known := true
	for r.err == nil && r.off < end {
		if len(m) == maxNotes {
			r.fail(r.off, "it has more than %d management events", maxNotes)
		}
		tag, stop := r.field(end, "a management event")
		if r.err != nil {
			return nil
		}
		e := ManagementEvent{Type: ManagementType(tag)}
		switch e.Type {
		case Version:
			var major, minor uint64
			major, e.width[0] = r.number(r.want(tagMajor, stop, "the major version"), math.MaxUint16, "the major version")
			minor, e.width[1] = r.number(r.want(tagMinor, stop, "the minor version"), math.MaxUint16, "the minor version")
			e.Major, e.Minor = uint16(major), uint16(minor)
		case FirmwareEnd:
		case Timestamp:
			e.Value, e.width[0] = r.number(stop, math.MaxUint64, "the timestamp")
		case StateTransition:
			e.Value, e.width[0] = r.number(stop, math.MaxUint32, "the state transition")
		default:
			known = false
			r.value(stop)
		}
		if r.err == nil && r.off != stop {
			r.fail(r.off, "%d bytes are left over in management event %d", stop-r.off, tag)
		}
		m = append(m, e)
	}
	if !known {
		return Unknown{Type: TypeManagement, Encoding: TLV, Raw: r.b[start:end:end]}
	}
	return m
}
