package cel

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

// CBOR's major types (RFC 8949, clause 3.1), in the place where they stand.
const (
	majorUint  = 0 << 5
	majorBytes = 2 << 5
	majorText  = 3 << 5
	majorArray = 4 << 5
	majorMap   = 5 << 5
	majorTag   = 6 << 5
	majorOther = 7 << 5
)

// Keys of a record's map, beside the tags that TLV has too, and of the maps in it
// (CEL 1.1, clause 5.2).
const (
	keyContentType = 9
	keyContent     = 10

	keyAlg    = 0
	keyDigest = 1

	keyManagementType = 0
	keyManagementData = 1
)

// AppendCBOR appends the records as one CBOR array in deterministic encoding. It
// fails for what CBOR can't hold: several management events in a record, an IMA
// template's name that is not UTF-8, or [Unknown] content of another encoding.
func AppendCBOR(dst []byte, records []Record) ([]byte, error) {
	dst = appendHead(dst, majorArray, uint64(len(records)))
	for i := range records {
		r := &records[i]
		if err := r.check(CBOR); err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
		dst = appendHead(dst, majorMap, 5)
		dst = appendPair(dst, tagNumber, r.Number)
		if r.NV {
			dst = appendPair(dst, tagNVIndex, uint64(r.NVIndex))
		} else {
			dst = appendPair(dst, tagPCR, uint64(r.PCR))
		}
		dst = appendHead(appendHead(dst, majorUint, tagDigests), majorArray, uint64(len(r.Digests)))
		for _, d := range r.Digests {
			dst = appendPair(appendHead(dst, majorMap, 2), keyAlg, uint64(d.Alg))
			dst = appendString(appendHead(dst, majorUint, keyDigest), majorBytes, d.Digest)
		}
		dst = appendPair(dst, keyContentType, uint64(r.Content.Kind()))
		dst = appendHead(dst, majorUint, keyContent)
		var err error
		if dst, err = appendItem(dst, r.Content); err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
	}
	return dst, nil
}

// appendItem appends the content.
func appendItem(dst []byte, content Content) ([]byte, error) {
	switch c := content.(type) {
	case PCClient:
		dst = appendHead(appendHead(dst, majorMap, 2), majorUint, tagEventType)
		if c.label != "" && c.labelled == c.Type {
			dst = appendString(dst, majorText, []byte(c.label))
		} else {
			dst = appendHead(dst, majorUint, uint64(c.Type))
		}
		return appendString(appendHead(dst, majorUint, tagEventData), majorBytes, c.Data), nil
	case IMATemplate:
		if !utf8.ValidString(c.Name) {
			return nil, fmt.Errorf("the IMA template's name %q is no text", c.Name)
		}
		dst = appendString(appendHead(appendHead(dst, majorMap, 2), majorUint, tagName), majorText, []byte(c.Name))
		return appendString(appendHead(dst, majorUint, tagData), majorBytes, c.Data), nil
	case IMATLV:
		return appendString(dst, majorBytes, c.Data), nil
	case Management:
		for i := range c {
			dst = c[i].appendCBOR(dst)
		}
	case Unknown:
		return append(dst, c.Raw...), nil
	}
	return dst, nil
}

func (e *ManagementEvent) appendCBOR(dst []byte) []byte {
	if e.Type == FirmwareEnd {
		return appendPair(appendHead(dst, majorMap, 1), keyManagementType, uint64(e.Type))
	}
	dst = appendPair(appendHead(dst, majorMap, 2), keyManagementType, uint64(e.Type))
	if e.Type != Version {
		return appendPair(dst, keyManagementData, e.Value)
	}
	dst = appendHead(appendHead(dst, majorUint, keyManagementData), majorMap, 2)
	return appendPair(appendPair(dst, tagMajor, uint64(e.Major)), tagMinor, uint64(e.Minor))
}

// appendHead appends an item's first bytes, in the shortest form.
func appendHead(dst []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n <= math.MaxUint8:
		return append(dst, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), n)
}

// appendPair appends a key and a number.
func appendPair(dst []byte, key, n uint64) []byte {
	return appendHead(appendHead(dst, majorUint, key), majorUint, n)
}

func appendString(dst []byte, major byte, s []byte) []byte {
	return append(appendHead(dst, major, uint64(len(s))), s...)
}
