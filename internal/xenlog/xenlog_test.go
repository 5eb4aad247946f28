package xenlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/xenlog"
	"github.com/antievilmaid/aem/internal/xenstore"
	"github.com/antievilmaid/aem/internal/xenstore/storetest"
)

const backend = "/local/domain/0/backend/vtpm/5/0"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// device is a store in which domain 5 has a vTPM, as libxl makes one.
func device(t *testing.T) (dom0, guest *xenstore.Conn, connect func(domain uint32) *xenstore.Conn) {
	t.Helper()
	s := storetest.New()
	connect = func(domain uint32) *xenstore.Conn {
		c := s.ConnectAs(domain)
		t.Cleanup(func() { c.Close() })
		return c
	}
	dom0, guest = connect(0), connect(5)
	must(t, dom0.Write(backend+"/state", "2"))
	must(t, dom0.SetPermissions(backend, "n0", "r5"))
	must(t, dom0.Mkdir("/local/domain/5/device"))
	must(t, dom0.SetPermissions("/local/domain/5/device", "n0", "r5"))
	must(t, dom0.Write("/local/domain/5/device/vtpm/0/backend", backend))
	return dom0, guest, connect
}

func write(t *testing.T, dom0 *xenstore.Conn, log []byte) {
	t.Helper()
	must(t, dom0.Transaction(func(tx *xenstore.Tx) error { return xenlog.Write(tx, backend, 5, log) }))
}

func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * i >> 3)
	}
	return b
}

// Whatever its length, the guest reads what was written; a shorter one leaves nothing of a longer.
func TestGuestReadsWhatWasWritten(t *testing.T) {
	dom0, guest, _ := device(t)
	for _, n := range []int{144_000, 1, 1439, 1440, 1441, 20_000} {
		want := content(n)
		write(t, dom0, want)
		if got, err := xenlog.Read(guest); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back as %d, %v", n, len(got), err)
		}
		nodes, err := guest.Directory(backend + "/log")
		must(t, err)
		for _, name := range nodes {
			text, err := guest.Read(backend + "/log/" + name)
			must(t, err)
			if len(text) > 1920 {
				t.Errorf("node %s has %d bytes, more than a driver domain may write", name, len(text))
			}
		}
	}
	write(t, dom0, nil)
	if _, err := xenlog.Read(guest); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty log: %v", err)
	}
	err := dom0.Transaction(func(tx *xenstore.Tx) error { return xenlog.Write(tx, backend, 5, content(144_001)) })
	if err == nil {
		t.Error("a log that the names of its nodes have no room for was written")
	}
}

// The log is its guest's to read, and nobody's but the backend's to write.
func TestOnlyTheGuestReadsAndItDoesNotWrite(t *testing.T) {
	dom0, guest, connect := device(t)
	write(t, dom0, content(2000))
	for _, node := range []string{"", "/00", "/01"} {
		p, err := dom0.Permissions(backend + "/log" + node)
		if d := cmp.Diff([]string{"n0", "r5"}, p); err != nil || d != "" {
			t.Errorf("log%s: %v %s", node, err, d)
		}
	}
	for name, try := range map[string]func() error{
		"write": func() error { return guest.Write(backend+"/log/00", "x") }, "add": func() error { return guest.Write(backend+"/log/02", "x") },
		"remove":      func() error { return guest.Remove(backend + "/log") },
		"permissions": func() error { return guest.SetPermissions(backend+"/log/00", "b5") },
	} {
		if err := try(); !errors.Is(err, os.ErrPermission) {
			t.Errorf("the guest's try to %s: %v", name, err)
		}
	}
	if _, err := connect(6).Read(backend + "/log/00"); !errors.Is(err, os.ErrPermission) {
		t.Errorf("another guest's try to read: %v", err)
	}
}

// A driver domain owns what it writes.
func TestOwnerIsWhoseTheDirectoryIs(t *testing.T) {
	dom0, _, connect := device(t)
	must(t, dom0.SetPermissions(backend, "n3", "r5"))
	write(t, connect(3), content(10))
	p, err := dom0.Permissions(backend + "/log/00")
	if d := cmp.Diff([]string{"n3", "r5"}, p); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
}

// A log that is not whole is none.
func TestBrokenLogIsNotRead(t *testing.T) {
	for name, spoil := range map[string]func(c *xenstore.Conn) error{
		"a piece is missing":  func(c *xenstore.Conn) error { return c.Remove(backend + "/log/01") },
		"another name":        func(c *xenstore.Conn) error { return c.Write(backend+"/log/x", "") },
		"not base64":          func(c *xenstore.Conn) error { return c.Write(backend+"/log/01", "%%%%") },
		"no vTPM":             func(c *xenstore.Conn) error { return c.Remove("/local/domain/5/device/vtpm/0") },
		"another's directory": func(c *xenstore.Conn) error { return c.SetPermissions(backend+"/log", "n0") },
		"far too many pieces": func(c *xenstore.Conn) (err error) {
			for i := range 101 {
				err = errors.Join(err, c.Write(fmt.Sprintf(backend+"/log/%02d", i), "AAAA"))
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dom0, guest, _ := device(t)
			write(t, dom0, content(4000))
			must(t, spoil(dom0))
			if b, err := xenlog.Read(guest); err == nil {
				t.Errorf("%d bytes were read", len(b))
			}
		})
	}
}
