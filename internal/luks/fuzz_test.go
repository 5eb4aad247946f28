package luks_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/luks"
)

// tiny has a volume key of one byte, so that its header has 40 KiB.
const tiny = `{"keyslots":{"0":{"type":"luks2","key_size":1,"af":{"type":"luks1","stripes":4000,"hash":"sha256"},"area":{"type":"raw","offset":"32768","size":"4096","encryption":"aes-xts-plain64","key_size":64},"kdf":{"type":"pbkdf2","hash":"sha256","iterations":1000,"salt":"AAAA"},"priority":2}},"tokens":{"0":{"type":"x","keyslots":["0"],"y":[1,{"z":null}]}},"segments":{"0":{"type":"crypt","offset":"0","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":512,"flags":[]}},"digests":{"0":{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1000,"salt":"AAAA","digest":"AAAA"}},"config":{"json_size":"12288","keyslots_size":"4096","flags":["allow-discards","high_priority"],"requirements":{"mandatory":[]}}}`

const tinyLen = 2*copyLen + 4096

// checkOpen demands what Open promises of every input.
func checkOpen(t *testing.T, b []byte) *luks.Header {
	h, err := open(b)
	var c *luks.CopyError
	known := err == nil || errors.As(err, &c) || err == luks.ErrNotLUKS
	for _, kind := range []error{luks.ErrDamaged, luks.ErrMalformed, luks.ErrUnsupported, luks.ErrReencrypting} {
		known = known || errors.Is(err, kind)
	}
	if !known {
		t.Fatalf("the error has no kind: %v", err)
	}
	if err != nil {
		printable(t, err.Error())
	}
	if (h != nil) != (err == nil || c != nil) {
		t.Fatalf("header %v with error %v", h, err)
	}
	if h == nil {
		return nil
	}
	text := h.Canonical()
	for _, line := range bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")) {
		printable(t, string(line))
	}
	stored, err := luks.ParseSummary(text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if d := luks.Diff(stored, h.Summary()); len(d) > 0 {
		t.Fatalf("read back, it differs: %q", d)
	}
	return h
}

// FuzzMetadata gives JSON texts with a right checksum: what an attacker would write.
func FuzzMetadata(f *testing.F) {
	golden, err := os.ReadFile("testdata/luks2.json")
	if err != nil {
		f.Fatal(err)
	}
	if h, err := open(build(tiny, tinyLen)); err != nil || len(h.KeySlots) != 1 {
		f.Fatalf("the seed is refused: %v", err)
	}
	for _, s := range []string{tiny, string(golden), strings.ReplaceAll(tiny, `"luks2"`, `"reencrypt"`), strings.Replace(tiny, `[]}}}`, `["opal"]}}}`, 1)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		if len(doc) >= copyLen-4096 {
			return
		}
		h := checkOpen(t, build(doc, tinyLen))
		if h == nil {
			return
		}
		// The same said otherwise: members sorted, spaces and escapes changed.
		var v any
		d := json.NewDecoder(strings.NewReader(doc))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("what was accepted is not JSON: %v", err)
		}
		again, err := json.Marshal(v)
		if err != nil || len(again) >= copyLen-4096 {
			return
		}
		if o := checkOpen(t, build(string(again), tinyLen)); o == nil || !same(h, o) {
			t.Fatalf("%s\nand\n%s\nare measured otherwise", doc, again)
		}
	})
}

// FuzzOpen gives whole headers, as they are and with their checksums mended.
func FuzzOpen(f *testing.F) {
	seeds := [][]byte{build(tiny, tinyLen), golden1()[:4096], append([]byte("LUKS\xde\xad\x00\x01"), make([]byte, 600)...)}
	small := golden1()
	small[111] = 1 // bytes of the key
	for i := range 8 {
		small[208+48*i+42], small[208+48*i+43] = 0, byte(8+8*i)
	}
	small[106], small[107] = 0, 72
	seeds = append(seeds, small[:40960])
	if h, err := open(small[:40960]); err != nil || h.Version != 1 || len(h.KeySlots) != 2 {
		f.Fatalf("the seed of LUKS1 is refused: %v", err)
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkOpen(t, b)
		if len(b) >= 2*copyLen {
			b = bytes.Clone(b)
			mend(b)
			checkOpen(t, b)
		}
	})
}

// FuzzSummary gives what may stand on a medium.
func FuzzSummary(f *testing.F) {
	for _, name := range []string{"testdata/luks1.canonical", "testdata/luks2.canonical"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, []byte("aem-luks 1\nkeyslots/0/kdf/time 4\nversion 2\n"))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x, err := luks.ParseSummary(a)
		if err != nil {
			return
		}
		y, err := luks.ParseSummary(b)
		if err != nil {
			return
		}
		sentences := luks.Diff(x, y)
		for _, s := range sentences {
			printable(t, s)
		}
		if !bytes.Equal(a, b) && len(sentences) == 0 {
			t.Fatalf("nothing is said of the difference between\n%s\nand\n%s", a, b)
		}
	})
}
