package unpack_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/unpack"
)

func TestErrorsSayWhereAndWhat(t *testing.T) {
	good := newc(file("a", "x")) // 116 bytes
	text := string(good)
	for name, c := range map[string]struct {
		image []byte
		want  string
	}{
		"nothing":           {nil, "segment 1 of the initramfs (unknown, at byte 0 of the image): there is no archive in it"},
		"zeros":             {make([]byte, 100), "there is no archive in it"},
		"junk":              {[]byte("junk"), "(unknown, at byte 0 of the image): bytes 6a 75 6e 6b begin neither an archive nor a compression"},
		"junk behind":       {join(good, []byte("junk")), "segment 2 of the initramfs (unknown, at byte 116 of the image)"},
		"off its place":     {join([]byte{0}, good), "segment 1 of the initramfs (unknown, at byte 1 of the image): bytes 30 37 30 37 30 31"},
		"second entry":      {join(good, []byte("0707021")), "segment 1 of the initramfs (plain, at byte 0 of the image), at byte 116 of the archive: the header of an entry is cut off after 7 bytes"},
		"packed":            {join(padded(bytes.Clone(good), 256), zip(join(good, good[:110]))), "segment 2 of the initramfs (gzip, at byte 256 of the image), at byte 116 of the archive: a name of 2 bytes is cut off after 0"},
		"packed junk":       {zip(join(good, []byte("junk"))), "at byte 116 of the archive: something else than a cpio archive follows an entry"},
		"packed, off":       {zip(join(good, []byte{0, 0}, good)), "at byte 118 of the archive: an entry does not begin at a multiple of four"},
		"packed nothing":    {join(zip(nil), good), "the stream does not begin with a cpio archive"},
		"packed zeros":      {zip(join(make([]byte, 4), good)), "the stream does not begin with a cpio archive"},
		"old cpio":          {[]byte(strings.Replace(text, "070701", "070707", 1)), "cpio's old format"},
		"other magic":       {[]byte(strings.Replace(text, "070701", "070703", 1)), `"070703" is no magic number`},
		"no digits":         {[]byte(strings.Replace(text, "000081A4", "0x0081A4", 1)), `field 2 of an entry's header is "0x0081A4"`},
		"no name":           {newc(item{name: "", mode: 0o100644, nameSize: 4097}), "a name has 4097 bytes"},
		"name without zero": {newc(item{name: "ab", mode: 0o100644, nameSize: 2}), "a name does not end with a zero"},
		"long link":         {newc(link("l", strings.Repeat("x", 4097))), `"l" is a symbolic link to a path of 4097 bytes`},
		"directory's body":  {newc(item{name: "d", mode: 0o40755, body: "x"}), `"d" has contents, but is no file`},
		"cut file":          {newc(item{name: "a\n", mode: 0o100644, body: "x", bodySize: 5}), `the 5 bytes of "a\n" are cut off`},
		"bad checksum":      {newc(item{name: "a", mode: 0o100644, body: "x", check: new(uint32('y'))}), `the contents of "a" don't have the checksum`},
		"gzip's method":     {[]byte("\x1f\x8b\x07\x00\x00\x00\x00\x00\x00\x00"), "not deflated"},
		"gzip's header":     {[]byte("\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\x00"), "fields that gzip skips and the kernel takes for data"},
		"zstd's dictionary": {[]byte("\x28\xb5\x2f\xfd\x01\x00\x00\x00\x00\x00"), "needs a dictionary"},
		"lz4's dictionary":  {[]byte("\x04\x22\x4d\x18\x41\x40\x00\x00\x00\x00\x00"), "needs a dictionary"},
		"lzma's properties": {append([]byte("\x5d\x00"), make([]byte, 10)...), "too early"},
	} {
		t.Run(name, func(t *testing.T) {
			tree, err := unpack.Read(c.image)
			var e *unpack.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v; want an *unpack.Error with %q", err, c.want)
			}
			if tree == nil {
				t.Error("there is no tree")
			}
		})
	}
}

func TestWhatStoodBeforeAnErrorIsKept(t *testing.T) {
	packed := zip(newc(file("b", "y"), file("c", strings.Repeat("z", 5000))))
	tree, err := unpack.Read(join(newc(file("a", "x")), packed[:len(packed)-20]))
	if err == nil {
		t.Fatal("the image was read without an error")
	}
	files, _ := show(tree)
	if len(files) != 2 || files[0] != "a 100644"+has("x") || files[1] != "b 100644"+has("y") {
		t.Errorf("files %q; want a and b", files)
	}
	if len(tree.Segments) != 2 {
		t.Errorf("%d segments; want 2, with the one that is damaged", len(tree.Segments))
	}
}

// One bit that differs in a stream with a checksum that the kernel looks at is an
// error, or changes nothing that was unpacked.
func TestDamagedSamples(t *testing.T) {
	archive := sampleArchive(t)
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			packed := readSample(t, s.name)
			checked := s.kind == "bzip2" || s.kind == "xz" || s.kind == "zstd" || s.kind == "lz4 frame"
			if strings.Contains(s.name, "unchecked") || strings.Contains(s.name, "arm") {
				checked = false
			}
			for at := 0; at < len(packed); at += 1 + at/40 {
				bad := bytes.Clone(packed)
				bad[at] ^= 1 << (at % 8)
				out, _, used, err := unpack.Decompress(bad)
				if used > len(bad) {
					t.Errorf("byte %d: %d of %d bytes were used", at, used, len(bad))
				}
				if checked && err == nil && !bytes.Equal(out, archive) {
					t.Errorf("byte %d: other contents came out without an error", at)
				}
			}
		})
	}
}
