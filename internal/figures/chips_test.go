package main

import (
	"os"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
)

// traced are the commands of a proof on a machine with an encrypted disk.
func traced(t *testing.T, pin string) []command {
	t.Helper()
	testbed.Need(t, "swtpm")
	dir, err := os.MkdirTemp("", "aem-fig-") // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := newLaptop(dir, pin, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.stop)
	list, err := l.commands(pin)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// With an ECC storage key the slow discrete chips prove a machine in half a second, as
// far as published times tell. Every further command, or a second session, counts.
func TestAProofTakesASlowChipHalfASecond(t *testing.T) {
	for _, pin := range []string{"", "2718"} {
		list := traced(t, pin)
		for _, c := range chips[:4] {
			if ms := c.takes(list, c.ecdh); ms > 500 {
				t.Errorf("%s, with PIN %q: %.0f ms for %s", c.name, pin, ms, tally(list))
			}
		}
		salted := 0
		for _, c := range list {
			if c.salted {
				salted++
			}
			if commandNames[c.code] == "" {
				t.Errorf("command %#x has no name here", c.code)
			}
		}
		if salted != 1 {
			t.Errorf("with PIN %q the TPM uses its storage key for %d sessions", pin, salted)
		}
	}
}

func TestTheModelAddsUp(t *testing.T) {
	c := chip{"", 100, 200, 10}
	list := []command{{code: 0x17e}, {code: startAuthSession, salted: true}, {code: startAuthSession}, {code: 0x17e}}
	if ecc, rsa := c.takes(list, c.ecdh), c.takes(list, c.rsa); ecc != 130 || rsa != 230 {
		t.Errorf("%v and %v ms", ecc, rsa)
	}
	if got := tally(list); got != "2 PCR_Read, StartAuthSession (salted), StartAuthSession" {
		t.Errorf("the commands are told as %q", got)
	}
}
