package maid_test

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
)

// uuids are those of the machine's two disks: one with LUKS2, one with LUKS1.
var uuids = []string{"11111111-2222-4333-8444-555555555555", "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"}

// headers are files that stand for a disk at different times, and for what the evil
// maid makes of it. cryptsetup made all of them.
type headers struct {
	owners    string // the disk as its owner has it
	lastYears string // before the owner changed a passphrase that she saw
	hersToo   string // with a key slot of hers
	null      string // a volume that encrypts nothing
	another   string // a volume of hers
	rewritten string // the owner's, written once more by cryptsetup
}

// volume is a file that cryptsetup takes for a disk.
type volume struct {
	t    testing.TB
	path string
}

func (v volume) cryptsetup(args ...string) {
	v.t.Helper()
	out, err := exec.Command("cryptsetup", append([]string{"--disable-locks", "--batch-mode"}, args...)...).CombinedOutput()
	if err != nil {
		v.t.Fatalf("cryptsetup %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// key is a file with a passphrase.
func (v volume) key(passphrase string) string {
	v.t.Helper()
	path := filepath.Join(filepath.Dir(v.path), "key-"+passphrase)
	if err := os.WriteFile(path, []byte(passphrase), 0o600); err != nil {
		v.t.Fatal(err)
	}
	return path
}

// cheap is a key derivation that costs no time.
var cheap = []string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"}

func format(t testing.TB, kind, uuid, passphrase string, more ...string) volume {
	t.Helper()
	v := volume{t, filepath.Join(t.TempDir(), "disk")}
	f, err := os.Create(v.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(5 << 20); err != nil { // no disk space is used where nothing is written
		t.Fatal(err)
	}
	args := append([]string{"luksFormat", "--type", kind, "--uuid", uuid, "--key-file", v.key(passphrase)}, cheap...)
	if kind == "luks2" {
		args = append(args, "--offset", "8192")
	}
	v.cryptsetup(append(append(args, more...), v.path)...)
	return v
}

// backup is the header in a file, as somebody puts it away.
func (v volume) backup() string {
	v.t.Helper()
	path := filepath.Join(v.t.TempDir(), "header")
	v.cryptsetup("luksHeaderBackup", v.path, "--header-backup-file", path)
	return path
}

// restore is a disk like this one with a header from a file.
func (v volume) restore(header string) volume {
	v.t.Helper()
	c := volume{v.t, filepath.Join(v.t.TempDir(), "disk")}
	if out, err := exec.Command("cp", "--sparse=always", v.path, c.path).CombinedOutput(); err != nil {
		v.t.Fatalf("%v: %s", err, out)
	}
	c.cryptsetup("luksHeaderRestore", c.path, "--header-backup-file", header)
	return c
}

// opens demands that the passphrase opens the volume.
func (v volume) opens(passphrase string) string {
	v.t.Helper()
	v.cryptsetup("open", "--test-passphrase", "--key-file", v.key(passphrase), v.path)
	return v.path
}

// makeDisks plays a disk's life. That her passphrase opens what she leaves is part of
// it: a header that nobody can open would be no deed.
func makeDisks(t testing.TB, kind, uuid string) headers {
	t.Helper()
	testbed.Need(t, "cryptsetup")
	var h headers
	v := format(t, kind, uuid, "seen")
	old := v.backup()
	v.cryptsetup(append([]string{"luksChangeKey", "--key-file", v.key("seen"), v.path, v.key("owner")}, cheap...)...)
	h.owners = v.opens("owner")
	h.lastYears = v.restore(old).opens("seen")

	today := v.backup()
	c := v.restore(today)
	c.cryptsetup(append([]string{"luksAddKey", "--key-file", c.key("owner"), c.path, c.key("maid")}, cheap...)...)
	h.hersToo = c.opens("maid")

	h.another = format(t, kind, uuid, "maid").opens("maid")
	h.null = volume{t, h.another}.encryptingNothing(kind)

	c = v.restore(today)
	switch kind {
	case "luks2":
		// Each of these writes the whole header, and ends where it began.
		c.cryptsetup("config", "--label", "other", c.path)
		c.cryptsetup("config", "--label", "", c.path)
	case "luks1":
		c.cryptsetup(append([]string{"luksAddKey", "--key-file", c.key("owner"), c.path, c.key("guest")}, cheap...)...)
		c.cryptsetup("luksRemoveKey", c.path, c.key("guest"))
	}
	h.rewritten = c.opens("owner")
	if bytes.Equal(v.header(), c.header()) {
		t.Fatalf("%s: cryptsetup wrote nothing that is another", kind)
	}
	return h
}

// header is the start of the disk, in which its header lies.
func (v volume) header() []byte {
	v.t.Helper()
	b, err := os.ReadFile(v.path)
	if err != nil {
		v.t.Fatal(err)
	}
	return b[:4<<20]
}

// encryptingNothing is a disk whose header says that its data are not encrypted. It is
// made as the evil maid makes it, by writing it into a header: cryptsetup itself does it
// only where the kernel has dm-crypt. It takes the header for a good one.
func (v volume) encryptingNothing(kind string) string {
	v.t.Helper()
	b, err := os.ReadFile(v.path)
	if err != nil {
		v.t.Fatal(err)
	}
	if kind == "luks1" {
		copy(b[8:40], append([]byte("cipher_null"), make([]byte, 32)...))
		copy(b[40:72], append([]byte("ecb"), make([]byte, 32)...))
	} else {
		const copySize, jsonAt = 16384, 4096
		for _, c := range [][]byte{b[:copySize], b[copySize : 2*copySize]} {
			old, null := []byte(`"encryption":"aes-xts-plain64","sector_size"`), []byte(`"encryption":"cipher_null-ecb","sector_size"`)
			if bytes.Count(c, old) != 1 || len(old) != len(null) {
				v.t.Fatalf("the header names its cipher otherwise: %s", bytes.TrimRight(c[jsonAt:], "\x00"))
			}
			copy(c, bytes.Replace(c, old, null, 1))
			clear(c[448:512]) // the checksum, which counts as zeros
			sum := sha256.Sum256(c)
			copy(c[448:], sum[:])
		}
	}
	path := filepath.Join(v.t.TempDir(), "disk")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		v.t.Fatal(err)
	}
	if out, err := exec.Command("cryptsetup", "--disable-locks", "luksDump", path).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("cipher_null")) {
		v.t.Fatalf("cryptsetup reads in it: %v\n%s", err, out)
	}
	return path
}
