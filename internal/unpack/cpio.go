package unpack

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
)

// headerSize is the length of an entry's header in the "newc" format: a magic
// number of 6 digits and 13 numbers of 8 hexadecimal digits
// (Documentation/driver-api/early-userspace/buffer-format.rst).
const headerSize = 110

// The file types of st_mode.
const (
	typeMask   = 0o170000
	typeSocket = 0o140000
	typeLink   = 0o120000
	typeFile   = 0o100000
	typeBlock  = 0o060000
	typeDir    = 0o040000
	typeChar   = 0o020000
	typeFIFO   = 0o010000
	permMask   = 0o007777
)

// entry is one entry of an archive as it stands there.
type entry struct {
	ino, devMajor, devMinor uint32 // what makes two entries the same file
	mode                    uint32
	uid, gid                uint32
	links                   uint32
	major, minor            uint32 // of a device node
	name                    string
	body                    []byte // aliases the archive
	badSum                  bool   // the contents don't have the checksum of a 070702 header
}

// parse reads the entry with which b begins and returns how many bytes it takes
// with its padding. b[0] stands at a multiple of four.
//
// The kernel skips an entry with a name or a body that it has no room for, but
// how far depends on how its decompressor cuts the stream, so such an entry is an
// error here.
func parse(b []byte) (entry, int, error) {
	if len(b) < headerSize {
		return entry{}, 0, fmt.Errorf("the header of an entry is cut off after %d bytes", len(b))
	}
	magic := string(b[:6])
	switch magic {
	case "070701", "070702":
	case "070707":
		return entry{}, 0, errors.New("the archive is in cpio's old format; the kernel only takes newc")
	default:
		return entry{}, 0, fmt.Errorf("%q is no magic number of a cpio entry", magic)
	}
	var n [13]uint32
	for i := range n {
		digits := string(b[6+8*i : 14+8*i])
		v, err := strconv.ParseUint(digits, 16, 32)
		if err != nil {
			return entry{}, 0, fmt.Errorf("field %d of an entry's header is %q, not 8 hexadecimal digits", i+1, digits)
		}
		n[i] = uint32(v)
	}
	// MKDEV packs both numbers into 32 bits: a minor number above 20 bits runs into the major number.
	dev := n[9]<<20 | n[10]
	e := entry{
		ino: n[0], mode: n[1] & 0xffff, uid: n[2], gid: n[3], links: n[4],
		devMajor: n[7], devMinor: n[8], major: dev >> 20, minor: dev & 0xfffff,
	}
	bodySize, nameSize, check := uint64(n[6]), uint64(n[11]), n[12]
	if nameSize == 0 || nameSize > MaxPath {
		return entry{}, 0, fmt.Errorf("a name has %d bytes; the kernel takes 1 to %d", nameSize, MaxPath)
	}
	rest := b[headerSize:]
	if uint64(len(rest)) < nameSize {
		return entry{}, 0, fmt.Errorf("a name of %d bytes is cut off after %d", nameSize, len(rest))
	}
	if rest[nameSize-1] != 0 {
		return entry{}, 0, errors.New("a name does not end with a zero")
	}
	e.name = cString(rest[:nameSize])
	bodyAt := align4(headerSize + nameSize)
	switch {
	case e.isType(typeLink) && bodySize > MaxPath:
		return entry{}, 0, fmt.Errorf("%q is a symbolic link to a path of %d bytes", e.name, bodySize)
	case !e.isType(typeLink) && !e.isType(typeFile) && bodySize > 0:
		return entry{}, 0, fmt.Errorf("%q has contents, but is no file", e.name)
	case uint64(len(b)) < bodyAt+bodySize:
		return entry{}, 0, fmt.Errorf("the %d bytes of %q are cut off", bodySize, e.name)
	}
	e.body = b[bodyAt : bodyAt+bodySize]
	if magic == "070702" && e.isType(typeFile) {
		var sum uint32
		for _, c := range e.body {
			sum += uint32(c)
		}
		e.badSum = sum != check
	}
	// The padding after the last entry may be missing.
	return e, int(min(align4(bodyAt+bodySize), uint64(len(b)))), nil
}

func (e *entry) isType(t uint32) bool { return e.mode&typeMask == t }

// file is the entry as a listing shows it where the kernel makes nothing of it.
func (e *entry) file(segment int) File {
	f := File{Path: e.name, Mode: e.mode, UID: e.uid, GID: e.gid, Segment: segment}
	switch e.mode & typeMask {
	case typeFile:
		f.Size, f.Sum = int64(len(e.body)), sha256.Sum256(e.body)
	case typeLink:
		f.Target = cString(e.body)
		f.Size = int64(len(f.Target))
	case typeBlock, typeChar:
		f.Major, f.Minor = e.major, e.minor
	}
	return f
}

// cString is the text before the first zero. The kernel sees no more of a name
// than that: "init\x00.bak" is init.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func align4(n uint64) uint64 { return (n + 3) &^ 3 }
