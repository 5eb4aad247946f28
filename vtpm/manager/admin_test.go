package manager_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/measure"
	"github.com/antievilmaid/aem/vtpm/store"
)

// Who looks sees who runs and what was counted, and why a guest was refused.
func TestFigures(t *testing.T) {
	h := newHost(t)
	u := h.create(tpm.V20, manager.Policy{})
	g := h.attach(vtpm.Guest{UUID: u, Domain: "xen:1", Birth: "1"})
	before := h.Figures()[u]
	_, err := g.Send([]byte("\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08")) // TPM2_GetRandom
	must(t, err)
	_, err = g.Send([]byte("\x80\x01\x00\x00\x00\x0a\x20\x00\x00\x00")) // a vendor's command
	must(t, err)
	after := h.Figures()[u]
	if after.Commands != before.Commands+2 || after.KeptBack != before.KeptBack+1 || after.Commits != before.Commits || after.Answering <= before.Answering {
		t.Errorf("%+v, then %+v", before, after)
	}
	r := h.Running()[u]
	if r.Guest.Domain != "xen:1" || !r.Connected || r.Start != measure.Unmeasured || r.Paused != nil {
		t.Errorf("%+v", r)
	}
	must(t, g.Close())
	if h.Running()[u].Connected {
		t.Error("a guest that let go counts as connected")
	}
	if h.Refused(u) != nil {
		t.Error("nobody was refused yet")
	}
	if _, err := h.Attach(t.Context(), vtpm.Guest{UUID: u, Domain: "xen:2"}); err == nil || h.Refused(u).Text != err.Error() || h.Figures()[u].Refusals != 1 {
		t.Errorf("the refusal %v is told as %+v", err, h.Refused(u))
	}
	gone := h.Gone(u)
	select {
	case <-gone:
		t.Error("its guest is gone already")
	default:
	}
	must(t, h.attach(vtpm.Guest{UUID: u, Domain: "xen:1", Birth: "1"}).End())
	<-gone
	if len(h.Running()) != 0 {
		t.Error("it still runs")
	}
	<-h.Gone(u)
}

// A vTPM that was attached to a guest that ran already is marked, and stays so.
func TestLateIsMarkedForGood(t *testing.T) {
	h := newHost(t)
	u := h.create(tpm.V20, manager.Policy{})
	for i, late := range []bool{false, true, false, true} {
		must(t, h.attach(vtpm.Guest{UUID: u, Domain: "xen:1", Birth: string(rune('a' + i)), Late: late}).End())
		r, err := h.Get(u)
		must(t, err)
		if marked := r.Flags&manager.FlagLate != 0; marked != (i > 0) {
			t.Errorf("guest %d: marked %t", i, marked)
		}
	}
}

// The manager's own note is no vTPM: nobody lists it, gets it or makes another.
func TestNote(t *testing.T) {
	h := newHost(t)
	u := h.create(tpm.V20, manager.Policy{})
	if note, err := h.Note(); err != nil || note != nil {
		t.Fatalf("a note that nobody kept: %x, %v", note, err)
	}
	for _, note := range []string{"first", "second", "second"} {
		must(t, h.KeepNote([]byte(note)))
		if got, err := h.Note(); err != nil || string(got) != note {
			t.Fatalf("kept %q, and got %q, %v", note, got, err)
		}
	}
	list, err := h.List(vtpm.UUID{}, 10)
	must(t, err)
	if n, err := h.Count(); err != nil || n != 1 || len(list) != 1 || list[0].UUID != u {
		t.Errorf("%d vTPMs, %v: %v", n, err, list)
	}
	own := vtpm.UUID(bytes.Repeat([]byte{0xff}, 16))
	for what, err := range map[string]error{
		"create": h.Create(t.Context(), own, "", tpm.V20, manager.Policy{}), "remove": h.Remove(own),
		"attach": func() error { _, err := h.Attach(t.Context(), vtpm.Guest{UUID: own}); return err }(),
		"get":    func() error { _, err := h.Get(own); return err }(),
	} {
		if !errors.Is(err, store.ErrUnknown) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// foreign runs an swtpm of somebody else's once, and returns what it left behind and who it was.
func foreign(t *testing.T, v tpm.Version, args ...string) (state []byte, who string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "swtpm-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	name := "tpm2-00.permall"
	if v == tpm.V12 {
		must(t, testbed.MakeEK12(dir))
		name = "tpm-00.permall"
		if len(args) > 0 {
			t.Fatal("its key can't be chosen any more")
		}
	} else {
		args = append(args, "--tpm2")
	}
	c := exec.Command("swtpm", append([]string{"socket", "--tpmstate", "dir=" + dir, "--ctrl", "type=unixio,path=" + dir + "/ctrl", "--terminate"}, args...)...)
	must(t, c.Start())
	var conn *swtpm.TPM
	for conn == nil {
		conn, _ = swtpm.Dial(dir + "/ctrl")
	}
	must(t, testbed.PowerOn(conn, v))
	who = identityOf(t, conn, v)
	must(t, testbed.PowerOff(conn, v))
	conn.Close()
	must(t, c.Wait())
	state, err = os.ReadFile(filepath.Join(dir, name))
	must(t, err)
	return state, who
}

func identityOf(t *testing.T, c tpm.Channel, v tpm.Version) string {
	t.Helper()
	var who []byte
	var err error
	if v == tpm.V12 {
		who, err = tpm12.New(c).ReadEK()
	} else {
		who, err = tpm2.New(c).EndorsementName()
	}
	must(t, err)
	return string(who)
}

// A state of another program's swtpm is taken over with its identity, plain or encrypted; whatever is
// not one is refused, and no vTPM is made.
func TestImport(t *testing.T) {
	h := newHost(t)
	key := bytes.Repeat([]byte{9}, 32)
	file := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(file, key, 0o600))
	for _, c := range []struct {
		version tpm.Version
		key     []byte
		args    []string
	}{
		{version: tpm.V20}, {version: tpm.V12},
		{tpm.V20, key, []string{"--key", "file=" + file + ",mode=aes-256-cbc,format=binary"}},
	} {
		state, who := foreign(t, c.version, c.args...)
		u := vtpm.NewUUID()
		must(t, h.Import(t.Context(), u, "imported", c.version, manager.Policy{}, bytes.Clone(state), c.key))
		g := h.attach(vtpm.Guest{UUID: u, Domain: "xen:1"})
		if identityOf(t, g, c.version) != who {
			t.Errorf("%v: it is another TPM than it was", c.version)
		}
		must(t, g.End())
		record, err := h.Store.Get(u)
		must(t, err)
		if record.Key == nil || bytes.Contains(record.State, state[40:80]) || bytes.Equal(record.Key, c.key) {
			t.Errorf("%v: its state is not encrypted with a key of its own", c.version)
		}

		refused := func(what string, v tpm.Version, state, key []byte) {
			t.Helper()
			u := vtpm.NewUUID()
			if err := h.Import(t.Context(), u, "", v, manager.Policy{}, state, key); !errors.Is(err, manager.ErrForeignState) {
				t.Errorf("%v, %s: %v", c.version, what, err)
			}
			if _, err := h.Get(u); !errors.Is(err, store.ErrUnknown) {
				t.Errorf("%v, %s: there is a vTPM now: %v", c.version, what, err)
			}
		}
		for i := 0; i < len(state); i += 97 {
			refused("cut off", c.version, state[:i], c.key)
		}
		refused("the other family", c.version^tpm.V20^tpm.V12, state, c.key)
		if c.key != nil {
			refused("no key", c.version, state, nil)
			refused("another key", c.version, state, bytes.Repeat([]byte{8}, 32))
		}
		for i := 0; i < 120; i += 7 {
			evil := bytes.Clone(state)
			evil[i] ^= 0x40
			if c.key != nil && i >= 10 {
				refused("a byte flipped", c.version, evil, c.key)
			} else if i < 10 && i != 1 {
				refused("a byte of the header flipped", c.version, evil, c.key)
			}
		}
	}
	if got := strings.Join(h.happened, " "); !strings.Contains(got, "imported") {
		t.Errorf("nobody was told: %s", got)
	}
}
