package unpack

import "encoding/binary"

// unfilterX86 turns the absolute targets of calls and jumps back into relative
// ones. The filter made them absolute so that calls of one function look alike.
// Which of the bytes 0xe8 and 0xe9 are instructions it can only guess, and mask
// remembers its guesses on the last three bytes.
func unfilterX86(b []byte) {
	// By the mask of candidates before: which byte of the operand an earlier
	// instruction would reach into, and whether this may be an instruction at all.
	reach := [8]uint{0, 1, 2, 2, 3, 3, 3, 3}
	allowed := [8]bool{true, true, true, false, true, false, false, false}
	sign := func(c byte) bool { return c == 0x00 || c == 0xff }

	mask, last := uint32(0), -1
	for i := 0; i+4 < len(b); i++ {
		if b[i]&0xfe != 0xe8 {
			continue
		}
		gap := i - last
		last = i
		if gap > 3 {
			mask = 0
		} else {
			mask = mask << (gap - 1) & 7
			if mask != 0 && (!allowed[mask] || sign(b[i+4-int(reach[mask])])) {
				mask = mask<<1 | 1
				continue
			}
		}
		if !sign(b[i+4]) {
			mask = mask<<1 | 1
			continue
		}
		operand := b[i+1 : i+5]
		target := binary.LittleEndian.Uint32(operand)
		for {
			relative := target - uint32(i+5)
			if mask == 0 {
				target = relative
				break
			}
			shift := 32 - reach[mask]*8
			if !sign(byte(relative >> (shift - 8))) {
				target = relative
				break
			}
			target = relative ^ (1<<shift - 1)
		}
		// The highest byte is the sign of the 25 bits below.
		target &= 1<<25 - 1
		target |= -(target & (1 << 24))
		binary.LittleEndian.PutUint32(operand, target)
		i += 4
	}
}
