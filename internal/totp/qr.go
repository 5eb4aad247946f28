package totp

import (
	"errors"
	"fmt"

	"rsc.io/qr/coding"
)

// MaxURI is how many bytes a [QR] takes: those of a version 6 code, the largest
// that a text screen of 80 by 25 shows, by half blocks and with two lines left for
// words. With the issuer AEM and a key for SHA-256, 27 letters are left for the
// account.
const MaxURI = 134

const maxVersion = 6

// ErrTooLong says that an address does not fit into a code that a screen shows.
var ErrTooLong = errors.New("the address for the phone is too long for a QR code on the screen; shorter names for issuer and account help")

// ErrScreen says that a drawing does not fit on the screen.
var ErrScreen = errors.New("the QR code does not fit on the screen")

// QR is a QR code (ISO/IEC 18004) of error correction level L: a screen has no
// scratches, and the smaller code is the one that fits. It is as secret as what it
// encodes.
type QR struct {
	size int
	dark []bool // row by row
}

// octets is text in byte mode. The library's own type for it holds a string,
// which can't be wiped.
type octets struct {
	text []byte
	bits *coding.Bits // where the library encoded it
}

func (o *octets) Check() error { return nil }

// Bits counts mode, length (of one byte up to version 9) and text.
func (o *octets) Bits(coding.Version) int { return 4 + 8 + 8*len(o.text) }

func (o *octets) Encode(b *coding.Bits, _ coding.Version) {
	o.bits = b
	// Room for the largest code, so that no copy is left where the buffer grew out of it.
	b.Append(make([]byte, 256))
	b.Reset()
	b.Write(4, 4)
	b.Write(uint(len(o.text)), 8)
	for _, c := range o.text {
		b.Write(uint(c), 8)
	}
}

// NewQR encodes an address. The caller wipes the address, and the code with
// [QR.Wipe]. It returns [ErrTooLong] beyond [MaxURI].
func NewQR(uri []byte) (*QR, error) {
	text := &octets{text: uri}
	for v := coding.Version(coding.MinVersion); v <= maxVersion; v++ {
		if text.Bits(v) > 8*v.DataBytes(coding.L) {
			continue
		}
		plan, err := coding.NewPlan(v, coding.L, 0)
		if err != nil {
			return nil, fmt.Errorf("plan the QR code: %w", err)
		}
		code, err := plan.Encode(text)
		if err != nil {
			return nil, fmt.Errorf("make the QR code: %w", err)
		}
		defer clear(text.bits.Bytes())
		defer clear(code.Bitmap)
		q := &QR{size: code.Size, dark: make([]bool, code.Size*code.Size)}
		for i := range q.dark {
			q.dark[i] = code.Black(i%q.size, i/q.size)
		}
		return q, nil
	}
	return nil, fmt.Errorf("%w: it has %d bytes, and %d fit", ErrTooLong, len(uri), MaxURI)
}

// Size is the number of modules on a side, without the quiet zone.
func (q *QR) Size() int { return q.size }

// Dark reports whether a module is dark; those around the code are not.
func (q *QR) Dark(x, y int) bool {
	return x >= 0 && x < q.size && y >= 0 && y < q.size && q.dark[y*q.size+x]
}

// Wipe forgets the code.
func (q *QR) Wipe() { clear(q.dark) }

// Drawing is how a code is put on a text screen.
type Drawing struct {
	Columns, Rows int // what there is room for
	// Hashes draws a module as two number signs, for terminals that know nothing but ASCII, in
	// place of half a block. No code that holds a key fits into 25 rows so: a key of 16 bytes takes
	// 29 modules. The VGA's own font has half blocks.
	Hashes bool
	// DarkInk is for paper, and for terminals that write dark on light. Without
	// it, the ink draws the light modules.
	DarkInk bool
}

// The standard demands a quiet zone of four modules. Where four have no room, two
// do: readers find the code by its corners.
const fullQuietZone, leastQuietZone = 4, 2

// Draw returns lines of equal width, each with a line feed. They are as secret as
// the code; the caller wipes them. It returns [ErrScreen] where there is no room.
func (q *QR) Draw(d Drawing) ([]byte, error) {
	for quiet := fullQuietZone; quiet >= leastQuietZone; quiet-- {
		side := q.size + 2*quiet
		columns, rows := side, (side+1)/2
		if d.Hashes {
			columns, rows = 2*side, side
		}
		if columns > d.Columns || rows > d.Rows {
			continue
		}
		// Three bytes a character at most, in one allocation.
		out := make([]byte, 0, rows*(3*columns+1))
		ink := func(x, y int) bool { return q.Dark(x-quiet, y-quiet) == d.DarkInk }
		for row := range rows {
			for x := range side {
				switch {
				case d.Hashes && ink(x, row):
					out = append(out, "##"...)
				case d.Hashes:
					out = append(out, "  "...)
				default:
					out = append(out, half(ink(x, 2*row), ink(x, 2*row+1))...)
				}
			}
			out = append(out, '\n')
		}
		return out, nil
	}
	least := q.size + 2*leastQuietZone
	if d.Hashes {
		return nil, fmt.Errorf("%w: %d columns and %d rows are needed, and there are %d and %d", ErrScreen, 2*least, least, d.Columns, d.Rows)
	}
	return nil, fmt.Errorf("%w: %d columns and %d rows are needed, and there are %d and %d", ErrScreen, least, (least+1)/2, d.Columns, d.Rows)
}

func half(upper, lower bool) string {
	switch {
	case upper && lower:
		return "█"
	case upper:
		return "▀"
	case lower:
		return "▄"
	}
	return " "
}
