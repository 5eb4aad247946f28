package aem

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/antievilmaid/aem/internal/totp"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

func sampleSecret() *codeSecret {
	return &codeSecret{
		params: totp.Params{Digits: 8, Period: 30 * time.Second, Alg: tpm.SHA256, Issuer: "AEM", Account: "läptop"},
		sighting: totp.Sighting{
			Wall: time.Unix(1785312345, 0),
			TPM:  tpm2.Clock{Milliseconds: 0x0102030405060708, Resets: 0x11121314, Restarts: 0x21222324, Safe: true},
		},
		held: []byte("what a chip holds"),
	}
}

func encoded(t testing.TB, c *codeSecret) []byte {
	t.Helper()
	b, err := c.bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The bytes are those of docs/formats/totp.md.
func TestCodeSecretBytes(t *testing.T) {
	want := []byte("\x01\x08\x1e\x0b\x00" + "\x59\xb4\x69\x6a\x00\x00\x00\x00" + "\x08\x07\x06\x05\x04\x03\x02\x01" +
		"\x14\x13\x12\x11" + "\x24\x23\x22\x21" + "\x01" + "\x03AEM" + "\x07läptop" + "\x11\x00what a chip holds")
	got := encoded(t, sampleSecret())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the bytes are others (-want +got):\n%s", diff)
	}
	if cap(got) != len(got) {
		t.Errorf("%d bytes were set aside for %d: a copy may be left where they were", cap(got), len(got))
	}
	back, err := parseCodeSecret(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sampleSecret(), back, cmp.AllowUnexported(codeSecret{})); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	// Wiping the bytes wipes the key.
	clear(want)
	if !bytes.Equal(back.held, make([]byte, len(back.held))) {
		t.Error("the key is a copy")
	}
}

func TestCodeSecretsThatAreNone(t *testing.T) {
	good := encoded(t, sampleSecret())
	for n := range good {
		if _, err := parseCodeSecret(good[:n]); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
	for name, change := range map[string]func(b []byte) []byte{
		"a byte behind the end":  func(b []byte) []byte { return append(b, 0) },
		"another format":         func(b []byte) []byte { b[0] = 2; return b },
		"nine digits":            func(b []byte) []byte { b[1] = 9; return b },
		"no digits":              func(b []byte) []byte { b[1] = 0; return b },
		"no period":              func(b []byte) []byte { b[2] = 0; return b },
		"a long period":          func(b []byte) []byte { b[2] = 121; return b },
		"no hash":                func(b []byte) []byte { b[3] = 0; return b },
		"a hash that none knows": func(b []byte) []byte { b[3] = 0x0c; return b },
		"the year 10000":         func(b []byte) []byte { copy(b[5:], "\x00\x41\xb8\xff\x3a\x00\x00\x00"); b[10] = 1; return b },
		"a time before 1970":     func(b []byte) []byte { b[12] = 0xff; return b },
		"an unknown flag":        func(b []byte) []byte { b[29] = 2; return b },
	} {
		if c, err := parseCodeSecret(change(bytes.Clone(good))); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	long := sampleSecret()
	long.params.Account = strings.Repeat("x", 256)
	if b, err := long.bytes(); err == nil {
		t.Errorf("a name of 256 bytes became %d bytes", len(b))
	}
}

// Whatever a chip held, and whoever wrote it, reading it ends with an error or with a MAC.
func TestHeldKeysThatAreNone(t *testing.T) {
	chip := chip20{tpm2.New(nil)}
	for _, held := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte{0}, 12), bytes.Repeat([]byte{0xff}, 64)} {
		if mac, err := chip.CodeMAC(held, tpm.SHA1); !errors.Is(err, seal.ErrDamaged) || mac != nil {
			t.Errorf("%x: %v", held, err)
		}
	}
	good := binary.LittleEndian.AppendUint32(nil, 0x81000001)
	for _, part := range [][]byte{gotpm.Marshal(gotpm.ECCSRKTemplate), []byte("public"), []byte("private"), []byte("auth")} {
		good = appendCounted(good, part)
	}
	if mac, err := chip.CodeMAC(good, tpm.SHA1); err != nil || mac == nil {
		t.Fatalf("a good one: %v", err)
	}
	for n := range good {
		if mac, err := chip.CodeMAC(good[:n], tpm.SHA1); !errors.Is(err, seal.ErrDamaged) || mac != nil {
			t.Errorf("%d bytes of %d: %v", n, len(good), err)
		}
	}
	if mac, err := chip.CodeMAC(append(good, 0), tpm.SHA1); !errors.Is(err, seal.ErrDamaged) || mac != nil {
		t.Errorf("a byte behind the end: %v", err)
	}
}

func FuzzCodeSecret(f *testing.F) {
	seeds := [][]byte{encoded(f, sampleSecret()), {}, {1}, bytes.Repeat([]byte{1}, 40)}
	for _, s := range seeds {
		f.Add(s)
	}
	if _, err := parseCodeSecret(seeds[0]); err != nil {
		f.Fatalf("the first seed is none: %v", err)
	}
	chip := chip20{tpm2.New(nil)}
	f.Fuzz(func(t *testing.T, b []byte) {
		// What lies in it for the chip is as foreign.
		chip.CodeMAC(b, tpm.SHA1)
		c, err := parseCodeSecret(b)
		if err != nil {
			if !errors.Is(err, seal.ErrDamaged) {
				t.Errorf("%v", err)
			}
			return
		}
		if again := encoded(t, c); !bytes.Equal(again, b) {
			t.Errorf("%x was read and became %x", b, again)
		}
		// No sighting makes the comparison of the clocks fall over.
		_ = totp.Plausible(totp.Sighting{Wall: time.Unix(1785312345, 0)}, c.sighting)
		_ = totp.NotBefore(time.Unix(1785312345, 0), c.sighting.Wall)
	})
}
