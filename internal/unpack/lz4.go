package unpack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/pierrec/lz4/v4"
)

// unlz4 reads the legacy frame of LZ4, as `lz4 -l` writes it, in the way of the
// kernel's lib/decompress_unlz4.c: blocks that each unpack to 8 MiB at most follow
// one another until the input ends or a size of zero comes, which is the padding.
func unlz4(b []byte, limit int) stream {
	const magic, maxBlock = 0x184c2102, 8 << 20
	z := stream{}
	if len(b) < 4 || binary.LittleEndian.Uint32(b) != magic {
		z.err = errors.New("the LZ4 frame has another magic number")
		return z
	}
	for z.used = 4; len(b)-z.used >= 4; {
		size := binary.LittleEndian.Uint32(b[z.used:])
		if size == 0 {
			return z
		}
		z.used += 4
		if size == magic {
			continue
		}
		if uint64(size) > uint64(len(b)-z.used) {
			z.err = errShort
			return z
		}
		block := b[z.used : z.used+int(size)]
		// A byte of input gives 255 bytes of output at most.
		room := min(maxBlock, 255*len(block), limit+1-len(z.out))
		z.out = slices.Grow(z.out, room)
		n, err := lz4.UncompressBlock(block, z.out[len(z.out):len(z.out)+room])
		switch {
		case err != nil && room == limit+1-len(z.out): // the library does not say which of the two it is
			z.err = ErrTooLarge
			return z
		case err != nil:
			z.err = errors.New("an LZ4 block is damaged")
			return z
		}
		z.out = z.out[:len(z.out)+n]
		z.used += int(size)
		if len(z.out) > limit {
			return z
		}
	}
	return z
}

// unlz4Frame reads the modern frame of LZ4 (lz4_Frame_format.md of the lz4
// project), which lz4(1) writes and the kernel refuses.
func unlz4Frame(b []byte, limit int) stream {
	z := stream{doubt: "it is in the modern LZ4 frame, which the kernel refuses: it stops here"}
	if z.used, z.err = lz4FrameSize(b); z.err != nil {
		return z
	}
	z.out, z.err = readUpTo(lz4.NewReader(bytes.NewReader(b[:z.used])), limit)
	return z
}

// lz4FrameSize finds the end of a frame without unpacking it.
func lz4FrameSize(b []byte) (int, error) {
	const (
		magic       = 0x184d2204
		dictionary  = 1 << 0
		contentSum  = 1 << 2
		contentSize = 1 << 3
		blockSum    = 1 << 4
		stored      = 1 << 31 // in the size of a block
	)
	if len(b) < 7 || binary.LittleEndian.Uint32(b) != magic {
		return 0, errors.New("the LZ4 frame has another magic number")
	}
	flags := b[4]
	at := 4 + 2 + 1 // magic number, descriptor, its checksum
	if flags&contentSize != 0 {
		at += 8
	}
	if flags&dictionary != 0 {
		return 0, errors.New("the LZ4 frame needs a dictionary")
	}
	for {
		if len(b)-at < 4 {
			return 0, errShort
		}
		size := binary.LittleEndian.Uint32(b[at:])
		at += 4
		if size == 0 {
			break
		}
		size &^= stored
		if flags&blockSum != 0 {
			size += 4
		}
		if uint64(size) > uint64(len(b)-at) {
			return 0, errShort
		}
		at += int(size)
	}
	if flags&contentSum != 0 {
		at += 4
	}
	if at > len(b) {
		return 0, errShort
	}
	return at, nil
}
