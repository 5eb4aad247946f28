package unpack

import "errors"

// unlzo reads a file of lzop as the kernel's lib/decompress_unlzo.c does, which
// believes neither the checksum of the header nor those of the blocks, and always
// expects one checksum of 4 bytes in front of a block, as lzop writes it if no
// option says otherwise.
func unlzo(b []byte, limit int) stream {
	z := stream{}
	in := cursor{b: b}
	if string(in.take(9)) != "\x89LZO\x00\r\n\x1a\n" {
		z.err = errors.New("the lzop file has another magic number")
		return z
	}
	version := in.uint16()
	in.take(2 + 2 + 1) // the library's version, the version needed, the method
	const withLevel = 0x0940
	if version >= withLevel {
		in.take(1)
	}
	const hasFilter = 0x800
	if in.uint32()&hasFilter != 0 {
		in.take(4)
	}
	in.take(4 + 4) // mode, time
	if version >= withLevel {
		in.take(4)
	}
	in.take(int(in.uint8()) + 4) // name, checksum
	for !in.short {
		const maxBlock = 256 << 10
		size := in.uint32()
		if size == 0 {
			break
		}
		packed := in.uint32()
		in.take(4) // checksum
		if size > maxBlock || packed == 0 || packed > size {
			z.err = errors.New("an lzop block is larger than it may be")
			return z
		}
		block := in.take(int(packed))
		if in.short {
			break
		}
		if packed == size {
			z.out = append(z.out, block...)
		} else if z.out, z.err = lzo1x(z.out, block, int(size)); z.err != nil {
			return z
		}
		if len(z.out) > limit {
			return z
		}
	}
	if in.short {
		z.err = errShort
	}
	z.used = in.at
	return z
}
