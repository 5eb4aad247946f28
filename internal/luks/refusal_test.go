package luks_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/luks"
)

func TestRefusals(t *testing.T) {
	template := twoSlots(t)
	for name, c := range map[string]struct {
		oldnew []string
		want   error
	}{
		"integrity":                  {[]string{`"iv_tweak":"0"`, `"iv_tweak":"0","integrity":{"type":"hmac(sha256)","journal_encryption":"none","journal_integrity":"none"}`}, luks.ErrUnsupported},
		"a segment that is linear":   {[]string{`"type":"crypt"`, `"type":"linear"`}, luks.ErrUnsupported},
		"a drive's own encryption":   {[]string{`"type":"crypt"`, `"type":"hw-opal-crypt"`}, luks.ErrUnsupported},
		"two segments":               {[]string{`"segments":{"0":`, `"segments":{"1":{"type":"crypt","offset":"4198400","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":512},"0":`, `"segments":["0"]`, `"segments":["0","1"]`}, luks.ErrUnsupported},
		"no segment":                 {[]string{template.between(`"segments":{`, `},"digests"`), ``, `"segments":["0"]`, `"segments":[]`}, luks.ErrUnsupported},
		"a segment being moved":      {[]string{`"iv_tweak":"0"`, `"iv_tweak":"0","flags":["in-reencryption"]`}, luks.ErrReencrypting},
		"an old segment kept":        {[]string{`"iv_tweak":"0"`, `"iv_tweak":"0","flags":["backup-final"]`}, luks.ErrReencrypting},
		"re-encryption":              {[]string{`"keyslots_size":`, `"requirements":{"mandatory":["online-reencrypt-v2"]},"keyslots_size":`}, luks.ErrReencrypting},
		"re-encryption offline":      {[]string{`"keyslots_size":`, `"requirements":{"mandatory":["offline-reencrypt"]},"keyslots_size":`}, luks.ErrReencrypting},
		"a requirement from later":   {[]string{`"keyslots_size":`, `"requirements":{"mandatory":["from-tomorrow"]},"keyslots_size":`}, luks.ErrUnsupported},
		"requirements as a list":     {[]string{`"keyslots_size":`, `"requirements":["from-tomorrow"],"keyslots_size":`}, luks.ErrMalformed},
		"a section from later":       {[]string{`"tokens":{}`, `"tokens":{},"wards":{}`}, luks.ErrUnsupported},
		"a slot of another type":     {[]string{`"1":{"type":"luks2"`, `"1":{"type":"luks3"`}, luks.ErrUnsupported},
		"another key derivation":     {[]string{`"type":"argon2id"`, `"type":"scrypt"`}, luks.ErrUnsupported},
		"another splitter":           {[]string{`"stripes":4000,"hash":"sha256"},"area":{"type":"raw","offset":"32768"`, `"stripes":4001,"hash":"sha256"},"area":{"type":"raw","offset":"32768"`}, luks.ErrUnsupported},
		"a journal as an area":       {[]string{`"type":"raw","offset":"32768"`, `"type":"journal","offset":"32768"`}, luks.ErrUnsupported},
		"a digest of another type":   {[]string{`"type":"pbkdf2","keyslots"`, `"type":"pbkdf3","keyslots"`}, luks.ErrUnsupported},
		"a slot in two digests":      {[]string{`"digests":{`, `"digests":{"1":` + template.digestObject(`["0"]`, `[]`) + `,`}, luks.ErrMalformed},
		"a segment in two digests":   {[]string{`"digests":{`, `"digests":{"1":` + template.digestObject(`[]`, `["0"]`) + `,`}, luks.ErrMalformed},
		"a digest of what is not":    {[]string{`"keyslots":["0","1"]`, `"keyslots":["0","1","2"]`}, luks.ErrMalformed},
		"a slot without a digest":    {[]string{`"keyslots":["0","1"]`, `"keyslots":["0"]`}, luks.ErrMalformed},
		"data without a digest":      {[]string{`"segments":["0"]`, `"segments":[]`}, luks.ErrMalformed},
		"a token of what is not":     {[]string{`"tokens":{}`, `"tokens":{"0":{"type":"x","keyslots":["5"]}}`}, luks.ErrMalformed},
		"a token without slots":      {[]string{`"tokens":{}`, `"tokens":{"0":{"type":"x"}}`}, luks.ErrMalformed},
		"slots in one place":         {[]string{`"offset":"290816"`, `"offset":"32768"`}, luks.ErrMalformed},
		"slots that overlap":         {[]string{`"offset":"290816"`, `"offset":"290304"`}, luks.ErrMalformed},
		"a slot in the header":       {[]string{`"offset":"32768"`, `"offset":"16384"`}, luks.ErrMalformed},
		"a slot in the data":         {[]string{`"offset":"32768"`, `"offset":"4194304"`}, luks.ErrMalformed},
		"a slot at the end of all":   {[]string{`"offset":"32768"`, `"offset":"18446744073709551104"`}, luks.ErrMalformed},
		"a slot between sectors":     {[]string{`"offset":"32768"`, `"offset":"1000001"`}, luks.ErrMalformed},
		"a slot that is too small":   {[]string{`"offset":"32768","size":"258048"`, `"offset":"32768","size":"512"`}, luks.ErrMalformed},
		"a key without end":          {[]string{`"1":{"type":"luks2","key_size":64`, `"1":{"type":"luks2","key_size":2147483647`}, luks.ErrMalformed},
		"a key of nothing":           {[]string{`"1":{"type":"luks2","key_size":64`, `"1":{"type":"luks2","key_size":0`}, luks.ErrMalformed},
		"keys of two sizes":          {[]string{`"1":{"type":"luks2","key_size":64`, `"1":{"type":"luks2","key_size":32`}, luks.ErrMalformed},
		"a slot beyond the last":     {[]string{`"1":{"type":"luks2"`, `"32":{"type":"luks2"`, `"keyslots":["0","1"]`, `"keyslots":["0","32"]`}, luks.ErrMalformed},
		"a number with a zero":       {[]string{`"1":{"type":"luks2"`, `"01":{"type":"luks2"`, `"keyslots":["0","1"]`, `"keyslots":["0","01"]`}, luks.ErrMalformed},
		"data in the header":         {[]string{`"offset":"4194304"`, `"offset":"4096"`}, luks.ErrMalformed},
		"an offset with a sign":      {[]string{`"offset":"4194304"`, `"offset":"+4194304"`}, luks.ErrMalformed},
		"an offset with a zero":      {[]string{`"offset":"4194304"`, `"offset":"04194304"`}, luks.ErrMalformed},
		"an offset as a number":      {[]string{`"offset":"4194304"`, `"offset":4194304`}, luks.ErrMalformed},
		"iterations with a fraction": {[]string{`"time":4`, `"time":4.5`}, luks.ErrMalformed},
		"iterations below nothing":   {[]string{`"time":4`, `"time":-4`}, luks.ErrMalformed},
		"iterations beyond 31 bits":  {[]string{`"time":4`, `"time":4294967300`}, luks.ErrMalformed},
		"a salt that is none":        {[]string{template.salt(0), `????`}, luks.ErrMalformed},
		"a tweak that is no number":  {[]string{`"iv_tweak":"0"`, `"iv_tweak":"x"`}, luks.ErrMalformed},
		"two members of one name":    {[]string{`"time":4`, `"time":4,"time":1`}, luks.ErrMalformed},
		"two of one name, escaped":   {[]string{`"time":4`, `"time":4,"\u0074ime":1`}, luks.ErrMalformed},
		"a comment":                  {[]string{`"time":4`, `"time":/*4*/1`}, luks.ErrMalformed},
		"single quotes":              {[]string{`"time":4`, `'time':4`}, luks.ErrMalformed},
		"a comma at the end":         {[]string{`"time":4,`, `"time":4,,`}, luks.ErrMalformed},
		"a zero byte in a text":      {[]string{`"type":"argon2id"`, `"type":"argon2id\u0000x"`}, luks.ErrMalformed},
		"a zero byte in a name":      {[]string{`"time":4`, `"time":4,"time\u0000x":1`}, luks.ErrMalformed},
		"another text behind":        {[]string{`"config":{`, "\"config\":{}}\x00{\"x\":{"}, luks.ErrMalformed},
		"a space at the end":         {[]string{`"config":{"json_size":"12288","keyslots_size":"` + template.between(`"keyslots_size":"`, `"`) + `"}}`, `"config":{"json_size":"12288","keyslots_size":"4161536"}} `}, luks.ErrMalformed},
		"not UTF-8":                  {[]string{`"tokens":{}`, "\"tokens\":{\"0\":{\"type\":\"\xff\",\"keyslots\":[]}}"}, luks.ErrMalformed},
		"too deep":                   {[]string{`"tokens":{}`, `"tokens":{"0":{"type":"x","keyslots":[],"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}}`}, luks.ErrMalformed},
		"not an object":              {[]string{`"tokens":{}`, `"tokens":[]`}, luks.ErrMalformed},
		"no configuration":           {[]string{`"config":{`, `"tokens":{`, `"tokens":{},`, ``}, luks.ErrMalformed},
		"another length of the JSON": {[]string{`"json_size":"12288"`, `"json_size":"12287"`}, luks.ErrMalformed},
		"slots beyond the device":    {[]string{`"keyslots_size":"` + template.between(`"keyslots_size":"`, `"`), `"keyslots_size":"134217728`}, luks.ErrDamaged},
		"slots without end":          {[]string{`"keyslots_size":"` + template.between(`"keyslots_size":"`, `"`), `"keyslots_size":"134221824`}, luks.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			v := template.clone(t)
			v.replace(c.oldnew...)
			if h, err := v.open(); h != nil || !errors.Is(err, c.want) {
				t.Errorf("%v; want %v", err, c.want)
			} else {
				printable(t, err.Error())
			}
		})
	}
}

func (v volume) digestObject(keyslots, segments string) string {
	return `{"type":"pbkdf2","keyslots":` + keyslots + `,"segments":` + segments + `,"hash":"sha256","iterations":1000,"salt":"` + base64Zeros + `","digest":"` + base64Zeros + `"}`
}

// printable demands that a sentence can be shown on a terminal.
func printable(t testing.TB, s string) {
	t.Helper()
	for _, r := range s {
		if r < ' ' || r > '~' {
			t.Errorf("%q is not printable", s)
		}
	}
}

// What json-c reads differently must not be a reason to measure the other copy: cryptsetup
// takes the first one here, and this reader would have understood the second alone.
func TestCopyThatIsNotUnderstoodIsNotPassedOver(t *testing.T) {
	for name, change := range map[string]string{"comment": `/**/`, "two members": `"type":"x",`} {
		v := format(t, "luks2", uuidA)
		v.cryptsetup("config", "--label", "second", v.path)
		b := v.read()
		doc := strings.Replace(v.json(), `"keyslots":{"0":{`, `"keyslots":{"0":{`+change, 1)
		copy(b[24:], "first\x00")
		copy(b[4096:copyLen], doc)
		mend(b)
		v.write(b)
		if h, err := v.open(); h != nil || !errors.Is(err, luks.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if dump := v.cryptsetup("luksDump", v.path); !strings.Contains(dump, "Label:         \tfirst\n") {
			t.Errorf("%s: cryptsetup does not take the first copy:\n%s", name, dump)
		}
	}
}

func TestReencryptionThatCryptsetupBegan(t *testing.T) {
	v := format(t, "luks2", uuidA)
	data := v.read()
	v.write(append(data, make([]byte, 16*mib)...))
	v.cryptsetup(append([]string{"reencrypt", "--init-only", "--resilience", "none", "--key-file", v.key("owner"), v.path}, pbkdf2...)...)
	if h, err := v.open(); h != nil || !errors.Is(err, luks.ErrReencrypting) {
		t.Errorf("%v", err)
	}
	old := format(t, "luks1", uuidA)
	old.poke(4, 0xde, 0xad)
	if h, err := old.open(); h != nil || !errors.Is(err, luks.ErrReencrypting) {
		t.Errorf("LUKS1: %v", err)
	}
}

func TestRequirementsAreNamed(t *testing.T) {
	v := format(t, "luks2", uuidA)
	v.replace(`"keyslots_size":`, `"requirements":{"mandatory":["opal","in\u001bline"]},"keyslots_size":`)
	_, err := v.open()
	var r *luks.RequirementError
	if !errors.As(err, &r) || !slices.Equal(r.Names, []string{"opal", "in\x1bline"}) {
		t.Fatalf("%v", err)
	}
	if !strings.Contains(err.Error(), "opal") {
		t.Errorf("the error does not name it: %v", err)
	}
	printable(t, err.Error())
}

func TestDamageThatCryptsetupSeesToo(t *testing.T) {
	template := format(t, "luks2", uuidA)
	for name, change := range map[string]func(b []byte) []byte{
		"both copies":                                  func(b []byte) []byte { b[30] ^= 1; b[copyLen+30] ^= 1; return b },
		"a device that ends in the header":             func(b []byte) []byte { return b[:copyLen+4096] },
		"a device that ends in the slots":              func(b []byte) []byte { return b[:mib] },
		"a device that ends in the first copy's start": func(b []byte) []byte { return b[:100] },
	} {
		v := template.clone(t)
		v.write(change(v.read()))
		h, err := v.open()
		if !errors.Is(err, luks.ErrDamaged) || h != nil {
			t.Errorf("%s: %v", name, err)
		}
		if out, err := v.try("luksDump", v.path); err == nil {
			t.Errorf("%s: cryptsetup reads it:\n%s", name, out)
		}
	}
}

func TestNoHeader(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":     nil,
		"zeros":       make([]byte, mib),
		"ext4":        append(make([]byte, 1080), 0x53, 0xef),
		"LUK":         []byte("LUKS\xba"),
		"only second": append(make([]byte, copyLen), []byte("SKUL\xba\xbe\x00\x02")...),
	} {
		if _, err := open(b); err != luks.ErrNotLUKS {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnknownVersionAndChecksumAreNotDamage(t *testing.T) {
	for name, at := range map[string]int{"version": 7, "checksum": 72} {
		v := format(t, "luks2", uuidA)
		b := v.read()
		b[at] ^= 4
		mend(b)
		if h, err := open(b); h != nil || !errors.Is(err, luks.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// sick is a disk with a sector that can't be read.
type sick struct {
	io.ReaderAt
	at int64
}

var errSick = errors.New("a sector can't be read")

func (s sick) ReadAt(b []byte, off int64) (int, error) {
	if off <= s.at && s.at < off+int64(len(b)) {
		return 0, errSick
	}
	return s.ReaderAt.ReadAt(b, off)
}

// An evil maid can make a sector unreadable, at the moment that suits her. Reading on
// elsewhere would be what she wants.
func TestUnreadableSectorIsAnError(t *testing.T) {
	v := format(t, "luks2", uuidA)
	b := v.read()
	for _, at := range []int64{0, 5000, copyLen, copyLen + 5000, 40000} {
		if h, err := luks.Open(sick{bytes.NewReader(b), at}, int64(len(b))); h != nil || !errors.Is(err, errSick) {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	// A device that is shorter than it says is no better.
	if h, err := luks.Open(bytes.NewReader(b[:50000]), int64(len(b))); h != nil || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short: %v", err)
	}
}

func TestLUKS1Refusals(t *testing.T) {
	at := func(slot, field int) int { return 208 + 48*slot + field }
	for name, c := range map[string]struct {
		at   int
		b    []byte
		want error
	}{
		"a slot neither free nor in use": {at(0, 0), []byte{1, 2, 3, 4}, luks.ErrMalformed},
		"stripes":                        {at(0, 44), []byte{0, 0, 0, 1}, luks.ErrMalformed},
		"stripes of a free slot":         {at(5, 44), []byte{0, 0, 0, 1}, luks.ErrMalformed},
		"slots in one place":             {at(1, 40), []byte{0, 0, 0, 8}, luks.ErrMalformed},
		"a slot in the header":           {at(0, 40), []byte{0, 0, 0, 1}, luks.ErrMalformed},
		"a slot in the data":             {at(7, 40), []byte{0, 1, 0, 0}, luks.ErrMalformed},
		"a key without end":              {108, []byte{0x7f, 0xff, 0xff, 0xff}, luks.ErrMalformed},
		"a UUID that is none":            {168, []byte("x"), luks.ErrMalformed},
		"a cipher's name with its mode":  {8, []byte("aes-xts\x00"), luks.ErrMalformed},
	} {
		v := format(t, "luks1", uuidA)
		v.poke(c.at, c.b...)
		if h, err := v.open(); h != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	v := format(t, "luks1", uuidA)
	for _, n := range []int{300, mib} {
		if h, err := open(v.read()[:n]); h != nil || !errors.Is(err, luks.ErrDamaged) {
			t.Errorf("cut to %d: %v", n, err)
		}
	}
}

// A secret is sealed to this text, so it must not change with the program.
func TestFormatOfTheMeasurement(t *testing.T) {
	for name, b := range map[string][]byte{"luks2": golden2(t), "luks1": golden1()} {
		h, err := open(b)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name+".canonical")
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(h.Canonical()) != string(want) {
			t.Errorf("%s is measured as\n%s", file, h.Canonical())
		}
	}
}
