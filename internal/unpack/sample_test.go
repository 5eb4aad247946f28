package unpack_test

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/unpack"
)

// makeSamples makes the samples anew, with the programs of this machine:
//
//	go test ./internal/unpack -run TestSamples -samples
var makeSamples = flag.Bool("samples", false, "make the compressed samples anew")

// sample is a file in testdata: the archive of sampleArchive, compressed by the
// program that people use for it, so that no library judges its own work.
type sample struct {
	name    string
	command string
	kind    string
	kernel  bool // takes it
}

func samples() []sample {
	return []sample{
		{"sample.gz", "gzip -9n", "gzip", true},
		{"sample.bz2", "bzip2", "bzip2", true},
		{"sample.lzma", "xz --format=lzma", "lzma", true},
		{"sample.xz", "xz --check=crc32", "xz", true},
		{"sample-unchecked.xz", "xz --check=none --lzma2=lc=1,lp=2,pb=1", "xz", true},
		{"sample-x86.xz", "xz --check=crc32 --x86 --lzma2=preset=9e", "xz", true},
		{"sample-x86-blocks.xz", "xz --check=crc32 --threads=2 --block-size=7777 --x86 --lzma2", "xz", true},
		{"sample-blocks.xz", "xz --check=crc32 --threads=2 --block-size=10000", "xz", true},
		{"sample-crc64.xz", "xz --check=crc64", "xz", false},
		{"sample-sha256.xz", "xz --check=sha256", "xz", false},
		{"sample-arm.xz", "xz --check=crc32 --arm --lzma2", "xz", false},
		{"sample.lzo", "lzop", "lzo", true},
		{"sample-9.lzo", "lzop -9", "lzo", true},
		{"sample.lz4", "lz4 -l -9", "lz4", true},
		{"sample-frame.lz4", "lz4 -9", "lz4 frame", false},
		{"sample-linked.lz4", "lz4 -B4 -BD -BX --content-size", "lz4 frame", false},
		{"sample.zst", "zstd -19", "zstd", true},
		{"sample-unchecked.zst", "zstd -1 --no-check", "zstd", true},
	}
}

// sampleArchive is an archive with something in it for every part of a
// decompressor: text, calls of x86 code to places that recur, zeros, noise, and
// the same again from far away.
func sampleArchive(t testing.TB) []byte {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	var words []string
	for range 40 {
		word := make([]byte, 2+r.IntN(9))
		for i := range word {
			word[i] = byte('a' + r.IntN(26))
		}
		words = append(words, string(word))
	}
	var text strings.Builder
	for text.Len() < 6000 {
		text.WriteString(words[min(r.IntN(40), r.IntN(40))] + " ")
	}
	var code []byte
	for len(code) < 3000 {
		target := uint32(r.IntN(4))*0x120 + 0x400
		relative := target - uint32(len(code)+5)
		code = append(code, byte(0xe8+r.IntN(2)), byte(relative), byte(relative>>8), byte(relative>>16), byte(relative>>24))
		code = append(code, "\x48\x89\xe5\xe8\x00\x0f\xff\xe8\xe9\x00\x5d\xc3"[r.IntN(4):4+r.IntN(9)]...)
	}
	noise := make([]byte, 700)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	var a initramfs.Archive
	a.File("init", 0o755, []byte("#!/bin/sh\n"))
	a.File("usr/bin/code", 0o755, code)
	a.File("usr/share/noise", 0o600, noise)
	a.File("usr/share/text", 0o644, []byte(text.String()))
	a.File("usr/share/zeros", 0o644, bytes.Join([][]byte{make([]byte, 40000), noise[:300], make([]byte, 70), noise[100:], code}, nil))
	a.Symlink("usr/sbin", "bin")
	b, err := a.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readSample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSamples(t *testing.T) {
	archive := sampleArchive(t)
	want := mustRead(t, archive)
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			if *makeSamples {
				args := strings.Fields(s.command)
				cmd := exec.Command(args[0], append(args[1:], "-c")...)
				cmd.Stdin = bytes.NewReader(archive)
				b, err := cmd.Output()
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join("testdata", s.name), b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			packed := readSample(t, s.name)
			if s.name == "sample-arm.xz" {
				if _, err := unpack.Read(packed); err == nil || !strings.Contains(err.Error(), "filter 0x7") {
					t.Errorf("error %v; want one that names the filter", err)
				}
				return
			}
			// What follows is no part of the stream, whatever it is.
			for _, rest := range []string{"", "\x00", "\x00\x00\x00\x00\x00", "\x00\x00\x00\x00rest"} {
				out, kind, used, err := unpack.Decompress(append(packed[:len(packed):len(packed)], rest...))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(out, archive) || kind != s.kind {
					t.Errorf("%d bytes came out of %s; want the archive of %d bytes from %s", len(out), kind, len(archive), s.kind)
				}
				// lzma(1)'s last byte is a zero that no one needs to read.
				if used != len(packed) && !(kind == "lzma" && used == len(packed)-1 && packed[used] == 0) {
					t.Errorf("%d bytes were used with %q behind; want %d", used, rest, len(packed))
				}
			}
			tree := mustRead(t, packed)
			if changes := unpack.Diff(want, tree); len(changes) > 0 {
				t.Errorf("the files differ: %v", changes)
			}
			if doubted := len(tree.Doubts) > 0; doubted == s.kernel {
				t.Errorf("doubts %q; want some: %v", tree.Doubts, !s.kernel)
			}
		})
	}
}

// Every sample cut off at any place gives an error, and never a file that is not
// in the whole.
func TestCutSamples(t *testing.T) {
	archive, whole := sampleArchive(t), map[string]unpack.File{}
	for _, f := range mustRead(t, archive).Files {
		whole[f.Path] = f
	}
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			packed := readSample(t, s.name)
			for n := 1; n < len(packed)-1; n += 1 + n/16 + len(packed)/n/64 {
				if out, _, _, _ := unpack.Decompress(packed[:n]); !bytes.HasPrefix(archive, out) && !strings.Contains(s.name, "x86") {
					t.Errorf("%d of %d bytes gave something else than the beginning of the archive", n, len(packed))
				}
				tree, err := unpack.Read(packed[:n])
				if err == nil && len(tree.Doubts) == 0 {
					t.Errorf("%d of %d bytes gave %d files and no error", n, len(packed), len(tree.Files))
				}
				for _, f := range tree.Files {
					if d := cmp.Diff(whole[f.Path], f); d != "" {
						t.Errorf("%d of %d bytes: %s", n, len(packed), d)
					}
				}
			}
		})
	}
}
