package unpack

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/crc64"
)

var errXZ = errors.New("the xz stream is damaged")

// unxz reads one xz stream (xz-file-format.txt, 1.2.1) as the kernel's lib/xz
// does, with LZMA2 and x86's branch filter. xz(1) would go on with the next
// stream and skip padding; for the kernel that is the next archive.
func unxz(b []byte, limit int) stream {
	x := xzReader{b: b, limit: limit}
	x.stream()
	z := stream{out: x.out, used: x.at, err: x.err}
	const crc32Check = 1
	if x.err == nil && x.check > crc32Check {
		z.doubt = "the xz stream's check is not CRC32, so the kernel refuses it and stops here (xz --check=crc32)"
	}
	return z
}

// xzReader reads an xz stream. After the first error it reads zeros.
type xzReader struct {
	b     []byte
	at    int
	out   []byte
	limit int
	check byte
	index []xzBlock
	err   error
}

// xzBlock has the sizes of a block: in the index with header and check, in the
// block's header without.
type xzBlock struct{ packed, unpacked uint64 }

func (x *xzReader) fail(err error) {
	if x.err == nil {
		x.err = err
	}
}

// take returns n bytes, or nil if there are not so many.
func (x *xzReader) take(n int) []byte {
	if x.err == nil && len(x.b)-x.at < n {
		x.fail(errShort)
	}
	if x.err != nil {
		return nil
	}
	x.at += n
	return x.b[x.at-n : x.at]
}

// is fails if something is not as the format wants it.
func (x *xzReader) is(ok bool) bool {
	if !ok {
		x.fail(errXZ)
	}
	return x.err == nil
}

// sealed takes n bytes and their CRC32.
func (x *xzReader) sealed(n int) []byte {
	b, sum := x.take(n), x.take(4)
	if sum == nil || !x.is(crc32.ChecksumIEEE(b) == binary.LittleEndian.Uint32(sum)) {
		return nil
	}
	return b
}

func (x *xzReader) stream() {
	const magic, endMagic = "\xfd7zXZ\x00", "YZ"
	x.is(string(x.take(len(magic))) == magic)
	flags := x.sealed(2)
	if flags == nil || !x.is(flags[0] == 0 && flags[1] < 16) {
		return
	}
	x.check = flags[1]
	for x.err == nil && x.at < len(x.b) && x.b[x.at] != 0 {
		x.block()
	}
	indexSize := x.readIndex()
	sum, tail, end := x.take(4), x.take(6), x.take(2)
	if end == nil {
		return
	}
	x.is(string(end) == endMagic && bytes.Equal(tail[4:], flags) &&
		crc32.ChecksumIEEE(tail) == binary.LittleEndian.Uint32(sum) &&
		(uint64(binary.LittleEndian.Uint32(tail))+1)*4 == uint64(indexSize))
}

// block reads a block: its header, the data, padding and a check.
func (x *xzReader) block() {
	start := x.at
	dict, x86, sizes, ok := x.blockHeader()
	if !ok {
		return
	}
	dataAt, outAt := x.at, len(x.out)
	used, out, err := unlzma2(x.b[x.at:], x.out, dict, x.limit)
	x.out = out
	if x86 {
		unfilterX86(x.out[outAt:])
	}
	x.at += used
	if err != nil {
		x.fail(err)
		return
	}
	size := [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[x.check]
	entry := xzBlock{uint64(x.at - start + size), uint64(len(x.out) - outAt)}
	x.is(sizes.packed == unknownSize || sizes.packed == uint64(x.at-dataAt))
	x.is(sizes.unpacked == unknownSize || sizes.unpacked == entry.unpacked)
	x.padding(start)
	sum := x.take(size)
	if x.err != nil {
		return
	}
	x.is(checked(x.check, x.out[outAt:], sum))
	x.index = append(x.index, entry)
}

const unknownSize = 1<<64 - 1

// blockHeader reads what is done to the block's data, and the sizes of data and
// output if it says them.
func (x *xzReader) blockHeader() (dict uint64, x86 bool, sizes xzBlock, ok bool) {
	const hasPacked, hasUnpacked, reserved, filters = 0x40, 0x80, 0x3c, 0x03
	const filterX86, filterLZMA2 = 0x04, 0x21
	h := x.sealed(int(x.b[x.at]) * 4)
	if h == nil {
		return 0, false, xzBlock{}, false
	}
	in := xzReader{b: h, at: 2}
	sizes = xzBlock{unknownSize, unknownSize}
	if h[1]&hasPacked != 0 {
		sizes.packed = in.number()
	}
	if h[1]&hasUnpacked != 0 {
		sizes.unpacked = in.number()
	}
	n := h[1]&filters + 1
	if n == 2 {
		id, properties := in.number(), in.number()
		if in.err == nil && (id != filterX86 || properties != 0) {
			x.fail(fmt.Errorf("the xz stream has filter %#x, which the kernel does not have or not on this kind of machine", id))
		}
		x86 = true
	}
	id, properties, size := in.number(), in.number(), in.take(1)
	if in.err != nil || !x.is(h[1]&reserved == 0 && n <= 2 && id == filterLZMA2 && properties == 1 && size[0] < 40) {
		x.is(false)
		return 0, false, xzBlock{}, false
	}
	x.is(len(bytes.Trim(h[in.at:], "\x00")) == 0)
	return (2 | uint64(size[0])&1) << (size[0]/2 + 11), x86, sizes, x.err == nil
}

// number reads a number of 1 to 9 bytes with 7 bits each, the lowest first.
func (x *xzReader) number() uint64 {
	n := uint64(0)
	for i := range 9 {
		c := x.take(1)
		if c == nil {
			return 0
		}
		n |= uint64(c[0]&0x7f) << (7 * i)
		if c[0] < 0x80 {
			x.is(c[0] != 0 || i == 0)
			return n
		}
	}
	x.is(false)
	return 0
}

func (x *xzReader) padding(start int) {
	for x.err == nil && (x.at-start)%4 != 0 {
		if c := x.take(1); c != nil {
			x.is(c[0] == 0)
		}
	}
}

// readIndex compares the index with the blocks that came before, and returns its size.
func (x *xzReader) readIndex() int {
	start := x.at
	if c := x.take(1); c == nil || !x.is(c[0] == 0) {
		return 0
	}
	x.is(x.number() == uint64(len(x.index)))
	for _, want := range x.index {
		got := xzBlock{x.number(), x.number()}
		x.is(got == want)
	}
	x.padding(start)
	if x.err != nil {
		return 0
	}
	n := x.at - start
	x.at = start
	x.sealed(n)
	return x.at - start
}

// checked compares a block's contents with its check. Checks that nobody has
// defined are passed over, as xz(1) does with a warning.
func checked(kind byte, b, sum []byte) bool {
	switch kind {
	case 1:
		return crc32.ChecksumIEEE(b) == binary.LittleEndian.Uint32(sum)
	case 4:
		return crc64.Checksum(b, crc64.MakeTable(crc64.ECMA)) == binary.LittleEndian.Uint64(sum)
	case 10:
		return sha256.Sum256(b) == [32]byte(sum)
	}
	return true
}
