package xen_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/xenlog"
	"github.com/antievilmaid/aem/internal/xenstore"
)

// inGuest is the guest's own connection to xenstore, where its directories are as libxl makes them.
func (g *guest) inGuest(t *testing.T) *xenstore.Conn {
	g.h.must(g.h.toolstack.SetPermissions(strings.TrimSuffix(g.back(""), "/"), "n0", "r"+domainText(g)))
	g.h.must(g.h.toolstack.Mkdir("/local/domain/" + domainText(g) + "/device"))
	g.h.must(g.h.toolstack.SetPermissions("/local/domain/"+domainText(g)+"/device", "n0", "r"+domainText(g)))
	return g.h.store.ConnectAs(g.domain)
}

func domainText(g *guest) string { return strings.Split(g.back(""), "/")[2] }

// A guest reads the log of its start as soon as its driver is told that the vTPM is there, and after
// the manager was started anew. It can't write it, other guests can't read it, and it goes with
// the device.
func TestGuestReadsItsLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.start()
		g := h.build(5)
		g.attach(nil)
		settle()
		g.state("2")
		inside := g.inGuest(t)
		defer inside.Close()
		read := func(when string) {
			t.Helper()
			if got, err := xenlog.Read(inside); err != nil || !bytes.Equal(got, startLog) {
				t.Errorf("%s the guest reads %.40q, %v", when, got, err)
			}
		}
		read("before it runs")
		g.run()
		g.submit(command("one"))
		g.answered(command("one"))
		read("while it runs")
		for _, node := range []string{"log", "log/00", "log/01", "log/02"} {
			p, err := h.toolstack.Permissions(g.back(node))
			if d := cmp.Diff([]string{"n0", "r5"}, p); err != nil || d != "" {
				t.Errorf("%s: %v %s", node, err, d)
			}
		}
		if err := inside.Write("/local/domain/0/"+g.back("log/00"), "x"); !errors.Is(err, os.ErrPermission) {
			t.Errorf("the guest wrote its log: %v", err)
		}
		other := h.store.ConnectAs(6)
		defer other.Close()
		if _, err := other.Read("/local/domain/0/" + g.back("log/00")); !errors.Is(err, os.ErrPermission) {
			t.Errorf("another guest read it: %v", err)
		}

		h.must(h.end())
		h.must(h.toolstack.Write(g.back("log/00"), "cut off"))
		h.start()
		settle()
		read("after the manager was started anew")

		g.write("state", "5")
		h.must(h.toolstack.Write(g.back("online"), "0"))
		h.must(h.toolstack.Write(g.back("state"), "5"))
		settle()
		g.remove()
		settle()
		if list, err := h.toolstack.Directory("backend/vtpm"); err != nil || len(list) != 0 {
			t.Errorf("after the device was removed there is %q, %v", list, err)
		}
		h.stop()
	})
}

// A device that the toolstack removes while its vTPM is asked for is not made anew by its log.
func TestLogDoesNotMakeADeviceAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.keeper.hang = make(chan struct{})
		h.start()
		g := h.build(5)
		g.attach(nil)
		settle()
		h.must(h.toolstack.Remove(g.back("uuid"))) // the rest is there still, so nobody gives up
		close(h.keeper.hang)
		settle()
		if _, err := h.toolstack.Read(g.back("log/00")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the log is there: %v", err)
		}
		g.remove()
		settle()
		h.stop()
	})
}
