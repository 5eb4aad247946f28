package luks

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strings"
)

// A LUKS2 header begins with 4096 bytes, of which 512 are used (LUKS2, section 2.1), and
// its JSON text follows. Both are there twice.
const (
	binaryLen = 4096
	minCopy   = 16 << 10
	maxCopy   = 4 << 20
	// maxKeySlotsArea is LUKS2_MAX_KEYSLOTS_SIZE.
	maxKeySlotsArea = 128 << 20
)

// luks2Copy is one copy of a LUKS2 header that is certain to have been written as it stands.
type luks2Copy struct {
	which            Copy
	size             uint64 // of the copy: binary header and JSON area
	sequence         uint64
	uuid             string
	label, subsystem string
	json             []byte
	metadata         object
}

// errNotThis is for a copy that cryptsetup does not use: there is none, or its checksum
// does not fit. Whatever else is wrong with a copy is no reason to take the other one.
var errNotThis = errors.New("not a copy of the header")

func notThis(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errNotThis, fmt.Sprintf(format, args...))
}

// openLUKS2 follows LUKS2_disk_hdr_read: the second copy is where the first one says, or,
// where the first is damaged, at the first of the places where one may be.
func openLUKS2(dev device) (*Header, error) {
	first, err1 := dev.copyAt(0, Primary)
	if err1 != nil && !errors.Is(err1, errNotThis) {
		return nil, err1
	}
	var second *luks2Copy
	var err2 error
	if first != nil {
		second, err2 = dev.copyAt(first.size, Secondary)
	} else {
		second, err2 = dev.searchSecond()
	}
	if err2 != nil && !errors.Is(err2, errNotThis) {
		return nil, err2
	}

	var used *luks2Copy
	var reason string
	switch {
	case first == nil && second == nil:
		start, err := dev.read(0, probeLen)
		if err != nil {
			return nil, err
		}
		if kind, _ := identify(start); kind == magicPrimary {
			return nil, damaged("the first copy is %v, and there is no second one", strings.TrimPrefix(err1.Error(), errNotThis.Error()+": "))
		}
		return nil, ErrNotLUKS
	case first == nil:
		used, reason = second, "the first is damaged"
	case second == nil:
		used, reason = first, "the second is damaged"
	case first.sequence > second.sequence:
		used, reason = first, "the second is older"
	case first.sequence < second.sequence:
		used, reason = second, "the first is older"
	default:
		used = first
		if !bytes.Equal(first.json, second.json) || first.uuid != second.uuid || first.label != second.label || first.subsystem != second.subsystem {
			reason = "they have the same sequence id and say different things"
		}
	}
	h, err := used.header(dev)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		return h, &CopyError{used.which, reason}
	}
	return h, nil
}

// searchSecond looks where a second copy may be: behind a first one of any size allowed.
func (d device) searchSecond() (*luks2Copy, error) {
	for off := uint64(minCopy); off <= maxCopy; off *= 2 {
		if c, err := d.copyAt(off, Secondary); !errors.Is(err, errNotThis) {
			return c, err
		}
	}
	return nil, notThis("nowhere is a second one")
}

// copyAt reads a copy and parses it.
func (d device) copyAt(off uint64, which Copy) (*luks2Copy, error) {
	b, err := d.read(off, binaryLen)
	if err != nil {
		return nil, err
	}
	kind, version := identify(b)
	want := magicPrimary
	if which == Secondary {
		want = magicSecondary
	}
	if len(b) < binaryLen || kind != want || version != 2 {
		return nil, notThis("without its magic number")
	}
	c := &luks2Copy{
		which:     which,
		size:      binary.BigEndian.Uint64(b[8:]),
		sequence:  binary.BigEndian.Uint64(b[16:]),
		label:     text(b[24:72]),
		uuid:      text(b[168:208]),
		subsystem: text(b[208:256]),
	}
	if binary.BigEndian.Uint64(b[256:]) != off || c.size < minCopy || c.size > maxCopy || which == Secondary && c.size != off {
		return nil, notThis("out of its place, or without a possible size")
	}
	area, err := d.read(off+binaryLen, int(c.size-binaryLen))
	if err != nil {
		return nil, err
	}
	if uint64(len(area)) < c.size-binaryLen {
		return nil, notThis("cut off by the end of the device")
	}
	if err := checksum(b, area); err != nil {
		return nil, err
	}
	if c.metadata, err = parseJSON(area); err != nil {
		return nil, err
	}
	c.json = bytes.TrimRight(area, "\x00")
	return c, nil
}

// checksum compares a copy with its checksum, which is computed with zeros in its place
// (LUKS2, section 2.1). It finds damage; whoever changes a header changes it as well. An
// algorithm that this program lacks is an error and not damage, for cryptsetup may have it.
func checksum(b, area []byte) error {
	var h hash.Hash
	switch name := text(b[72:104]); name {
	case "sha256":
		h = sha256.New()
	case "sha512":
		h = sha512.New()
	case "sha384":
		h = sha512.New384()
	case "sha1":
		h = sha1.New()
	default:
		return unsupported("its checksum is made with %s", clip(name))
	}
	const at, size = 448, 64
	h.Write(b[:at])
	h.Write(make([]byte, size))
	h.Write(b[at+size:])
	h.Write(area)
	sum := h.Sum(nil)
	if subtle.ConstantTimeCompare(sum, b[at:at+len(sum)]) != 1 {
		return notThis("damaged: its checksum is wrong")
	}
	return nil
}

// header makes a Header of the copy that is used, and reads the key material.
func (c *luks2Copy) header(dev device) (*Header, error) {
	h := &Header{Version: 2, UUID: c.uuid, Label: c.label, Subsystem: c.subsystem, Sequence: c.sequence}
	var f fields
	config := f.object(c.metadata, "the header", "config")
	jsonSize := f.decimal(config, "config", "json_size")
	area := f.decimal(config, "config", "keyslots_size")
	if f.err != nil {
		return nil, f.err
	}
	if jsonSize != c.size-binaryLen || c.size&(c.size-1) != 0 {
		return nil, malformed("its copies have %d bytes, its JSON %d", c.size, jsonSize)
	}
	if area%4096 != 0 || area > maxKeySlotsArea {
		return nil, malformed("its key slots have %d bytes", area)
	}
	end := 2*c.size + area
	h.Length = end
	if !dev.has(end) {
		return nil, damaged("it claims %d bytes, and the device has %d", end, dev.size)
	}
	if err := h.decode(c.metadata, span{2 * c.size, end}); err != nil {
		return nil, err
	}
	if off := h.Segments[0].Offset; off != 0 && off < end {
		return nil, malformed("the data begin at byte %d, within the header", off)
	}
	return h.finish(c.metadata, dev)
}
