package unpack

import (
	"encoding/binary"
	"errors"
	"math"
)

var errLZMA = errors.New("the LZMA data are damaged")

// unlzma reads a file of lzma(1), the format before xz, as the kernel's
// lib/decompress_unlzma.c does: if the header says how much comes out, reading
// ends there, otherwise at an end mark.
func unlzma(b []byte, limit int) stream {
	const headerSize, unknown = 13, math.MaxUint64
	z := stream{}
	if len(b) < headerSize {
		z.err = errShort
		return z
	}
	d := lzmaDecoder{dict: max(1, uint64(binary.LittleEndian.Uint32(b[1:])))}
	if !d.properties(b[0]) {
		z.err = errors.New("the LZMA header is damaged")
		return z
	}
	size := binary.LittleEndian.Uint64(b[5:])
	end := math.MaxInt
	if size < math.MaxInt {
		end = int(size)
	}
	d.reset()
	d.start(b[headerSize:])
	ended, err := d.decode(end, limit)
	if err == nil && ended && size != unknown && uint64(len(d.out)) != size {
		err = errLZMA
	}
	return stream{out: d.out, used: headerSize + d.at, err: err}
}

// lzmaDecoder unpacks LZMA (the LZMA SDK's lzma-specification.txt). It writes
// straight to the output and looks back in it, so that no dictionary is set aside
// and its size, which only the input gives, costs nothing.
type lzmaDecoder struct {
	src        []byte
	at         int
	short      bool // src ended too early; zeros were read instead
	width      uint32
	code       uint32
	out        []byte
	base       int    // where in out the dictionary begins
	dict       uint64 // how far a match may look back
	lc, lp, pb uint

	state      int
	rep        [4]uint32 // the last distances, less one
	isMatch    [12][16]prob
	isRep      [12]prob
	isRep0     [12]prob
	isRep1     [12]prob
	isRep2     [12]prob
	isRep0Long [12][16]prob
	slots      [4][64]prob
	near       [115]prob
	align      [16]prob
	matchLen   lengthCoder
	repLen     lengthCoder
	literals   []prob
}

// prob is the probability of a zero, in 1/2048.
type prob uint16

type lengthCoder struct {
	choice, choice2 prob
	low, mid        [16][8]prob
	high            [256]prob
}

// properties takes the byte that holds lc, lp and pb. LZMA2 wants lc+lp to be 4 at
// most; for lzma(1)'s format the kernel knows no other byte than 0x5d.
func (d *lzmaDecoder) properties(b byte) bool {
	d.lc, d.lp, d.pb = uint(b)%9, uint(b)/9%5, uint(b)/45
	return d.pb < 5 && d.lc+d.lp <= 4
}

// reset brings the model to its beginning.
func (d *lzmaDecoder) reset() {
	fill := func(p []prob) {
		for i := range p {
			p[i] = 1024
		}
	}
	d.state, d.rep = 0, [4]uint32{}
	for i := range d.isMatch {
		fill(d.isMatch[i][:])
		fill(d.isRep0Long[i][:])
	}
	for _, p := range [][]prob{d.isRep[:], d.isRep0[:], d.isRep1[:], d.isRep2[:], d.near[:], d.align[:]} {
		fill(p)
	}
	for i := range d.slots {
		fill(d.slots[i][:])
	}
	for _, l := range []*lengthCoder{&d.matchLen, &d.repLen} {
		l.choice, l.choice2 = 1024, 1024
		for i := range l.low {
			fill(l.low[i][:])
			fill(l.mid[i][:])
		}
		fill(l.high[:])
	}
	n := 0x300 << (d.lc + d.lp)
	if cap(d.literals) < n {
		d.literals = make([]prob, n)
	}
	d.literals = d.literals[:n]
	fill(d.literals)
}

// start begins to read the range coder's bytes.
func (d *lzmaDecoder) start(src []byte) {
	d.src, d.at, d.short = src, 0, false
	d.width, d.code = math.MaxUint32, 0
	for range 5 {
		d.code = d.code<<8 | d.next()
	}
}

func (d *lzmaDecoder) next() uint32 {
	if d.at == len(d.src) {
		d.short = true
		return 0
	}
	d.at++
	return uint32(d.src[d.at-1])
}

func (d *lzmaDecoder) normalize() {
	if d.width < 1<<24 {
		d.width <<= 8
		d.code = d.code<<8 | d.next()
	}
}

func (d *lzmaDecoder) bit(p *prob) uint32 {
	d.normalize()
	bound := d.width >> 11 * uint32(*p)
	if d.code < bound {
		d.width = bound
		*p += (2048 - *p) >> 5
		return 0
	}
	d.width -= bound
	d.code -= bound
	*p -= *p >> 5
	return 1
}

// tree reads a number of len(p) = 2^bits values.
func (d *lzmaDecoder) tree(p []prob) uint32 {
	m := uint32(1)
	for m < uint32(len(p)) {
		m = m<<1 | d.bit(&p[m])
	}
	return m - uint32(len(p))
}

// reverse reads a number of so many bits, the lowest first.
func (d *lzmaDecoder) reverse(p []prob, bits uint32) uint32 {
	m, n := uint32(1), uint32(0)
	for i := range bits {
		b := d.bit(&p[m])
		m = m<<1 | b
		n |= b << i
	}
	return n
}

// direct reads bits that have no model.
func (d *lzmaDecoder) direct(bits uint32) uint32 {
	n := uint32(0)
	for range bits {
		d.normalize()
		d.width >>= 1
		n <<= 1
		if d.code >= d.width {
			d.code -= d.width
			n |= 1
		}
	}
	return n
}

func (d *lzmaDecoder) length(l *lengthCoder, pos uint32) int {
	if d.bit(&l.choice) == 0 {
		return 2 + int(d.tree(l.low[pos][:]))
	}
	if d.bit(&l.choice2) == 0 {
		return 10 + int(d.tree(l.mid[pos][:]))
	}
	return 18 + int(d.tree(l.high[:]))
}

// distance reads how far back a match of so many bytes begins, less one.
func (d *lzmaDecoder) distance(length int) uint32 {
	slot := d.tree(d.slots[min(length-2, 3)][:])
	if slot < 4 {
		return slot
	}
	bits := slot>>1 - 1
	n := (2 | slot&1) << bits
	if slot < 14 {
		return n + d.reverse(d.near[n-slot:], bits)
	}
	return n + d.direct(bits-4)<<4 + d.reverse(d.align[:], 4)
}

func (d *lzmaDecoder) literal() byte {
	var prev byte
	if len(d.out) > d.base {
		prev = d.out[len(d.out)-1]
	}
	low := uint(len(d.out)-d.base) & (1<<d.lp - 1)
	p := d.literals[0x300*(low<<d.lc+uint(prev)>>(8-d.lc)):]
	m := uint32(1)
	if d.state >= 7 {
		// After a match the byte differs from the one that would have gone on with it.
		match := uint32(d.out[len(d.out)-int(d.rep[0])-1])
		for m < 0x100 {
			match <<= 1
			expected := match & 0x100
			b := d.bit(&p[0x100+expected+m])
			m = m<<1 | b
			if expected>>8 != b {
				break
			}
		}
	}
	for m < 0x100 {
		m = m<<1 | d.bit(&p[m])
	}
	return byte(m)
}

// decode unpacks until out has end bytes or an end mark comes. It stops with
// ErrTooLarge where out has more than limit bytes.
func (d *lzmaDecoder) decode(end, limit int) (ended bool, err error) {
	for len(d.out) < end {
		pos := uint32(len(d.out)-d.base) & (1<<d.pb - 1)
		length := 0
		switch {
		case d.bit(&d.isMatch[d.state][pos]) == 0:
			d.out = append(d.out, d.literal())
			switch {
			case d.state < 4:
				d.state = 0
			case d.state < 10:
				d.state -= 3
			default:
				d.state -= 6
			}
		case d.bit(&d.isRep[d.state]) == 0:
			copy(d.rep[1:], d.rep[:3])
			length = d.length(&d.matchLen, pos)
			d.rep[0] = d.distance(length)
			if d.rep[0] == math.MaxUint32 {
				if d.short {
					return false, errShort
				}
				return true, nil
			}
			d.state = after(d.state, 7)
		default:
			length = d.repeated(pos)
		}
		switch {
		case d.short:
			if length == 0 {
				d.out = d.out[:len(d.out)-1] // a literal of bits that are not there
			}
			return false, errShort
		case length == 0:
		case !d.reaches() || length > end-len(d.out):
			return false, errLZMA
		default:
			d.out = repeat(d.out, int(d.rep[0])+1, length)
		}
		if len(d.out) > limit {
			return false, ErrTooLarge
		}
	}
	return false, nil
}

// reaches tells whether the last distance stays in the dictionary.
func (d *lzmaDecoder) reaches() bool {
	return uint64(d.rep[0]) < min(d.dict, uint64(len(d.out)-d.base))
}

// repeated reads a match at one of the last distances.
func (d *lzmaDecoder) repeated(pos uint32) (length int) {
	if d.bit(&d.isRep0[d.state]) == 0 {
		if d.bit(&d.isRep0Long[d.state][pos]) == 0 {
			d.state = after(d.state, 9)
			return 1
		}
	} else {
		i := 1
		if d.bit(&d.isRep1[d.state]) != 0 {
			i = 2 + int(d.bit(&d.isRep2[d.state]))
		}
		n := d.rep[i]
		copy(d.rep[1:i+1], d.rep[:i])
		d.rep[0] = n
	}
	d.state = after(d.state, 8)
	return d.length(&d.repLen, pos)
}

// after is the state after a match: one of two, as a literal or a match came before.
func after(state, literal int) int {
	if state < 7 {
		return literal
	}
	if literal == 7 {
		return 10
	}
	return 11
}
