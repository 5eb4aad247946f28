package unpack

import (
	"encoding/binary"
	"errors"
	"slices"
)

var errLZO = errors.New("the LZO data are damaged")

// lzo1x unpacks one LZO1X block to the end of out. The format is that of the
// kernel's Documentation/staging/lzo.rst: instructions that copy literals or
// repeat what came out before, where the number of literals after the last
// instruction decides what a small opcode means.
func lzo1x(out, src []byte, size int) ([]byte, error) {
	z := lzoBlock{in: cursor{b: src}, out: slices.Grow(out, size), start: len(out), end: len(out) + size}
	zeroRuns := false
	if len(src) >= 5 && src[0] == 17 { // a version, of which all but 0 have runs of zeros
		zeroRuns = src[1] != 0
		z.in.take(2)
	}
	state := 0 // literals after the last instruction; 4 for more than 3
	if z.in.at < len(src) && src[z.in.at] > 17 {
		n := int(z.in.uint8()) - 17
		z.literals(n)
		state = min(n, 4)
	}
	for !z.failed && !z.in.short {
		op := int(z.in.uint8())
		var distance, length, after int
		switch {
		case op < 16 && state == 0:
			z.literals(3 + z.length(op, 15))
			state = 4
			continue
		case op < 16:
			distance, length, after = 1+op>>2+int(z.in.uint8())<<2, 2, op&3
			if state == 4 {
				distance, length = distance+2048, 3
			}
		case op >= 64:
			distance, length, after = 1+op>>2&7+int(z.in.uint8())<<3, op>>5+1, op&3
		case op >= 32:
			length = 2 + z.length(op&31, 31)
			d := z.le16()
			distance, after = 1+d>>2, d&3
		case zeroRuns && op&8 != 0 && z.peek16()>>2 == 0x3fff:
			after = z.le16() & 3
			z.zeros(int(z.in.uint8())<<3 + op&7 + 4)
			z.literals(after)
			state = after
			continue
		default:
			length = 2 + z.length(op&7, 7)
			d := z.le16()
			distance, after = op&8<<11+d>>2, d&3
			if distance == 0 { // the end, which has one form only
				if length != 3 || z.in.at != len(src) || len(z.out) != z.end {
					z.failed = true
				}
				if z.failed || z.in.short {
					return z.out, errLZO
				}
				return z.out, nil
			}
			distance += 0x4000
		}
		z.repeat(distance, length)
		z.literals(after)
		state = after
	}
	return z.out, errLZO
}

// lzoBlock is a block that is being unpacked. failed is set where an instruction
// reaches outside.
type lzoBlock struct {
	in         cursor
	out        []byte
	start, end int // of the block in out
	failed     bool
}

// length reads a length that did not fit into the instruction: bytes of zero
// stand for 255 each.
func (z *lzoBlock) length(short, base int) int {
	if short != 0 {
		return short
	}
	n := base
	for n <= z.end-z.start {
		c := z.in.uint8()
		if c != 0 {
			return n + int(c)
		}
		n += 255
	}
	z.failed = true
	return 0
}

func (z *lzoBlock) le16() int {
	if b := z.in.take(2); b != nil {
		return int(binary.LittleEndian.Uint16(b))
	}
	return 0
}

func (z *lzoBlock) peek16() int {
	ahead := z.in
	if b := ahead.take(2); b != nil {
		return int(binary.LittleEndian.Uint16(b))
	}
	return 0
}

func (z *lzoBlock) room(n int) bool {
	if n > z.end-len(z.out) {
		z.failed = true
	}
	return !z.failed && !z.in.short
}

func (z *lzoBlock) literals(n int) {
	if z.room(n) {
		z.out = append(z.out, z.in.take(n)...)
	}
}

func (z *lzoBlock) zeros(n int) {
	if z.room(n) {
		z.out = append(z.out, make([]byte, n)...)
	}
}

func (z *lzoBlock) repeat(distance, n int) {
	if !z.room(n) {
		return
	}
	if distance > len(z.out)-z.start {
		z.failed = true
		return
	}
	z.out = repeat(z.out, distance, n)
}

// repeat appends n bytes that stand distance before the end, one after the other:
// what was just appended may be repeated as well. 0 < distance <= len(out).
func repeat(out []byte, distance, n int) []byte {
	for n > 0 {
		piece := out[len(out)-distance:]
		if len(piece) > n {
			piece = piece[:n]
		}
		out = append(out, piece...)
		n -= len(piece)
	}
	return out
}
