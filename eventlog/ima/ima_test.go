package ima_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"runtime"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/eventlog/ima"
	"github.com/antievilmaid/aem/internal/corpus"
	"github.com/antievilmaid/aem/tpm"
)

var algs = []tpm.Alg{tpm.SHA1, tpm.SHA256}

// entry writes a binary entry with SHA-1 template digests.
func entry(pcr uint32, template string, fields ...string) []byte {
	var data []byte
	for _, f := range fields {
		data = append(binary.LittleEndian.AppendUint32(data, uint32(len(f))), f...)
	}
	b := binary.LittleEndian.AppendUint32(nil, pcr)
	b = append(b, tpm.SHA1.Sum(data)...)
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(template))), template...)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(data))), data...)
}

func file(name string) []byte {
	return entry(10, "ima-ng", "sha256:\x00"+string(tpm.SHA256.Sum([]byte(name))), name+"\x00")
}

type source interface{ Next() (*ima.Entry, error) }

func replay(t testing.TB, r source) (*ima.Replay, error) {
	t.Helper()
	p := ima.NewReplay(algs...)
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return p, nil
		}
		if err != nil {
			return p, err
		}
		if err := p.Add(e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestListsOfTheCorpusReplayAsAnIndependentParserDoes(t *testing.T) {
	compared := 0
	for _, name := range corpus.Files(t) {
		class, base := path.Split(name)
		if class != "ima/" && !strings.HasPrefix(base, "ima-") || strings.HasSuffix(base, ".txt") {
			continue
		}
		b := corpus.Read(t, name)
		p, err := replay(t, ima.NewReader(bytes.NewReader(b)))
		if damaged := strings.Contains(name, "trunc") || strings.Contains(name, "ng-sha1-invalidated"); (err != nil) != damaged {
			t.Errorf("%s: %v", name, err)
		}
		if p.Entries == 0 && err == nil {
			t.Errorf("%s: no entry", name)
		}
		for _, want := range corpus.Banks(t, name, "replay") {
			for i, value := range want.Values {
				if value == nil {
					continue
				}
				compared++
				if got := p.Own.Value(want.Alg, tpm.PCR(i)); !got.Equal(value) {
					t.Errorf("%s: %s PCR %d replays to %s; want %s", name, want.Alg, i, got, value)
				}
			}
		}
		t.Logf("%s: %d entries, %d violations, %d untrue", name, p.Entries, p.Violations, p.Untrue)
	}
	if compared == 0 {
		t.Error("no PCR was compared")
	}
}

func TestTextsOfTheCorpusAreRead(t *testing.T) {
	for _, name := range corpus.Files(t, "ima") {
		base := path.Base(name)
		if !strings.HasSuffix(base, ".txt") || !strings.HasPrefix(base, "keylime") && !strings.Contains(base, "ascii") {
			continue
		}
		b := corpus.Read(t, name)
		p, err := replay(t, ima.NewTextReader(bytes.NewReader(b)))
		if err != nil || p.Entries == 0 {
			t.Errorf("%s: %d entries, %v", name, p.Entries, err)
		}
	}
}

// The two forms of one list lead to the same values.
func TestTextAndBinaryAgree(t *testing.T) {
	names := []string{"boot_aggregate", "/usr/bin/init", "/etc/passwd"}
	var list []byte
	var text strings.Builder
	for _, n := range names {
		list = append(list, file(n)...)
		d := tpm.SHA256.Sum([]byte(n))
		data := file(n)
		fmt.Fprintf(&text, "10 %x ima-ng sha256:%s %s\n", data[4:24], d, n)
	}
	a, err := replay(t, ima.NewReader(bytes.NewReader(list)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := replay(t, ima.NewTextReader(strings.NewReader(text.String())))
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range algs {
		if !a.Own.Value(alg, 10).Equal(b.Own.Value(alg, 10)) {
			t.Errorf("%s: binary %s, text %s", alg, a.Own.Value(alg, 10), b.Own.Value(alg, 10))
		}
	}
	if a.Untrue+b.Untrue != 0 || a.First == nil || b.First == nil || !a.First.Digest.Equal(b.First.Digest) {
		t.Errorf("binary %+v, text %+v", a, b)
	}
}

func TestTemplatesAreDispatchedByNameAndByFormat(t *testing.T) {
	digest := "sha256:\x00" + strings.Repeat("d", 32)
	for _, c := range []struct {
		template string
		fields   []string
		file     string
	}{
		{"ima-ng", []string{digest, "/a\x00"}, "/a"},
		{"ima-ngv2", []string{"verity:" + digest, "/a\x00"}, "/a"},
		{"ima-sig", []string{digest, "/a\x00", "signature"}, "/a"},
		{"ima-buf", []string{digest, "kexec-cmdline\x00", "root=/dev/sda"}, "kexec-cmdline"},
		{"ima-modsig", []string{digest, "/a\x00", "s", digest, "m"}, "/a"},
		{"n-ng|sig|d-ng", []string{"/a\x00", "s", digest}, "/a"},
		{"unheard-of", []string{"x", "y"}, ""},
	} {
		r := ima.NewReader(bytes.NewReader(entry(11, c.template, c.fields...)))
		e, err := r.Next()
		if err != nil {
			t.Errorf("%s: %v", c.template, err)
			continue
		}
		if e.File() != c.file || e.PCR != 11 || !e.True() || len(e.Fields) != len(c.fields) {
			t.Errorf("%s: file %q, PCR %d, true %t, %d fields", c.template, e.File(), e.PCR, e.True(), len(e.Fields))
		}
		prefix, alg, d := e.FileDigest()
		if c.file != "" && (alg != tpm.SHA256 || string(d) != strings.Repeat("d", 32) || (prefix == "verity") != (c.template == "ima-ngv2")) {
			t.Errorf("%s: digest %q %s %s", c.template, prefix, alg, d)
		}
	}
}

func TestTheOldTemplateHasNoLength(t *testing.T) {
	digest, name := tpm.SHA1.Sum([]byte("x")), "/sbin/init"
	padded := append(append([]byte{}, digest...), make([]byte, 256)...)
	copy(padded[20:], name)
	b := append([]byte{10, 0, 0, 0}, tpm.SHA1.Sum(padded)...)
	b = append(b, "\x03\x00\x00\x00ima"...)
	b = append(append(b, digest...), byte(len(name)), 0, 0, 0)
	b = append(b, name...)
	p, err := replay(t, ima.NewReader(bytes.NewReader(append(b, b...))))
	if err != nil || p.Entries != 2 || p.Untrue != 0 {
		t.Errorf("%d entries, %d untrue, %v", p.Entries, p.Untrue, err)
	}
}

// A violation extends ones into every bank; a digest of zeros there would be a
// value that nobody extended.
func TestViolationsExtendOnes(t *testing.T) {
	b := file("/a")
	clear(b[4:24])
	p, err := replay(t, ima.NewReader(bytes.NewReader(b)))
	if err != nil || p.Violations != 1 {
		t.Fatalf("%d violations, %v", p.Violations, err)
	}
	for _, a := range algs {
		want := tpm.Bank{Alg: a}
		want.Reset(tpm.PCRSet(10), true)
		if err := want.Extend(10, bytes.Repeat([]byte{0xff}, a.Size())); err != nil {
			t.Fatal(err)
		}
		if p.Explains(a, 10, want.Values[10]) != ima.MatchOwn {
			t.Errorf("%s: %s; want %s", a, p.Own.Value(a, 10), want.Values[10])
		}
	}
}

func TestADigestThatIsNotThatOfTheDataIsCounted(t *testing.T) {
	b := file("/a")
	b[4] ^= 1
	p, err := replay(t, ima.NewReader(bytes.NewReader(append(file("/b"), b...))))
	if err != nil || p.Untrue != 1 || p.FirstUntrue != 1 {
		t.Errorf("%d untrue, the first is %d, %v", p.Untrue, p.FirstUntrue, err)
	}
}

func TestOldKernelsPadSHA1(t *testing.T) {
	p, err := replay(t, ima.NewReader(bytes.NewReader(file("/a"))))
	if err != nil {
		t.Fatal(err)
	}
	old := tpm.Bank{Alg: tpm.SHA256}
	old.Reset(tpm.PCRSet(10), true)
	d := make(tpm.Digest, 32)
	copy(d, file("/a")[4:24])
	if err := old.Extend(10, d); err != nil {
		t.Fatal(err)
	}
	if got := p.Explains(tpm.SHA256, 10, old.Values[10]); got != ima.MatchPadded {
		t.Errorf("a kernel before 5.8: %s", got)
	}
	if got := p.Explains(tpm.SHA256, 10, make(tpm.Digest, 32)); got != ima.NoMatch {
		t.Errorf("another value: %s", got)
	}
	if got := p.Explains(tpm.SHA256, 10, nil); got != ima.NoMatch {
		t.Errorf("no value: %s", got)
	}
}

func TestBootAggregates(t *testing.T) {
	bank := tpm.Bank{Alg: tpm.SHA256}
	bank.Reset(1<<10-1, true)
	for p := range tpm.PCR(10) {
		if err := bank.Extend(p, tpm.SHA256.Sum([]byte{byte(p)})); err != nil {
			t.Fatal(err)
		}
	}
	for _, last := range []tpm.PCR{7, 9} {
		var all []byte
		for p := range last + 1 {
			all = append(all, bank.Values[p]...)
		}
		a := ima.Aggregate{Alg: tpm.SHA256, Digest: tpm.SHA256.Sum(all)}
		if got, ok := a.Covers(tpm.Banks{bank}); !ok || got != last {
			t.Errorf("of PCRs 0 to %d: %d, %t", last, got, ok)
		}
	}
	other := ima.Aggregate{Alg: tpm.SHA256, Digest: make(tpm.Digest, 32)}
	if _, ok := other.Covers(tpm.Banks{bank}); ok {
		t.Error("an aggregate of zeros belongs to this boot")
	}
	if _, ok := other.Covers(nil); ok {
		t.Error("an aggregate belongs to no PCRs at all")
	}
}

// Cut anywhere, the entries before the cut are kept and the damage has a place.
func TestCutLists(t *testing.T) {
	one := file("/a")
	list := append(append([]byte{}, one...), file("/b")...)
	for n := 1; n < len(list); n++ {
		p, err := replay(t, ima.NewReader(bytes.NewReader(list[:n])))
		if n == len(one) {
			if err != nil || p.Entries != 1 {
				t.Errorf("cut between two entries: %d entries, %v", p.Entries, err)
			}
			continue
		}
		var syntax *ima.SyntaxError
		if !errors.As(err, &syntax) || syntax.Entry != p.Entries || p.Entries != n/len(one) {
			t.Errorf("cut at %d: %d entries, %v", n, p.Entries, err)
		}
	}
}

func TestListsThatClaimTooMuch(t *testing.T) {
	put := func(at int, v uint32) []byte {
		b := file("/a")
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	for name, b := range map[string][]byte{
		"a PCR that no TPM has":    put(0, 24),
		"a template without name":  put(24, 0),
		"a name of 4 GiB":          put(24, 0xffffffff),
		"data of 2 GiB":            put(34, 0x7fffffff),
		"data beyond the end":      put(34, 1<<20),
		"no list at all":           []byte("tcg eventlog?"),
		"a template with a escape": bytes.Replace(file("/a"), []byte("ima-ng"), []byte("ima\x1bng"), 1),
	} {
		var syntax *ima.SyntaxError
		if p, err := replay(t, ima.NewReader(bytes.NewReader(b))); !errors.As(err, &syntax) || p.Entries != 0 {
			t.Errorf("%s: %d entries, %v", name, p.Entries, err)
		}
	}
}

// endless is a list without an end, made as it is read.
type endless struct {
	one  []byte
	left int
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := copy(p, e.one[e.at:])
	n = min(n, e.left)
	e.at = (e.at + n) % len(e.one)
	e.left -= n
	return n, nil
}

// A list may be far larger than memory: reading needs no more for a long one than
// for a short one.
func TestALongListNeedsNoMoreMemoryThanAShortOne(t *testing.T) {
	one := file("/usr/lib/x86_64-linux-gnu/libc.so.6")
	allocated := func(entries int) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := ima.NewReader(&endless{one: one, left: entries * len(one)})
		n := 0
		for {
			if _, err := r.Next(); err != nil {
				if !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				break
			}
			n++
		}
		runtime.ReadMemStats(&after)
		if n != entries {
			t.Fatalf("%d entries; want %d", n, entries)
		}
		return after.TotalAlloc - before.TotalAlloc
	}
	short, long := allocated(100), allocated(200_000)
	if long > short+64<<10 {
		t.Errorf("200000 entries took %d bytes of memory, 100 took %d", long, short)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(file("/a"))
	f.Add(entry(10, "n-ng|sig|d-ng", "/a\x00", "s", "sha1:\x00"+strings.Repeat("d", 20)))
	f.Add(entry(10, "ima-modsig", "", "", ""))
	f.Add(append([]byte{10, 0, 0, 0}, append(make([]byte, 20), "\x03\x00\x00\x00ima"...)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := ima.NewReader(bytes.NewReader(b))
		p := ima.NewReplay(algs...)
		for range len(b) + 1 {
			e, err := r.Next()
			if err != nil {
				var syntax *ima.SyntaxError
				if !errors.Is(err, io.EOF) && !errors.As(err, &syntax) {
					t.Fatalf("an error of another kind: %v", err)
				}
				return
			}
			for _, c := range e.String() {
				if c < ' ' || c > '~' {
					t.Fatalf("it prints %q", e.String())
				}
			}
			if err := p.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		t.Error("there are more entries than bytes")
	})
}

func FuzzTextReader(f *testing.F) {
	f.Add("10 0123456789012345678901234567890123456789 ima-ng sha1:0123456789012345678901234567890123456789 /a\n")
	f.Add("10 0123456789012345678901234567890123456789 ima 0123456789012345678901234567890123456789 /a b\n")
	f.Fuzz(func(t *testing.T, s string) {
		r := ima.NewTextReader(strings.NewReader(s))
		p := ima.NewReplay(algs...)
		for {
			e, err := r.Next()
			if err != nil {
				return
			}
			if err := p.Add(e); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkReplay(b *testing.B) {
	one := file("/usr/lib/x86_64-linux-gnu/libc.so.6")
	b.SetBytes(int64(len(one)))
	r := ima.NewReader(&endless{one: one, left: math.MaxInt})
	p := ima.NewReplay(algs...)
	for b.Loop() {
		e, err := r.Next()
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Add(e); err != nil {
			b.Fatal(err)
		}
	}
}
