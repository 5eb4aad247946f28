package cel

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// maxDepth is how deep the items of a content may lie that is not known.
const maxDepth = 16

// ReadCBOR reads a log in CBOR: one array of records, deterministically encoded,
// and nothing after it. Where it is malformed, ReadCBOR returns the records before
// that and a [*SyntaxError]. The records alias b.
func ReadCBOR(b []byte) ([]Record, error) {
	r := cborReader{b: b}
	n := r.count(majorArray, "the log")
	var records []Record
	for range n {
		r.record = len(records)
		if r.record == maxRecords {
			r.fail(r.off, "there are more than %d records", maxRecords)
			break
		}
		rec := r.read()
		if r.err != nil {
			break
		}
		records = append(records, rec)
	}
	if r.record = len(records); r.off != len(b) {
		r.fail(r.off, "%d bytes follow the log", len(b)-r.off)
	}
	return records, r.err
}

// cborReader walks over the bytes. After the first error it reads nothing more,
// and what it returns means nothing.
type cborReader struct {
	b      []byte
	off    int
	record int
	err    error
	types  map[string]eventlog.Type // made when the first name is met
}

func (r *cborReader) fail(off int, format string, args ...any) {
	if r.err == nil {
		r.err = &SyntaxError{Encoding: CBOR, Offset: off, Record: r.record, Reason: fmt.Sprintf(format, args...)}
	}
}

// head reads an item's major type and argument. Other than the shortest form of
// an argument, or an item without a length, is refused.
func (r *cborReader) head(name string) (major byte, n uint64) {
	if r.err != nil {
		return 0, 0
	}
	if r.off == len(r.b) {
		r.fail(r.off, "the log ends before %s", name)
		return 0, 0
	}
	at := r.off
	major, info := r.b[at]&0xe0, r.b[at]&0x1f
	r.off++
	if info < 24 {
		return major, uint64(info)
	}
	if info > 27 {
		r.fail(at, "%s begins with the byte %#02x, which no deterministic encoding has", name, r.b[at])
		return 0, 0
	}
	size := 1 << (info - 24)
	if len(r.b)-r.off < size {
		r.fail(at, "the log ends within %s", name)
		return 0, 0
	}
	for _, c := range r.b[r.off : r.off+size] {
		n = n<<8 | uint64(c)
	}
	r.off += size
	least := uint64(1) << (4 * size) // of what needs that many bytes
	switch {
	case major == majorOther && size > 1:
		least = 0 // floats, which are as long as they are
	case major == majorOther:
		least = 32
	case size == 1:
		least = 24
	}
	if n < least {
		r.fail(at, "%s is not in its shortest form", name)
	}
	return major, n
}

func (r *cborReader) want(major byte, name string) uint64 {
	at := r.off
	got, n := r.head(name)
	if r.err == nil && got != major {
		r.fail(at, "%s has the CBOR type %d, not %d", name, got>>5, major>>5)
	}
	return n
}

// count reads how many items an array or a map has. They must fit what is left,
// at a byte each.
func (r *cborReader) count(major byte, name string) int {
	at := r.off
	n := r.want(major, name)
	if left := uint64(len(r.b) - r.off); r.err == nil && n > left {
		r.fail(at, "%s claims %d items, and %d bytes are left", name, n, left)
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

func (r *cborReader) exactly(major byte, n int, name string) {
	at := r.off
	if got := r.count(major, name); r.err == nil && got != n {
		r.fail(at, "%s has %d items, not %d", name, got, n)
	}
}

func (r *cborReader) number(most uint64, name string) uint64 {
	at := r.off
	n := r.want(majorUint, name)
	if r.err == nil && n > most {
		r.fail(at, "%s is %d, more than the %d that it can be", name, n, most)
	}
	return n
}

func (r *cborReader) key(key uint64, name string) {
	at := r.off
	if got := r.number(math.MaxUint64, "the key of "+name); r.err == nil && got != key {
		r.fail(at, "there is the key %d in place of %s, which has %d", got, name, key)
	}
}

func (r *cborReader) bytes(major byte, name string) []byte {
	at := r.off
	n := r.count(major, name)
	if r.err != nil {
		return nil
	}
	s := r.b[r.off : r.off+n : r.off+n]
	r.off += n
	if major == majorText && !utf8.Valid(s) {
		r.fail(at, "%s is no UTF-8", name)
	}
	return s
}

func (r *cborReader) read() (rec Record) {
	r.exactly(majorMap, 5, "the record")
	r.key(tagNumber, "the record's number")
	rec.Number = r.number(math.MaxUint64, "the record's number")
	at := r.off
	key := r.number(math.MaxUint64, "the key of the PCR or NV index")
	index := uint32(r.number(math.MaxUint32, "the PCR or NV index"))
	switch key {
	case tagPCR:
		rec.PCR = tpm.PCR(index)
	case tagNVIndex:
		rec.NV, rec.NVIndex = true, index
	default:
		r.fail(at, "there is the key %d in place of the PCR or NV index", key)
	}
	r.key(tagDigests, "the digests")
	for range r.count(majorArray, "the list of digests") {
		at := r.off
		r.exactly(majorMap, 2, "a digest")
		r.key(keyAlg, "a digest's algorithm")
		alg := tpm.Alg(r.number(math.MaxUint16, "a digest's algorithm"))
		r.key(keyDigest, "a digest's value")
		d := tpm.TaggedDigest{Alg: alg, Digest: r.bytes(majorBytes, "a digest's value")}
		if reason := checkDigest(d, rec.Digests); reason != "" {
			r.fail(at, "%s", reason)
		}
		if r.err != nil {
			return rec
		}
		rec.Digests = append(rec.Digests, d)
	}
	r.key(keyContentType, "the content's type")
	kind := ContentType(r.number(math.MaxUint64, "the content's type"))
	r.key(keyContent, "the content")
	rec.Content = r.content(kind)
	return rec
}

func (r *cborReader) content(kind ContentType) Content {
	if r.err != nil {
		return nil
	}
	start := r.off
	switch kind {
	case TypePCClient:
		if c, ok := r.pcClient(); ok || r.err != nil {
			return c
		}
	case TypeIMATemplate:
		r.exactly(majorMap, 2, "the IMA template")
		r.key(tagName, "the template's name")
		name := r.bytes(majorText, "the template's name")
		r.key(tagData, "the template's data")
		return IMATemplate{Name: string(name), Data: r.bytes(majorBytes, "the template's data")}
	case TypeIMATLV:
		return IMATLV{Data: r.bytes(majorBytes, "the IMA entry")}
	case TypeManagement:
		if m, ok := r.management(); ok || r.err != nil {
			return m
		}
	}
	// A kind that is not known, or one of the kinds above with something in it that
	// is not: the item is carried as a whole.
	r.off = start
	r.skip(0)
	return Unknown{Type: kind, Encoding: CBOR, Raw: r.b[start:r.off:r.off]}
}

// pcClient reads a firmware event. It is not ok where the event's type has a name
// that is not known.
func (r *cborReader) pcClient() (c PCClient, ok bool) {
	r.exactly(majorMap, 2, "the firmware event")
	r.key(tagEventType, "the event's type")
	ok = true
	if r.err == nil && r.off < len(r.b) && r.b[r.off]&0xe0 == majorText {
		c.label = string(r.bytes(majorText, "the event's type"))
		if r.types == nil {
			r.types = typesByName()
		}
		c.Type, ok = r.types[strings.ToUpper(c.label)]
		c.labelled = c.Type
	} else {
		c.Type = eventlog.Type(r.number(math.MaxUint32, "the event's type"))
	}
	r.key(tagEventData, "the event's data")
	c.Data = r.bytes(majorBytes, "the event's data")
	return c, ok
}

// management reads a management event. It is not ok where its type is not known.
func (r *cborReader) management() (m Management, ok bool) {
	at := r.off
	n := r.count(majorMap, "the management event")
	if n == 0 {
		// What follows an empty map is not the map's.
		r.fail(at, "the management event has 0 items")
	}
	r.key(keyManagementType, "the management event's type")
	t := r.number(math.MaxUint64, "the management event's type")
	if r.err != nil {
		return nil, false
	}
	switch {
	case t > math.MaxUint8 || managementNames[ManagementType(t)] == "":
		return nil, false
	case n == 1 && ManagementType(t) == FirmwareEnd:
		return Management{{Type: FirmwareEnd}}, true
	case n != 2 || ManagementType(t) == FirmwareEnd:
		r.fail(at, "the management event %s has %d items", managementNames[ManagementType(t)], n)
		return nil, false
	}
	e := ManagementEvent{Type: ManagementType(t)}
	r.key(keyManagementData, "the management event's data")
	switch e.Type {
	case Version:
		r.exactly(majorMap, 2, "the version")
		r.key(tagMajor, "the major version")
		e.Major = uint16(r.number(math.MaxUint16, "the major version"))
		r.key(tagMinor, "the minor version")
		e.Minor = uint16(r.number(math.MaxUint16, "the minor version"))
	case Timestamp:
		e.Value = r.number(math.MaxUint64, "the timestamp")
	case StateTransition:
		e.Value = r.number(math.MaxUint32, "the state transition")
	}
	return Management{e}, true
}

// skip passes over one item. The keys of maps must ascend as bytes, which also
// keeps any from standing twice.
func (r *cborReader) skip(depth int) {
	at := r.off
	if depth > maxDepth {
		r.fail(at, "the content lies more than %d items deep", maxDepth)
		return
	}
	major, _ := r.head("the content")
	if r.err != nil {
		return
	}
	switch major {
	case majorBytes, majorText:
		r.off = at
		r.bytes(major, "a string in the content")
	case majorArray:
		r.off = at
		for range r.count(major, "a list in the content") {
			if r.skip(depth + 1); r.err != nil {
				return
			}
		}
	case majorMap:
		r.off = at
		var before []byte
		for range r.count(major, "a map in the content") {
			key := r.off
			if r.skip(depth + 1); r.err != nil {
				return
			}
			if before != nil && bytes.Compare(before, r.b[key:r.off]) >= 0 {
				r.fail(key, "the keys of a map in the content do not ascend")
				return
			}
			before = r.b[key:r.off]
			if r.skip(depth + 1); r.err != nil {
				return
			}
		}
	case majorTag:
		r.skip(depth + 1)
	}
}
