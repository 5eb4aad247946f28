package unpack_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/unpack"
)

const lzoEnd = "\x11\x00\x00"

// The instructions of LZO1X, each with what the kernel's
// Documentation/staging/lzo.rst says of it.
func TestLZOInstructions(t *testing.T) {
	pattern := make([]byte, 50000) // no two places alike
	for i := range pattern {
		pattern[i] = byte(i*7 ^ i>>8*13)
	}
	literals := func(n int) string { // 00 and a length, for n of 19 and more
		n -= 3 + 15
		zeros := (n - 1) / 255
		return "\x00" + strings.Repeat("\x00", zeros) + string([]byte{byte(n - zeros*255)})
	}
	start := func(n int) (packed, out string) { return literals(n) + string(pattern[:n]), string(pattern[:n]) }
	in2100, out2100 := start(2100)
	in40000, out40000 := start(40000)
	for name, c := range map[string]struct{ in, out string }{
		"nothing":                              {lzoEnd, ""},
		"1 literal first":                      {"\x12a" + lzoEnd, "a"},
		"4 literals first":                     {"\x15abcd" + lzoEnd, "abcd"},
		"3 + 1 literals":                       {"\x01abcd" + lzoEnd, "abcd"},
		"19 literals":                          {"\x00\x01" + out2100[:19] + lzoEnd, out2100[:19]},
		"278 literals":                         {"\x00\x00\x05" + out2100[:278] + lzoEnd, out2100[:278]},
		"2 bytes after a literal":              {"\x12a\x00\x00" + lzoEnd, "aaa"},
		"2 bytes, distance of both parts":      {"\x19abcdefgh" + "\x41\x00x" + "\x0e\x01yz" + lzoEnd, "abcdefgh" + "hhh" + "x" + "ef" + "yz"},
		"3 bytes after 4 literals, 2049 away":  {in2100 + "\x00\x00" + lzoEnd, out2100 + out2100[51:54]},
		"3 bytes, 2049 + 1 + 8 away":           {in2100 + "\x05\x02z" + lzoEnd, out2100 + out2100[42:45] + "z"},
		"3 bytes":                              {"\x15abcd\x4c\x00" + lzoEnd, "abcd" + "abc"},
		"4 bytes":                              {"\x15abcd\x6c\x00" + lzoEnd, "abcd" + "abcd"},
		"8 bytes, overlapping, 3 literals":     {"\x15abcd\xe7\x00xyz" + lzoEnd, "abcd" + "cdcdcdcd" + "xyz"},
		"3 bytes, 1 + 7 + 16 away":             {"\x2a" + out2100[:25] + "\x5c\x02" + lzoEnd, out2100[:25] + out2100[1:4]},
		"2 + 3 bytes, 16-bit distance":         {in2100 + "\x23\x21\x04z" + lzoEnd, out2100 + out2100[2100-265:][:5] + "z"},
		"2 + 31 + 4 bytes":                     {"\x12a\x20\x04\x00\x00" + lzoEnd, strings.Repeat("a", 1+37)},
		"2 + 31 + 510 + 1 bytes, 1 literal":    {"\x12a\x20\x00\x00\x01\x01\x00b" + lzoEnd, strings.Repeat("a", 1+544) + "b"},
		"2 + 2 bytes from 16385":               {in40000 + "\x12\x04\x00" + lzoEnd, out40000 + out40000[40000-16385:][:4]},
		"2 + 7 + 3 bytes from 32768, literals": {in40000 + "\x18\x03\x02\x00xy" + lzoEnd, out40000 + out40000[40000-32768:][:12] + "xy"},
		"version 0":                            {"\x11\x00\x12a" + lzoEnd, "a"},
		"version 1, 21 zeros, 1 literal":       {"\x11\x01\x12a\x19\xfd\xff\x02b" + lzoEnd, "a" + strings.Repeat("\x00", 21) + "b"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := unpack.LZO1X([]byte(c.in), len(c.out))
			if err != nil || string(out) != c.out {
				t.Errorf("%q, %v; want %q", out[max(0, len(out)-50):], err, c.out[max(0, len(c.out)-50):])
			}
		})
	}
}

func TestLZORefusesWhatReachesOutside(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		size int
	}{
		"nothing at all":             {"", 0},
		"no end":                     {"\x12a", 1},
		"an end of another length":   {"\x12a\x12\x00\x00", 1},
		"something after the end":    {"\x12a" + lzoEnd + "\x00", 1},
		"less than it should be":     {"\x12a" + lzoEnd, 2},
		"literals more than there":   {"\x15abc", 4},
		"literals more than fit":     {"\x15abcd" + lzoEnd, 3},
		"a match more than fits":     {"\x15abcd\x4c\x00" + lzoEnd, 6},
		"a match before the start":   {"\x15abcd\x50\x00" + lzoEnd, 7},
		"2 bytes before the start":   {"\x12a\x04\x00" + lzoEnd, 3},
		"zeros more than fit":        {"\x11\x01\x12a\x19\xfd\xff\x02b" + lzoEnd, 22},
		"zeros in version 0":         {"\x11\x00\x12a\x19\xfd\xff\x02b" + lzoEnd, 23},
		"a length without an end":    {"\x12a\x20" + strings.Repeat("\x00", 1000), 1000},
		"a length of too many zeros": {"\x12a\x20" + strings.Repeat("\x00", 1000) + "\x01\x00\x00" + lzoEnd, 1000},
		"a cut distance":             {"\x12a\x20\x01\x00", 36},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := unpack.LZO1X([]byte(c.in), c.size); err == nil || len(out) > c.size {
				t.Errorf("%d bytes and error %v; want an error and at most %d bytes", len(out), err, c.size)
			}
		})
	}
}

// lzop writes a file of lzop's with blocks of these sizes.
func lzop(t *testing.T, blocks ...[]byte) []byte {
	b := readSample(t, "sample.lzo")[:lzopHeader:lzopHeader]
	return binary.BigEndian.AppendUint32(append(b, bytes.Join(blocks, nil)...), 0)
}

func lzopBlock(size int, packed string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(size))
	b = binary.BigEndian.AppendUint32(b, uint32(len(packed)))
	return append(append(b, "sum."...), packed...)
}

// lzoZeros is a block of so many zeros: 4 literals and a match.
func lzoZeros(size int) string {
	n := size - 4 - 2 - 31
	more := (n - 1) / 255
	return "\x15\x00\x00\x00\x00\x20" + strings.Repeat("\x00", more) + string([]byte{byte(n - 255*more), 0, 0}) + lzoEnd
}

func TestLZOPBlocks(t *testing.T) {
	const zeros = "\x12\x00\x20\x04\x00\x00" + lzoEnd // 38 of them in 9 bytes
	largest := lzop(t, lzopBlock(256<<10, lzoZeros(256<<10)))
	if out, _, _, err := unpack.Decompress(largest); err != nil || !bytes.Equal(out, make([]byte, 256<<10)) {
		t.Errorf("the largest block gave %d bytes and %v", len(out), err)
	}
	file := lzop(t, lzopBlock(38, zeros), lzopBlock(3, "abc"), lzopBlock(38, zeros))
	out, kind, used, err := unpack.Decompress(append(file, "rest"...))
	want := string(make([]byte, 38)) + "abc" + string(make([]byte, 38))
	if err != nil || kind != "lzo" || string(out) != want || used != len(file) {
		t.Errorf("%q, %s, %d, %v; want %q, lzo, %d", out, kind, used, err, want, len(file))
	}
	for name, blocks := range map[string][]byte{
		"too large":           lzopBlock(256<<10+1, lzoZeros(256<<10+1)),
		"larger than raw":     lzopBlock(8, zeros),
		"of no length":        lzopBlock(8, ""),
		"of another contents": lzopBlock(39, zeros),
	} {
		if out, _, _, err := unpack.Decompress(lzop(t, blocks)); err == nil || len(out) > 39 {
			t.Errorf("a block that is %s gave %d bytes and error %v", name, len(out), err)
		}
	}
	// The old header has neither a level nor the time's upper half; a filter takes four bytes more.
	old := append([]byte("\x89LZO\x00\x0d\x0a\x1a\x0a\x09\x30\x10\x00\x09\x30\x01\x00\x00\x08\x00filt"), "modetime\x04namesum."...)
	if out, _, _, err := unpack.Decompress(append(old, file[lzopHeader:]...)); err != nil || string(out) != want {
		t.Errorf("with an old header: %q, %v; want %q", out, err, want)
	}
}
