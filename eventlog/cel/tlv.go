package cel

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// Tags of a record's fields in TLV, and their keys in CBOR. In TLV the content's
// type is the tag of the last field.
const (
	tagNumber  = 0
	tagPCR     = 1
	tagNVIndex = 2
	tagDigests = 3
)

// Tags within contents.
const (
	tagEventType = 0
	tagEventData = 1
	tagName      = 0
	tagData      = 1
	tagMajor     = 0
	tagMinor     = 1
)

// AppendTLV appends the records in TLV. Numbers get as many bytes as they need,
// or as they had where they were read from TLV. It fails for what TLV can't hold:
// an algorithm whose number exceeds eight bits, or [Unknown] content of another
// encoding.
func AppendTLV(dst []byte, records []Record) ([]byte, error) {
	for i := range records {
		var err error
		if dst, err = records[i].appendTLV(dst); err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
	}
	return dst, nil
}

func (r *Record) appendTLV(dst []byte) ([]byte, error) {
	if err := r.check(TLV); err != nil {
		return nil, err
	}
	dst = appendNumber(dst, tagNumber, r.Number, r.width[0])
	if r.NV {
		dst = appendNumber(dst, tagNVIndex, uint64(r.NVIndex), r.width[1])
	} else {
		dst = appendNumber(dst, tagPCR, uint64(r.PCR), r.width[1])
	}
	dst, list := openField(dst, tagDigests)
	for _, d := range r.Digests {
		if d.Alg > math.MaxUint8 {
			return nil, fmt.Errorf("TLV has eight bits for an algorithm, too few for %s", d.Alg)
		}
		dst = appendBytes(dst, uint8(d.Alg), d.Digest)
	}
	closeField(dst, list)
	kind := r.Content.Kind()
	if kind <= tagDigests || kind > math.MaxUint8 {
		return nil, fmt.Errorf("TLV has no tag for %s", kind)
	}
	dst, content := openField(dst, uint8(kind))
	dst = appendContent(dst, r.Content)
	closeField(dst, content)
	return dst, nil
}

// appendContent appends the value of the content's field.
func appendContent(dst []byte, content Content) []byte {
	switch c := content.(type) {
	case PCClient:
		dst = appendNumber(dst, tagEventType, uint64(c.Type), c.width)
		return appendBytes(dst, tagEventData, c.Data)
	case IMATemplate:
		return appendBytes(appendBytes(dst, tagName, []byte(c.Name)), tagData, c.Data)
	case IMATLV:
		return append(dst, c.Data...)
	case Management:
		for i := range c {
			dst = c[i].appendTLV(dst)
		}
	case Unknown:
		return append(dst, c.Raw...)
	}
	return dst
}

func (e *ManagementEvent) appendTLV(dst []byte) []byte {
	switch e.Type {
	case Version:
		dst, version := openField(dst, uint8(e.Type))
		dst = appendNumber(dst, tagMajor, uint64(e.Major), e.width[0])
		dst = appendNumber(dst, tagMinor, uint64(e.Minor), e.width[1])
		closeField(dst, version)
		return dst
	case FirmwareEnd:
		return appendBytes(dst, uint8(e.Type), nil)
	}
	return appendNumber(dst, uint8(e.Type), e.Value, e.width[0])
}

func appendBytes(dst []byte, tag uint8, value []byte) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, tag), uint32(len(value)))
	return append(dst, value...)
}

// openField begins a field whose length is not known yet; closeField sets it.
func openField(dst []byte, tag uint8) (grown []byte, value int) {
	dst = append(dst, tag, 0, 0, 0, 0)
	return dst, len(dst)
}

func closeField(dst []byte, value int) {
	binary.BigEndian.PutUint32(dst[value-4:], uint32(len(dst)-value))
}

// needed is how many bytes a number needs, at least one.
func needed(n uint64) int { return max(1, (bits.Len64(n)+7)/8) }

func appendNumber(dst []byte, tag uint8, n uint64, width uint8) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	return appendBytes(dst, tag, b[8-min(8, max(needed(n), int(width))):])
}
