package unpack_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"

	"github.com/antievilmaid/aem/internal/unpack"
)

// xzTail is what an xz stream has behind its blocks.
type xzTail struct {
	blocks           uint64
	packed, unpacked int // of the one block that is there
	back             int // difference to the index's size
	check            byte
}

func (x xzTail) bytes() []byte {
	index := binary.AppendUvarint([]byte{0}, x.blocks)
	index = binary.AppendUvarint(index, uint64(x.packed))
	index = binary.AppendUvarint(index, uint64(x.unpacked))
	index = sealed(padded(index, 4))
	tail := binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1+x.back))
	tail = append(tail, 0, x.check)
	return bytes.Join([][]byte{index, sealed(tail)[6:], tail, []byte("YZ")}, nil)
}

// xzFile is an xz stream with one block and no check.
func xzFile(chunks []byte, dictionary byte, unpacked int) []byte {
	tail := xzTail{1, 12 + len(chunks), unpacked, 0, xzNoCheck}
	return join(xzHeader(xzNoCheck), xzBlock(chunks, dictionary), tail.bytes())
}

// lzma2 packs contents into chunks, with the byte that ends them.
// Each part of the contents gets chunks of its own.
func lzma2(t *testing.T, p lzma.Properties, contents ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := lzma.Writer2Config{Properties: &p}.NewWriter2(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range contents {
		w.Write(c)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// noise is what a packer finds little in, but something.
func noise(n int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(16)) << (i % 4)
	}
	return b
}

func TestLZMA2Chunks(t *testing.T) {
	const first, firstStored, dictionary, lessDictionary = 0xe0, 1, 22, 0
	contents := noise(5001)
	plain := lzma2(t, lzma.Properties{}, contents)
	bits := lzma2(t, lzma.Properties{LC: 2, LP: 2, PB: 2}, contents)
	if plain[0] != first || bits[0] != first {
		t.Fatalf("the chunks begin with %#x and %#x; want %#x", plain[0], bits[0], first)
	}
	stored := []byte{firstStored, 0, 0, 'x'}
	noProperties := append([]byte{0xa0}, plain[1:]...)
	noProperties = append(noProperties[:5], noProperties[6:]...)
	lastFlipped := bytes.Clone(plain)
	lastFlipped[len(plain)-2] ^= 1
	twice := join(bits[:len(bits)-1], bits)
	back := lookBack(t, 0xc0)
	far := lzma2(t, lzma.Properties{}, contents, contents)

	for name, c := range map[string]struct {
		chunks     []byte
		dictionary byte
		want       []byte // nil where the chunks are damaged
	}{
		"one":                           {plain, dictionary, contents},
		"stored first":                  {join(stored, plain), dictionary, join([]byte("x"), contents)},
		"stored twice":                  {join(stored, []byte{2, 0, 1, 'y', 'z', 0}), dictionary, []byte("xyz")},
		"a new dictionary":              {twice, dictionary, join(contents, contents)},
		"a match from afar":             {far, dictionary, join(contents, contents)},
		"a match from beyond":           {far, lessDictionary, nil},
		"a match from a stored chunk":   {back, dictionary, join(back[3:40003], back[3:40003])},
		"a match from before":           {lookBack(t, 0xe0), dictionary, nil},
		"no dictionary":                 {[]byte{2, 0, 0, 'x', 0}, dictionary, nil},
		"no properties":                 {join(stored, noProperties), dictionary, nil},
		"bad properties":                {[]byte{0xe0, 0, 0, 0, 5, 225, 0, 0, 0, 0, 0, 0, 0}, dictionary, nil},
		"properties of 8 literal bits":  {[]byte{0xe0, 0, 0, 0, 5, 8, 0, 0, 0, 0, 0, 0, 0}, dictionary, nil},
		"undefined":                     {[]byte{3, 0, 0, 'x', 0}, dictionary, nil},
		"a last bit that is wrong":      {lastFlipped, dictionary, nil},
		"more bytes than the chunk has": {append([]byte{0xe0, plain[1], plain[2] + 20}, plain[3:]...), dictionary, nil},
		"a byte too much":               {join([]byte{0xe0, plain[1], plain[2], plain[3], plain[4] + 1}, plain[5:len(plain)-1], []byte{0, 0}), dictionary, nil},
		"fewer bytes":                   {append([]byte{0xe0, plain[1], plain[2] - 1}, plain[3:]...), dictionary, nil},
	} {
		t.Run(name, func(t *testing.T) {
			size := len(c.want)
			if c.want == nil {
				size = len(contents)
			}
			out, _, _, err := unpack.Decompress(xzFile(c.chunks, c.dictionary, size))
			switch {
			case c.want == nil && (err == nil || !strings.Contains(err.Error(), "LZMA data are damaged")):
				t.Errorf("error %v; want that the LZMA data are damaged", err)
			case c.want != nil && (err != nil || !bytes.Equal(out, c.want)):
				t.Errorf("%d bytes and error %v; want %d bytes", len(out), err, len(c.want))
			}
		})
	}
}

// lookBack are random bytes, stored, and then the same again as matches. control is
// that of the chunk with the matches.
func lookBack(t *testing.T, control byte) []byte {
	t.Helper()
	r := rand.New(rand.NewPCG(5, 6))
	random := make([]byte, 40000)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	second := lzma2(t, lzma.Properties{}, random, random)
	at := 0
	for second[at] < 0x80 {
		at += 3 + int(binary.BigEndian.Uint16(second[at+1:])) + 1
	}
	if at == 0 || second[at] >= 0xe0 {
		t.Fatalf("chunk %#x at %d; want one with matches behind stored ones", second[at], at)
	}
	second[at] = control | second[at]&0x1f
	return second
}

func TestXZIndex(t *testing.T) {
	contents := noise(100)
	chunks := lzma2(t, lzma.Properties{}, contents)
	good := xzFile(chunks, 0, 100)
	if _, _, used, err := unpack.Decompress(good); err != nil || used != len(good) {
		t.Errorf("%d bytes were used, %v; want %d", used, err, len(good))
	}
	start := join(xzHeader(xzNoCheck), xzBlock(chunks, 0))
	for name, b := range map[string][]byte{
		"another size in the index":  join(start, xzTail{1, 12 + len(chunks), 101, 0, 0}.bytes()),
		"another packed size":        join(start, xzTail{1, 12 + len(chunks) + 1, 100, 0, 0}.bytes()),
		"a block only in the index":  join(xzHeader(xzNoCheck), xzTail{1, 12 + len(chunks), 100, 0, 0}.bytes()),
		"another number of blocks":   join(start, xzTail{2, 12 + len(chunks), 100, 0, 0}.bytes()),
		"another size of the index":  join(start, xzTail{1, 12 + len(chunks), 100, 1, 0}.bytes()),
		"another check at the end":   join(start, xzTail{1, 12 + len(chunks), 100, 0, 1}.bytes()),
		"another magic at the end":   append(good[:len(good)-1:len(good)-1], 'z'),
		"another magic at the start": join([]byte("\xfd7zXY"), good[5:]),
		"an undefined flag":          join([]byte("\xfd7zXZ\x00"), sealed([]byte{1, 0}), good[12:]),
	} {
		if _, _, _, err := unpack.Decompress(b); err == nil || !strings.Contains(err.Error(), "the xz stream is damaged") {
			t.Errorf("%s: error %v; want that the stream is damaged", name, err)
		}
	}
}

// A literal that is read beyond the end is no part of what came before it.
func TestCutLZMAGivesABeginning(t *testing.T) {
	contents := noise(3000)
	var b bytes.Buffer
	w, err := lzma.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(contents)
	w.Close()
	for n := range b.Len() - 1 {
		out, _, _, err := unpack.Decompress(b.Bytes()[:n])
		if err == nil || !bytes.HasPrefix(contents, out) {
			t.Fatalf("%d of %d bytes gave %d bytes and error %v; want a beginning of the contents and an error", n, b.Len(), len(out), err)
		}
	}
}

func TestLZMAHeaders(t *testing.T) {
	contents := bytes.Repeat(noise(7000), 2)
	var b bytes.Buffer
	w, err := lzma.WriterConfig{Size: int64(len(contents)), SizeInHeader: true}.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(contents)
	w.Close()
	packed := b.Bytes()
	header := func(dictionary uint32, size uint64) []byte {
		p := bytes.Clone(packed)
		binary.LittleEndian.PutUint32(p[1:], dictionary)
		binary.LittleEndian.PutUint64(p[5:], size)
		return p
	}
	n := uint64(len(contents))
	if out, _, _, err := unpack.Decompress(packed); err != nil || !bytes.Equal(out, contents) {
		t.Errorf("%d bytes, %v; want %d bytes", len(out), err, n)
	}
	for name, p := range map[string][]byte{
		"a match from beyond":      header(0x1000, n),
		"a match across the end":   header(1<<23, n-1),
		"more than there is":       header(1<<23, n+1),
		"an end that is not there": header(1<<23, 1<<64-1),
	} {
		if _, _, _, err := unpack.Decompress(p); err == nil {
			t.Errorf("%s: there was no error", name)
		}
	}
	end := len(contents) / 2 // in the literals, so that no match crosses it
	if out, _, used, err := unpack.Decompress(header(1<<23, uint64(end))); err != nil || !bytes.Equal(out, contents[:end]) || used >= len(packed) {
		t.Errorf("%d bytes from %d, %v; want %d", len(out), used, err, end)
	}
}

// The sizes in a frame's header take 0 to 8 bytes.
func TestZstdFrames(t *testing.T) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 255, 256, 65791, 65792, 300000} {
		for _, single := range []bool{false, true} {
			if err := e.ResetWithOptions(nil, zstd.WithSingleSegment(single)); err != nil {
				t.Fatal(err)
			}
			contents := noise(n)
			packed := e.EncodeAll(contents, nil)
			if n == 0 {
				packed = []byte("\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00") // the library writes nothing
			}
			out, _, used, err := unpack.Decompress(append(packed, "rest"...))
			if err != nil || !bytes.Equal(out, contents) || used != len(packed) {
				t.Errorf("%d bytes from %d, %v; want %d from %d", len(out), used, err, n, len(packed))
			}
		}
	}
}
