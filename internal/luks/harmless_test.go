package luks_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/luks"
)

// token is what systemd-cryptenroll --tpm2-device writes, shortened.
const token = `{"type":"systemd-tpm2","keyslots":["1"],"tpm2-blob":"AJ4AIA==","tpm2-pcrs":[7],"tpm2-pcr-bank":"sha256","tpm2-policy-hash":"8f15c3bf0e9f2b8d2d6bd9a7f1b4ea3a7f3f5bd1c3c0f0c6a1e2d3c4b5a69788","tpm2-pin":true}`

func (v volume) importToken(json string) {
	v.t.Helper()
	name := filepath.Join(filepath.Dir(v.path), "token.json")
	if err := os.WriteFile(name, []byte(json), 0o600); err != nil {
		v.t.Fatal(err)
	}
	v.cryptsetup("token", "import", "--json-file", name, v.path)
}

func TestHarmlessWritesAreMeasuredAlike(t *testing.T) {
	template := twoSlots(t)
	for name, write := range map[string]func(v volume){
		"a label that came and went, and with it the sequence id": func(v volume) {
			before := v.header().Sequence
			v.cryptsetup("config", "--label", "other", v.path)
			v.cryptsetup("config", "--label", "", v.path)
			if v.header().Sequence != before+2 {
				v.t.Errorf("the sequence id went from %d to %d", before, v.header().Sequence)
			}
		},
		"a token that came and went": func(v volume) {
			v.importToken(token)
			v.cryptsetup("token", "remove", "--token-id", "0", v.path)
		},
		"a slot that came and went": func(v volume) {
			v.addKey("third")
			v.cryptsetup("luksKillSlot", "--key-file", v.key("owner"), v.path, "2")
		},
		"a priority that came and went": func(v volume) {
			v.cryptsetup("config", "--priority", "prefer", "--key-slot", "1", v.path)
			v.cryptsetup("config", "--priority", "normal", "--key-slot", "1", v.path)
		},
		"flags that make it faster": func(v volume) {
			v.replace(`"keyslots_size":`, `"flags":["no-read-workqueue","high_priority","same-cpu-crypt","submit-from-crypt-cpus","no-write-workqueue"],"keyslots_size":`)
		},
		"no flags and no requirements, said aloud": func(v volume) {
			v.replace(`"keyslots_size":`, `"flags":[],"requirements":{"mandatory":[]},"keyslots_size":`)
		},
		"members in another order, and spaces": func(v volume) {
			v.replace(`"tokens":{},`, ``, `,"config":{`, ` , "tokens": { },"config":{`)
		},
		"slots of a digest in another order": func(v volume) { v.replace(`"keyslots":["0","1"]`, `"keyslots":["1","0"]`) },
		"another salt in the header's copies": func(v volume) {
			b := v.read()
			copy(b[104:168], strings.Repeat("x", 64))
			mend(b)
			v.write(b)
		},
		"data that were written": func(v volume) {
			b := v.read()
			copy(b[4*mib:], "a file system")
			v.write(b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := template.clone(t)
			before := v.header()
			was := string(v.read())
			write(v)
			if string(v.read()) == was {
				t.Fatal("nothing was written")
			}
			if d := luks.Diff(before.Summary(), v.header().Summary()); len(d) > 0 || !same(before, v.header()) {
				t.Errorf("another measurement: %q", d)
			}
			v.cryptsetup("open", "--test-passphrase", "--key-file", v.key("owner"), v.path)
		})
	}
}

func TestBackupAndRestoredVolumeAreMeasuredAlike(t *testing.T) {
	for _, kind := range []string{"luks1", "luks2"} {
		v := format(t, kind, uuidA)
		backup := volume{t, filepath.Join(t.TempDir(), "backup")}
		v.cryptsetup("luksHeaderBackup", v.path, "--header-backup-file", backup.path)
		if !same(v.header(), backup.header()) {
			t.Errorf("%s: the backup is measured otherwise: %q", kind, luks.Diff(v.header().Summary(), backup.header().Summary()))
		}
		if v.header().Detached || !backup.header().Detached {
			t.Errorf("%s: detached: volume %v, backup %v", kind, v.header().Detached, backup.header().Detached)
		}
		whole := v.read()
		start := volume{t, filepath.Join(t.TempDir(), "start")}
		start.write(whole[:v.header().Length])
		if !same(v.header(), start.header()) {
			t.Errorf("%s: the first %d bytes are measured otherwise: %q", kind, v.header().Length, luks.Diff(v.header().Summary(), start.header().Summary()))
		}
		v.cryptsetup("open", "--test-passphrase", "--key-file", v.key("owner"), "--header", start.path, v.path)
		if _, err := open(whole[:v.header().Length-1]); !errors.Is(err, luks.ErrDamaged) {
			t.Errorf("%s: a byte less is as good: %v", kind, err)
		}
		v.cryptsetup("luksErase", v.path)
		if same(v.header(), backup.header()) {
			t.Errorf("%s: the erased header is measured as before", kind)
		}
		v.cryptsetup("luksHeaderRestore", v.path, "--header-backup-file", backup.path)
		if !same(v.header(), backup.header()) {
			t.Errorf("%s: the restored header is measured otherwise", kind)
		}
	}
}

func TestDetachedHeader(t *testing.T) {
	v := format(t, "luks2", uuidA)
	data := volume{t, filepath.Join(t.TempDir(), "data")}
	data.write(make([]byte, mib))
	header := volume{t, filepath.Join(t.TempDir(), "header")}
	header.write(make([]byte, 17*mib))
	v.cryptsetup(append([]string{"luksFormat", "--type", "luks2", "--uuid", uuidB, "--key-file", v.key("owner"), "--header", header.path, data.path}, argon...)...)
	if h := header.header(); !h.Detached || h.UUID != uuidB || len(h.KeySlots) != 1 {
		t.Errorf("%+v", h)
	}
	if _, err := data.open(); err != luks.ErrNotLUKS {
		t.Errorf("the data have a header: %v", err)
	}
}

// A torn write leaves one copy damaged or older. cryptsetup tells which it uses: it is
// asked which label it sees.
func TestCopyThatIsUsedIsTheOneThatCryptsetupUses(t *testing.T) {
	sequence := func(b []byte, n uint64) { binary.BigEndian.PutUint64(b[16:], n) }
	template := format(t, "luks2", uuidA)
	for name, c := range map[string]struct {
		damage func(first, second []byte) // after which checksums are mended unless
		torn   bool
		used   luks.Copy
	}{
		"first without its magic":       {func(a, b []byte) { a[0] ^= 1 }, true, luks.Secondary},
		"first with a wrong checksum":   {func(a, b []byte) { a[30] ^= 1 }, true, luks.Secondary},
		"first with a wrong offset":     {func(a, b []byte) { a[263] ^= 1 }, true, luks.Secondary},
		"first with a wrong size":       {func(a, b []byte) { a[14] ^= 1 }, true, luks.Secondary},
		"first erased":                  {func(a, b []byte) { clear(a) }, true, luks.Secondary},
		"second with a wrong checksum":  {func(a, b []byte) { b[30] ^= 1 }, true, luks.Primary},
		"second erased":                 {func(a, b []byte) { clear(b) }, true, luks.Primary},
		"first older":                   {func(a, b []byte) { sequence(a, 7); sequence(b, 8) }, false, luks.Secondary},
		"second older":                  {func(a, b []byte) { sequence(a, 8); sequence(b, 7) }, false, luks.Primary},
		"same age, different content":   {func(a, b []byte) {}, false, luks.Primary},
		"first older by the upper half": {func(a, b []byte) { sequence(a, 1<<32); sequence(b, 2<<32) }, false, luks.Secondary},
	} {
		t.Run(name, func(t *testing.T) {
			v := template.clone(t)
			b := v.read()
			copy(b[24:], "first")
			copy(b[copyLen+24:], "second")
			mend(b)
			c.damage(b[:copyLen], b[copyLen:2*copyLen])
			if !c.torn {
				mend(b)
			}
			v.write(b)
			h, err := v.open()
			if e := isCopyError(t, h, err); e.Used != c.used {
				t.Errorf("the %s copy is used: %v", e.Used, err)
			}
			if want := map[luks.Copy]string{luks.Primary: "first", luks.Secondary: "second"}[c.used]; h.Label != want {
				t.Errorf("the label is %q", h.Label)
			}
			if dump := v.cryptsetup("luksDump", v.path); !strings.Contains(dump, "Label:         \t"+h.Label+"\n") {
				t.Errorf("cryptsetup uses another copy:\n%s", dump)
			}
		})
	}
}

func TestCopiesOfOneAgeThatSayDifferentThings(t *testing.T) {
	v := format(t, "luks2", uuidA)
	b := v.read()
	at := strings.Index(string(b[copyLen:]), `"time":4`) + copyLen
	copy(b[at:], `"time":9`)
	mend(b)
	h, err := open(b)
	if e := isCopyError(t, h, err); e.Used != luks.Primary || h.KeySlots[0].KDF.Iterations != 4 {
		t.Errorf("%+v with %v", h.KeySlots[0].KDF, err)
	}
}

// Without a first copy the second is looked for behind a first one of any size.
func TestSecondCopyOfALargerHeaderIsFound(t *testing.T) {
	v := format(t, "luks2", uuidA, "--luks2-metadata-size", "128k")
	want := v.header()
	b := v.read()
	clear(b[:4096])
	v.write(b)
	h, err := v.open()
	if isCopyError(t, h, err); !same(want, h) {
		t.Errorf("%q", luks.Diff(want.Summary(), h.Summary()))
	}
	v.cryptsetup("open", "--test-passphrase", "--key-file", v.key("owner"), v.path)
}
