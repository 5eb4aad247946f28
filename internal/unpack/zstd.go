package unpack

import (
	"encoding/binary"
	"errors"

	"github.com/klauspost/compress/zstd"
)

// unzstd reads one frame of Zstandard (RFC 8878), as the kernel's
// lib/decompress_unzstd.c does. The frame is measured before it is unpacked: so
// the memory set aside follows from the blocks that are there, at 128 KiB each,
// and not from the sizes of contents and window that the header claims.
func unzstd(b []byte, limit int) stream {
	z := stream{}
	var bound int64
	if z.used, bound, z.err = zstdFrameSize(b); z.err != nil {
		return z
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		z.err = err
		return z
	}
	defer d.Close()
	z.out, z.err = d.DecodeAll(b[:z.used], make([]byte, 0, min(bound, int64(limit))))
	if errors.Is(z.err, zstd.ErrDecoderSizeExceeded) && bound > int64(limit) {
		z.err = ErrTooLarge
	}
	return z
}

// zstdFrameSize finds the end of a frame and the most that it can unpack to.
func zstdFrameSize(b []byte) (size int, bound int64, err error) {
	const (
		magic         = 0xfd2fb528
		dictionary    = 3 << 0
		checksum      = 1 << 2
		singleSegment = 1 << 5
		maxBlock      = 128 << 10
	)
	if len(b) < 5 || binary.LittleEndian.Uint32(b) != magic {
		return 0, 0, errors.New("the Zstandard frame has another magic number")
	}
	flags := b[4]
	if flags&dictionary != 0 {
		return 0, 0, errors.New("the Zstandard frame needs a dictionary")
	}
	at := 5 + [4]int{0, 2, 4, 8}[flags>>6] // size of the contents
	switch {
	case flags&singleSegment == 0:
		at++ // size of the window
	case flags>>6 == 0:
		at++
	}
	for last := false; !last; {
		if len(b)-at < 3 {
			return 0, 0, errShort
		}
		header := int(b[at]) | int(b[at+1])<<8 | int(b[at+2])<<16
		at += 3
		last = header&1 != 0
		stored, unpacked := header>>3, maxBlock
		switch header >> 1 & 3 {
		case 0: // raw
			unpacked = stored
		case 1: // one byte, repeated
			stored, unpacked = 1, stored
		case 3:
			return 0, 0, errors.New("a Zstandard block is of a type that is not defined")
		}
		if len(b)-at < stored {
			return 0, 0, errShort
		}
		at += stored
		bound += int64(unpacked)
	}
	if flags&checksum != 0 {
		at += 4
	}
	if at > len(b) {
		return 0, 0, errShort
	}
	return at, bound, nil
}
