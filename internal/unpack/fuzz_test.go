package unpack_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"github.com/antievilmaid/aem/internal/unpack"
)

// FuzzRead reads whatever it is given, within limits.
func FuzzRead(f *testing.F) {
	kinds := map[string]bool{}
	for _, s := range samples() {
		kinds[s.kind] = true
		f.Add(readSample(f, s.name))
	}
	if len(kinds) != 8 {
		f.Fatalf("there are samples of %d compressions; want 8", len(kinds))
	}
	for _, s := range scenarios() {
		b := newc(append([]item{dir("P")}, s.items("P/")...)...)
		f.Add(b)
		f.Add(zip(b))
	}
	f.Add(join(newc(item{name: "a", mode: 0o100644, body: "x", check: new(uint32('x'))}, trailer), make([]byte, 512), zip(newc(dir("d")))))
	limits := unpack.Limits{Unpacked: 1 << 20, Entries: 1000, Segments: 10}
	f.Fuzz(func(t *testing.T, image []byte) {
		tree, err := limits.Read(image)
		if err == nil && len(tree.Segments) == 0 {
			t.Error("an image without archives was read")
		}
		if len(tree.Segments) > limits.Segments || len(tree.Files) > limits.Entries || len(tree.Hidden) > 2*limits.Entries {
			t.Errorf("%d segments, %d files, %d hidden", len(tree.Segments), len(tree.Files), len(tree.Hidden))
		}
		unpacked, end := 0, 0
		for _, s := range tree.Segments {
			if s.Offset < end || s.Size > len(image)-s.Offset {
				t.Errorf("segment %v of an image of %d bytes begins before %d", s, len(image), end)
			}
			end = s.Offset + s.Size
			unpacked += s.Unpacked
		}
		if unpacked > limits.Unpacked {
			t.Errorf("%d bytes were unpacked", unpacked)
		}
		for i, file := range tree.Files {
			if i > 0 && file.Path <= tree.Files[i-1].Path || file.Path == "" || len(file.Path) > unpack.MaxPath || file.Path[0] == '/' {
				t.Errorf("file %d is %q", i, file.Path)
			}
			if file.Segment >= len(tree.Segments) {
				t.Errorf("%q is of segment %d of %d", file.Path, file.Segment, len(tree.Segments))
			}
		}
		if changes := unpack.Diff(tree, tree); len(changes) > 0 {
			t.Errorf("an image differs from itself: %v", changes)
		}
		if changes := unpack.Diff(new(unpack.Tree), tree); len(changes) != len(tree.Files)+len(tree.Hidden) {
			t.Errorf("%d changes from nothing; want %d", len(changes), len(tree.Files)+len(tree.Hidden))
		}
		if !slices.IsSortedFunc(tree.Segments, func(a, b unpack.Segment) int { return a.Offset - b.Offset }) {
			t.Error("segments are not in the order of the image")
		}
	})
}

// FuzzRoundTrip packs contents with the libraries' writers.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("a"))
	f.Add(bytes.Repeat([]byte("abcabcab"), 100))
	f.Add(sampleArchive(f))
	writers := map[string]func(w io.Writer) (io.WriteCloser, error){
		"gzip": func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		"lzma": func(w io.Writer) (io.WriteCloser, error) { return lzma.NewWriter(w) },
		"xz":   func(w io.Writer) (io.WriteCloser, error) { return xz.WriterConfig{BlockSize: 5000}.NewWriter(w) },
		"zstd": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)) },
		"lz4": func(w io.Writer) (io.WriteCloser, error) {
			z := lz4.NewWriter(w)
			return z, z.Apply(lz4.LegacyOption(true))
		},
		"lz4 frame": func(w io.Writer) (io.WriteCloser, error) {
			z := lz4.NewWriter(w)
			return z, z.Apply(lz4.BlockChecksumOption(true))
		},
	}
	f.Fuzz(func(t *testing.T, contents []byte) {
		for want, writer := range writers {
			var b bytes.Buffer
			z, err := writer(&b)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := z.Write(contents); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			out, kind, _, err := unpack.Decompress(b.Bytes())
			if err != nil || kind != want || !bytes.Equal(out, contents) {
				t.Errorf("%d bytes came out of %s, error %v; want %d bytes from %s", len(out), kind, err, len(contents), want)
			}
		}
	})
}
