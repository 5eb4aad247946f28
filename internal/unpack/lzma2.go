package unpack

import "errors"

// unlzma2 reads the chunks of LZMA2 to the end of out. A chunk is stored as it is
// or packed with LZMA, and says whether it goes on with the dictionary, the model
// and the properties of the last.
func unlzma2(b, out []byte, dict uint64, limit int) (used int, all []byte, err error) {
	const (
		storedFirst, stored    = 1, 2
		packed, reset          = 0x80, 0xa0
		withProperties, andAll = 0xc0, 0xe0
	)
	d := lzmaDecoder{out: out, base: len(out), dict: dict}
	in := cursor{b: b}
	needDict, needProperties := true, true
	for {
		control := in.uint8()
		if in.short {
			return in.at, d.out, errShort
		}
		if control == 0 {
			return in.at, d.out, nil
		}
		if control >= andAll || control == storedFirst {
			needDict, needProperties = false, true
			d.base = len(d.out)
		}
		if needDict || control > stored && control < packed {
			return in.at, d.out, errLZMA
		}
		size := int(in.uint16()) + 1
		if control < packed {
			chunk := in.take(size)
			d.out = append(d.out, chunk...)
		} else {
			size += int(control&0x1f) << 16
			chunkSize := int(in.uint16()) + 1
			if control >= withProperties {
				needProperties = false
				if p := in.uint8(); !in.short && !d.properties(p) {
					return in.at, d.out, errLZMA
				}
			}
			if needProperties {
				return in.at, d.out, errLZMA
			}
			if control >= reset {
				d.reset()
			}
			chunk := in.take(chunkSize)
			if in.short {
				return in.at, d.out, errShort
			}
			d.start(chunk)
			ended, err := d.decode(len(d.out)+size, limit)
			if errors.Is(err, ErrTooLarge) {
				return in.at, d.out, err
			}
			if d.normalize(); err != nil || ended || d.short || d.code != 0 || d.at != len(chunk) {
				return in.at, d.out, errLZMA
			}
		}
		if in.short {
			return in.at, d.out, errShort
		}
		if len(d.out) > limit {
			return in.at, d.out, ErrTooLarge
		}
	}
}
