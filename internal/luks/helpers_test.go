package luks_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/luks"
	"github.com/antievilmaid/aem/internal/testbed"
)

const (
	uuidA = "11111111-2222-3333-4444-555555555555"
	uuidB = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	mib   = 1 << 20
)

// Cheap, for the tests' sake.
var (
	argon  = []string{"--pbkdf", "argon2id", "--pbkdf-memory", "32", "--pbkdf-parallel", "1", "--pbkdf-force-iterations", "4"}
	pbkdf2 = []string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"}
)

// volume is a file that cryptsetup takes for a block device.
type volume struct {
	t    testing.TB
	path string
}

// cryptsetup runs the real one; every passphrase is in a file.
func (v volume) cryptsetup(args ...string) string {
	v.t.Helper()
	out, err := v.try(args...)
	if err != nil {
		v.t.Fatalf("cryptsetup %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (v volume) try(args ...string) (string, error) {
	out, err := exec.Command("cryptsetup", append([]string{"--disable-locks", "--batch-mode"}, args...)...).CombinedOutput()
	return string(out), err
}

// key is a file with a passphrase.
func (v volume) key(passphrase string) string {
	v.t.Helper()
	name := filepath.Join(filepath.Dir(v.path), "key-"+passphrase)
	if err := os.WriteFile(name, []byte(passphrase), 0o600); err != nil {
		v.t.Fatal(err)
	}
	return name
}

// format makes a volume with the passphrase "owner" in slot 0.
func format(t testing.TB, kind, uuid string, more ...string) volume {
	t.Helper()
	testbed.Need(t, "cryptsetup")
	v := volume{t, filepath.Join(t.TempDir(), "volume")}
	v.write(nil)
	const size = 5 * mib
	if err := os.Truncate(v.path, size); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"luksFormat", "--type", kind, "--uuid", uuid, "--key-file", v.key("owner")}, more...)
	if kind == "luks2" {
		args = append(append(args, "--offset", "8192"), argon...)
	} else {
		args = append(args, "--pbkdf-force-iterations", "1000")
	}
	v.cryptsetup(append(args, v.path)...)
	return v
}

// twoSlots has a second passphrase, "spare", in slot 1 with PBKDF2.
func twoSlots(t testing.TB) volume {
	t.Helper()
	v := format(t, "luks2", uuidA)
	v.addKey("spare")
	return v
}

// clone is a copy, which is quicker to have than another volume.
func (v volume) clone(t testing.TB) volume {
	t.Helper()
	c := volume{t, filepath.Join(t.TempDir(), "volume")}
	c.write(v.read())
	return c
}

func (v volume) addKey(passphrase string) {
	v.t.Helper()
	v.cryptsetup(append([]string{"luksAddKey", "--key-file", v.key("owner"), v.path, v.key(passphrase)}, pbkdf2...)...)
}

func (v volume) read() []byte {
	v.t.Helper()
	b, err := os.ReadFile(v.path)
	if err != nil {
		v.t.Fatal(err)
	}
	return b
}

func (v volume) write(b []byte) {
	v.t.Helper()
	if err := os.WriteFile(v.path, b, 0o600); err != nil {
		v.t.Fatal(err)
	}
}

func (v volume) open() (*luks.Header, error) { return open(v.read()) }

func open(b []byte) (*luks.Header, error) { return luks.Open(bytes.NewReader(b), int64(len(b))) }

// header demands a header without an error.
func (v volume) header() *luks.Header {
	v.t.Helper()
	h, err := v.open()
	if err != nil {
		v.t.Fatal(err)
	}
	return h
}

const copyLen = 16384 // of a header that cryptsetup makes by default

// mend writes the right checksum into both copies, as whoever changes a header does.
func mend(b []byte) {
	for _, c := range [][]byte{b[:copyLen], b[copyLen : 2*copyLen]} {
		clear(c[448:512])
		sum := sha256.Sum256(c)
		copy(c[448:], sum[:])
	}
}

// replace changes the JSON text in both copies. The old text must be there, once.
func (v volume) replace(oldnew ...string) {
	v.t.Helper()
	b := v.read()
	for _, at := range []int{4096, copyLen + 4096} {
		area := b[at : at+copyLen-4096]
		doc := strings.TrimRight(string(area), "\x00")
		for i := 0; i < len(oldnew); i += 2 {
			if strings.Count(doc, oldnew[i]) != 1 {
				v.t.Fatalf("%q is there %d times in %s", oldnew[i], strings.Count(doc, oldnew[i]), doc)
			}
			doc = strings.Replace(doc, oldnew[i], oldnew[i+1], 1)
		}
		clear(area)
		copy(area, doc)
	}
	mend(b)
	v.write(b)
}

// json is the first copy's text.
func (v volume) json() string {
	return string(bytes.TrimRight(v.read()[4096:copyLen], "\x00"))
}

// build makes a LUKS2 header without cryptsetup: two copies around the JSON text, and key
// material that repeats.
func build(json string, size int) []byte {
	b := make([]byte, size)
	for i := 2 * copyLen; i < size; i++ {
		b[i] = byte(i*31>>3 ^ i>>16)
	}
	for i, magic := range []string{"LUKS\xba\xbe\x00\x02", "SKUL\xba\xbe\x00\x02"} {
		c := b[i*copyLen : (i+1)*copyLen]
		copy(c, magic)
		binary.BigEndian.PutUint64(c[8:], copyLen)
		binary.BigEndian.PutUint64(c[16:], 3)
		copy(c[24:], "disk")
		copy(c[72:], "sha256")
		c[104] = byte(i) // the salt
		copy(c[168:], uuidA)
		binary.BigEndian.PutUint64(c[256:], uint64(i*copyLen))
		copy(c[4096:], json)
	}
	mend(b)
	return b
}

// isCopyError also demands what is promised of it.
func isCopyError(t testing.TB, h *luks.Header, err error) *luks.CopyError {
	t.Helper()
	var c *luks.CopyError
	if !errors.As(err, &c) || h == nil {
		t.Fatalf("there is no *CopyError with a header: %v, %v", h, err)
	}
	return c
}

func same(a, b *luks.Header) bool { return bytes.Equal(a.Canonical(), b.Canonical()) }
