package unpack

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// gunzip reads one member of a gzip file (RFC 1952) as the kernel's
// lib/decompress_inflate.c does: it knows no field of the header but the file
// name, and compares no checksum. What gzip(1) takes for an extra field or a
// comment, the kernel takes for the data, so one file could hold two contents.
func gunzip(b []byte, limit int) stream {
	const hasName, trailer = 0x08, 8
	if len(b) < 10 {
		return stream{err: errShort}
	}
	switch {
	case b[2] != 8:
		return stream{err: errors.New("the gzip stream is not deflated")}
	case b[3]&^hasName != 0:
		return stream{err: errors.New("the gzip header has fields that gzip skips and the kernel takes for data")}
	}
	at := 10
	if b[3]&hasName != 0 {
		name := bytes.IndexByte(b[at:], 0)
		if name < 0 {
			return stream{err: errShort}
		}
		at += name + 1
	}
	in := bytes.NewReader(b[at:])
	z := stream{}
	z.out, z.err = readUpTo(flate.NewReader(in), limit)
	if z.err != nil || len(z.out) > limit {
		return z
	}
	at = len(b) - in.Len()
	if in.Len() < trailer {
		z.err = errShort
		return z
	}
	z.used = at + trailer
	if binary.LittleEndian.Uint32(b[at:]) != crc32.ChecksumIEEE(z.out) ||
		binary.LittleEndian.Uint32(b[at+4:]) != uint32(len(z.out)) {
		z.doubt = "the checksum at the end of the gzip stream is wrong, which the kernel does not look at"
	}
	return z
}
