package unpack_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"strings"
	"testing"

	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"

	"github.com/antievilmaid/aem/internal/unpack"
)

const gib = 1 << 30

// bombs are small streams that would unpack to 1 GiB of zeros.
func bombs(t *testing.T) map[string][]byte {
	t.Helper()
	zeros := make([]byte, 8<<20)
	list := map[string][]byte{}

	// head -c 1G /dev/zero | bzip2 -9
	list["bzip2"] = readSample(t, "zeros.bz2")

	// Deflate: 8 MiB of zeros with a flush, so that the same bytes can follow.
	var b bytes.Buffer
	z, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	z.Write(zeros)
	z.Flush()
	list["gzip"] = append([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x00"), bytes.Repeat(b.Bytes(), gib/len(zeros))...)

	// Zstandard: blocks that repeat a byte 128 Ki times.
	block := []byte{1 << 1, 0, 1 << 4, 0}
	list["zstd"] = append([]byte("\x28\xb5\x2f\xfd\x00\x70"), bytes.Repeat(block, gib>>17)...)
	list["zstd"][len(list["zstd"])-4] |= 1

	packed := make([]byte, lz4.CompressBlockBound(len(zeros)))
	n, err := lz4.CompressBlock(zeros, packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	block = append(binary.LittleEndian.AppendUint32(nil, uint32(n)), packed[:n]...)
	list["lz4"] = append([]byte("\x02\x21\x4c\x18"), bytes.Repeat(block, gib/len(zeros))...)

	b.Reset()
	frame := lz4.NewWriter(&b)
	if err := frame.Apply(lz4.BlockSizeOption(lz4.Block4Mb), lz4.ChecksumOption(false)); err != nil {
		t.Fatal(err)
	}
	frame.Write(zeros[:4<<20])
	frame.Close()
	list["lz4 frame"] = join(b.Bytes()[:7], bytes.Repeat(b.Bytes()[7:b.Len()-4], gib>>22), []byte{0, 0, 0, 0})

	const size = 256 << 10
	list["lzo"] = lzop(t, bytes.Repeat(lzopBlock(size, lzoZeros(size)), gib/size))

	// LZMA has 24 MiB and claims the rest; xz has a block of 8 MiB again and again.
	b.Reset()
	l, err := lzma.WriterConfig{Size: 3 * int64(len(zeros)), SizeInHeader: true}.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		l.Write(zeros)
	}
	l.Close()
	list["lzma"] = bytes.Clone(b.Bytes())
	binary.LittleEndian.PutUint64(list["lzma"][5:], gib)

	b.Reset()
	l2, err := lzma.NewWriter2(&b)
	if err != nil {
		t.Fatal(err)
	}
	l2.Write(zeros)
	l2.Close()
	list["xz"] = append(xzHeader(xzNoCheck), bytes.Repeat(xzBlock(b.Bytes(), 22), gib/len(zeros))...)
	return list
}

// lzopHeader is the length of the header that lzop writes for its standard input.
const lzopHeader = 9 + 2 + 2 + 2 + 1 + 1 + 4 + 4 + 4 + 4 + 1 + 4

const xzNoCheck = 0

func sealed(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func xzHeader(check byte) []byte {
	return append([]byte("\xfd7zXZ\x00"), sealed([]byte{0, check})...)
}

// xzBlock is a block without a check.
func xzBlock(chunks []byte, dictionary byte) []byte {
	return append(sealed([]byte{2, 0, 0x21, 1, dictionary, 0, 0, 0}), padded(bytes.Clone(chunks), 4)...)
}

// spent is how many bytes a function sets aside in all.
func spent(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A stream that goes on for a GiB ends where the limit is, and has cost no more
// than some times that.
func TestBombsStopAtTheLimit(t *testing.T) {
	for name, bomb := range bombs(t) {
		for _, limit := range []int{3 << 20, 20 << 20} {
			t.Run(fmt.Sprint(name, " ", limit), func(t *testing.T) {
				var out []byte
				var kind string
				var err error
				cost := spent(func() { out, kind, _, err = unpack.Limits{Unpacked: limit}.Decompress(bomb) })
				if !errors.Is(err, unpack.ErrTooLarge) || kind != name {
					t.Errorf("%s ended with %v; want %s and %v", kind, err, name, unpack.ErrTooLarge)
				}
				const block = 8 << 20 // the largest
				if len(out) > limit || len(out) < limit-block || len(bytes.Trim(out, "\x00")) > 0 {
					t.Errorf("%d bytes came out; want zeros, at most %d and a block less at least", len(out), limit)
				}
				if most := uint64(8*limit + 8<<20); cost > most {
					t.Errorf("%d bytes were set aside; want at most %d", cost, most)
				}
			})
		}
	}
}

// No memory is set aside for what a header claims.
func TestClaimsCostNothing(t *testing.T) {
	const most = 2 << 20
	archive := newc(file("a", "x"))
	chunk := append([]byte{1, 0, byte(len(archive) - 1)}, append(archive, 0)...)
	many := xzHeader(xzNoCheck)
	for range 1000 {
		many = append(many, xzBlock(chunk, 39)...)
	}
	huge := newc(item{name: "a", mode: 0o100644, bodySize: 0xfffffff0})
	for name, image := range map[string][]byte{
		"lzma's dictionary":    append([]byte("\x5d\x00\x00\x00\xf0\xff\xff\xff\xff\xff\xff\xff\xff\x00"), make([]byte, 20)...),
		"lzma's size":          append([]byte("\x5d\x00\x00\x10\x00\x00\x00\x00\x3f\x00\x00\x00\x00\x00"), make([]byte, 20)...),
		"xz's dictionaries":    many,
		"zstd's window":        append([]byte("\x28\xb5\x2f\xfd\x00\xff\x01\x00\x00"), 0),
		"zstd's size":          append([]byte("\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x3f\x01\x00\x00"), 0),
		"zstd's size, 8 bytes": append([]byte("\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\x7f\x01\x00\x00"), 0),
		"lz4's block":          []byte("\x02\x21\x4c\x18\x04\x00\x00\x00\xf0\x00\x00\x00"),
		"an lzop block":        append(readSample(t, "sample.lzo")[:lzopHeader:lzopHeader], "\x00\x04\x00\x00\x00\x03\xff\xff\x00\x00\x00\x00junk"...),
		"a file's size":        huge,
		"a name's size":        newc(item{name: "a", mode: 0o100644, nameSize: 0xfffffff0}),
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			if cost := spent(func() { _, err = unpack.Read(image) }); cost > most {
				t.Errorf("%d bytes were set aside for an image of %d", cost, len(image))
			}
			if err == nil {
				t.Error("the image was read without an error")
			}
		})
	}
}

func TestLimitsOfTheImage(t *testing.T) {
	three := newc(file("a", "x"), file("b", "y"), file("c", "z"))
	for name, c := range map[string]struct {
		limits unpack.Limits
		image  []byte
		files  int
		want   string
	}{
		"entries":               {unpack.Limits{Entries: 2}, three, 2, "more than 2 entries"},
		"entries, packed":       {unpack.Limits{Entries: 2}, zip(three), 2, "more than 2 entries"},
		"segments":              {unpack.Limits{Segments: 2}, join(newc(trailer), padded(zip(newc(file("a", ""))), 64), three), 1, "segment 3 of the initramfs (plain, at byte 188 of the image): the image unpacks to more than the limit allows: more than 2 archives"},
		"plain bytes":           {unpack.Limits{Unpacked: len(three) - 1}, three, 3, "more than 347 bytes"},
		"packed bytes":          {unpack.Limits{Unpacked: len(three) - 1}, zip(three), 3, "more than 347 bytes were left"},
		"packed bytes, in sum":  {unpack.Limits{Unpacked: 2*len(three) - 1}, join(zip(three), zip(three)), 3, "more than 347 bytes were left"},
		"paths through a link":  {unpack.Limits{}, manyPaths(), 17580, "a path has 3824 bytes, all paths 67111540"},
		"a path through a link": {unpack.Limits{}, deepPath(), 41, "a path has 4220 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			tree, err := c.limits.Read(c.image)
			if !errors.Is(err, unpack.ErrTooLarge) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v; want one with %q", err, c.want)
			}
			if len(tree.Files) != c.files {
				t.Errorf("%d files; want %d", len(tree.Files), c.files)
			}
		})
	}
}

// deepPath makes a directory in the last one again and again, each time through a
// link that leads there from the root.
func deepPath() []byte {
	items := []item{link("l0", ".")}
	for i := range 30 {
		next := fmt.Sprintf("l%d/", i) + strings.Repeat("d", 200)
		items = append(items, dir(next), link(fmt.Sprintf("l%d", i+1), next))
	}
	return newc(items...)
}

// manyPaths makes short entries with long paths.
func manyPaths() []byte {
	items := []item{dir(strings.Repeat("a", 200)), link("l0", strings.Repeat("a", 200))}
	for i := range 18 {
		next := fmt.Sprintf("l%d/", i) + strings.Repeat("d", 200)
		items = append(items, dir(next), link(fmt.Sprintf("l%d", i+1), next))
	}
	for i := range 20000 {
		items = append(items, item{name: fmt.Sprintf("l18/%d", i), mode: 0o100644})
	}
	return newc(items...)
}
