package luks_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/luks"
	"github.com/antievilmaid/aem/tpm"
)

// has reports whether one of the sentences contains all the words.
func has(sentences []string, words ...string) bool {
	return slices.ContainsFunc(sentences, func(s string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(s, w) })
	})
}

// Whatever an evil maid does, cryptsetup takes the header that she leaves, or this test
// would show nothing.
func TestHarmfulWritesAreMeasuredAndTold(t *testing.T) {
	template := twoSlots(t)
	for name, c := range map[string]struct {
		attack func(v volume)
		told   []string // parts of one sentence
	}{
		"a key slot of her own": {func(v volume) { v.addKey("maid") }, []string{"key slot 2 was added", "pbkdf2", "1000"}},
		"the owner's passphrase replaced": {func(v volume) {
			v.cryptsetup(append([]string{"luksChangeKey", "--key-file", v.key("spare"), v.path, v.key("maid")}, pbkdf2...)...)
		}, []string{"key slot 1", "another salt", "another key material"}},
		"a key derivation that costs less": {func(v volume) {
			v.cryptsetup(append([]string{"luksConvertKey", "--key-slot", "0", "--key-file", v.key("owner"), v.path}, pbkdf2...)...)
		}, []string{"key slot 0", "PBKDF argon2id -> pbkdf2", "passes 4 -> none, iterations none -> 1000", "memory in KiB 32 -> none"}},
		"a slot removed":   {func(v volume) { v.cryptsetup("luksRemoveKey", v.path, v.key("spare")) }, []string{"key slot 1 was removed"}},
		"all slots erased": {func(v volume) { v.cryptsetup("luksErase", v.path) }, []string{"key slot 0 was removed"}},
		"another UUID":     {func(v volume) { v.cryptsetup("luksUUID", "--uuid", uuidB, v.path) }, []string{"UUID", uuidA + " -> " + uuidB}},
		"another volume":   {func(v volume) { v.write(format(v.t, "luks2", uuidA).read()) }, []string{"digest 0 of the volume key", "another value"}},
		"a label":          {func(v volume) { v.cryptsetup("config", "--label", "other", v.path) }, []string{"label", `"" -> other`}},
		"a second label":   {func(v volume) { v.cryptsetup("config", "--subsystem", "other", v.path) }, []string{"subsystem"}},
		"a slot hidden":    {func(v volume) { v.cryptsetup("config", "--priority", "ignore", "--key-slot", "0", v.path) }, []string{"key slot 0", "priority none -> 0"}},
		"a token":          {func(v volume) { v.importToken(token) }, []string{"token 0 was added", "systemd-tpm2"}},
		"fewer passes":     {func(v volume) { v.replace(`"time":4`, `"time":1`) }, []string{"key slot 0", "passes 4 -> 1"}},
		"less memory":      {func(v volume) { v.replace(`"memory":32`, `"memory":8`) }, []string{"key slot 0", "memory in KiB 32 -> 8"}},
		"a salt":           {func(v volume) { v.replace(v.salt(0), base64Zeros) }, []string{"key slot 0", "another salt"}},
		"the splitter's hash": {func(v volume) {
			v.replace(`"hash":"sha256"},"area":{"type":"raw","offset":"32768"`, `"hash":"sha1"},"area":{"type":"raw","offset":"32768"`)
		}, []string{"splitter's hash sha256 -> sha1"}},
		"another place for the slot": {func(v volume) { v.replace(`"offset":"32768"`, `"offset":"1048576"`) },
			[]string{"key slot 0", "another key material", "offset 32768 -> 1048576"}},
		"data that begin elsewhere": {func(v volume) { v.replace(`"offset":"4194304"`, `"offset":"4198400"`) }, []string{"data segment 0", "offset 4194304 -> 4198400"}},
		"data that end before":      {func(v volume) { v.replace(`"size":"dynamic"`, `"size":"4096"`) }, []string{"data segment 0", "size dynamic -> 4096"}},
		"other sectors": {func(v volume) {
			v.replace(fmt.Sprintf(`"sector_size":%d`, v.header().Segments[0].SectorSize), `"sector_size":1024`)
		},
			[]string{"data segment 0", "sector size", "1024"}},
		"no cipher":      {func(v volume) { v.replace(v.segmentCipher(), `"encryption":"cipher_null-ecb","sector_size"`) }, []string{"data segment 0", "cipher aes-xts-plain64 -> cipher_null-ecb"}},
		"another digest": {func(v volume) { v.replace(v.digest(), base64Zeros) }, []string{"digest 0", "another value"}},
		"a digest that is cheap": {func(v volume) {
			v.replace(`"iterations":1000,"salt":"`+v.digestSalt(), `"iterations":1,"salt":"`+v.digestSalt())
		}, []string{"digest 0", "iterations 1000 -> 1"}},
		"discards, which show what is free": {func(v volume) {
			v.replace(`"keyslots_size":`, `"flags":["allow-discards","high_priority"],"keyslots_size":`)
		},
			[]string{"the configuration", "allow-discards"}},
		"a flag that is not known": {func(v volume) { v.replace(`"keyslots_size":`, `"flags":["from-tomorrow"],"keyslots_size":`) }, []string{"from-tomorrow"}},
		"a member that is not known": {func(v volume) { v.replace(`"priority"`, `"from_tomorrow"`) },
			[]string{"key slot 1", "from_tomorrow"}},
		"key material": {func(v volume) { b := v.read(); b[32768] ^= 1; v.write(b) }, []string{"key slot 0: another key material"}},
		"the last stripe": {func(v volume) { b := v.read(); b[32768+64*4000-1] ^= 1; v.write(b) },
			[]string{"key slot 0: another key material"}},
	} {
		t.Run(name, func(t *testing.T) {
			v := template.clone(t)
			if strings.Contains(name, "member that is not known") {
				v.cryptsetup("config", "--priority", "prefer", "--key-slot", "1", v.path)
			}
			before := v.header()
			c.attack(v)
			after := v.header()
			sentences := luks.Diff(before.Summary(), after.Summary())
			if same(before, after) || !has(sentences, c.told...) {
				t.Errorf("it is told as %q", sentences)
			}
			x, y := before.Measure([]tpm.Alg{tpm.SHA1, tpm.SHA256}), after.Measure([]tpm.Alg{tpm.SHA1, tpm.SHA256})
			if tpm.Find(x, tpm.SHA1).Equal(tpm.Find(y, tpm.SHA1)) || tpm.Find(x, tpm.SHA256).Equal(tpm.Find(y, tpm.SHA256)) {
				t.Error("a bank holds the same as before")
			}
			v.cryptsetup("luksDump", v.path)
		})
	}
}

const base64Zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

// between cuts a piece out of the first copy's JSON text.
func (v volume) between(from, to string) string {
	v.t.Helper()
	_, rest, ok := strings.Cut(v.json(), from)
	piece, _, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		v.t.Fatalf("%q is not in %s", from, v.json())
	}
	return piece
}

func (v volume) salt(slot int) string {
	return v.between(fmt.Sprintf(`"%d":{"type":"luks2"`, slot), `}}`)[strings.Index(v.between(fmt.Sprintf(`"%d":{"type":"luks2"`, slot), `}}`), `"salt":"`)+8:][:44]
}

func (v volume) digest() string { return v.between(`"digest":"`, `"`) }
func (v volume) digestSalt() string {
	return v.between(`"segments":["0"],"hash":"sha256","iterations":1000,"salt":"`, `"`)
}
func (v volume) segmentCipher() string { return `"encryption":"aes-xts-plain64","sector_size"` }

func TestLUKS1IsMeasured(t *testing.T) {
	template := format(t, "luks1", uuidA)
	at := func(slot, field int) int { return 208 + 48*slot + field }
	for name, c := range map[string]struct {
		attack func(v volume)
		told   []string
	}{
		"a key slot of her own": {func(v volume) {
			v.cryptsetup("luksAddKey", "--pbkdf-force-iterations", "1000", "--key-file", v.key("owner"), v.path, v.key("maid"))
		}, []string{"key slot 1 was added"}},
		"fewer iterations": {func(v volume) { v.poke(at(0, 4), 0, 0, 0, 1) }, []string{"key slot 0", "iterations 1000 -> 1"}},
		"a salt":           {func(v volume) { v.poke(at(0, 8), 1, 2, 3) }, []string{"key slot 0", "another salt"}},
		"another cipher": {func(v volume) {
			v.poke(8, append([]byte("cipher_null"), 0)...)
			v.poke(40, append([]byte("ecb"), 0)...)
		}, []string{"cipher aes-xts-plain64 -> cipher_null-ecb"}},
		"another hash":       {func(v volume) { v.poke(72, append([]byte("sha512"), 0)...) }, []string{"key slot 0", "PBKDF's hash sha256 -> sha512"}},
		"data elsewhere":     {func(v volume) { v.poke(104, 0, 0, 0x20, 0) }, []string{"data segment 0", "offset"}},
		"another digest":     {func(v volume) { v.poke(112, 1, 2, 3) }, []string{"digest 0", "another value"}},
		"a free slot's area": {func(v volume) { v.poke(at(7, 40), 0, 0, 0x0e, 0) }, []string{"the configuration", "places/7"}},
		"key material":       {func(v volume) { v.poke(4096, 1, 2, 3) }, []string{"key slot 0: another key material"}},
		"conversion":         {func(v volume) { v.cryptsetup("convert", "--type", "luks2", v.path) }, []string{"LUKS version", "1 -> 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			v := template.clone(t)
			before := v.header()
			c.attack(v)
			if sentences := luks.Diff(before.Summary(), v.header().Summary()); !has(sentences, c.told...) {
				t.Errorf("it is told as %q", sentences)
			}
			v.cryptsetup("luksDump", v.path)
		})
	}
}

// poke overwrites bytes of the volume.
func (v volume) poke(at int, b ...byte) {
	v.t.Helper()
	f, err := os.OpenFile(v.path, os.O_WRONLY, 0)
	if err != nil {
		v.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, int64(at)); err != nil {
		v.t.Fatal(err)
	}
}
