package manager_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/antievilmaid/aem/internal/fdstore"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/store"
)

// childDir is set where this program is to be a manager that gets killed.
const childDir = "AEM_TEST_MANAGER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := serveChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// order is what the test tells the child, one after the other on its standard input; report is the answer.
type order struct {
	Do      string
	Guest   vtpm.Guest
	Version tpm.Version
	Command []byte
	Builder string // a FIFO that who builds the guest has open for writing
	Kind    string // of what is to happen
}

type report struct {
	Bytes []byte
	Text  string
	Err   string
}

// fileCounter is a store's root that outlives a process.
type fileCounter string

func (c fileCounter) Key() ([]byte, error) { return bytes.Repeat([]byte{7}, store.KeySize), nil }

func (c fileCounter) Epoch() (uint64, error) {
	b, err := os.ReadFile(string(c))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

func (c fileCounter) Advance(uint64) error {
	n, err := c.Epoch()
	if err != nil {
		return err
	}
	return os.WriteFile(string(c), binary.BigEndian.AppendUint64(nil, n+1), 0o600)
}

func serveChild(dir string) error {
	held := fdstore.Taken()
	root := fileCounter(filepath.Join(dir, "counter"))
	path := filepath.Join(dir, "vtpms")
	if _, err := os.Stat(path); err != nil {
		if err := store.Create(path, root); err != nil {
			return err
		}
	}
	s, err := store.Open(path, root)
	if err != nil {
		return err
	}
	emulators, err := emulator.NewHost(dir)
	if err != nil {
		return err
	}
	happened := make(chan string, 10000)
	m := manager.New(manager.Config{Store: s, Emulators: emulators, Host: approved(), FirstUser: 70000, Users: 8, Held: fdstore.Open(), Tell: func(h manager.Happening) { happened <- h.Kind }})
	ctx := context.Background()
	m.Adopt(ctx, held)
	var session vtpm.Session
	var resumption *manager.Resumption
	out := json.NewEncoder(os.Stdout)
	for in := json.NewDecoder(os.Stdin); ; {
		var o order
		if err := in.Decode(&o); err != nil { // the test is over
			return errors.Join(m.Close(), s.Close(), emulators.Close())
		}
		var r report
		switch u := o.Guest.UUID; o.Do {
		case "create":
			err = m.Create(ctx, u, "a guest", o.Version, manager.Policy{})
		case "prepare":
			err = prepare(m, u, o.Builder)
		case "start":
			r.Text = m.Running()[u].Start.String()
		case "hear":
			for kind := ""; kind != o.Kind; kind = <-happened {
			}
		case "attach":
			session, err = m.Attach(ctx, o.Guest)
		case "execute":
			r.Bytes, err = session.Execute(ctx, 0, o.Command)
		case "execute without an end":
			err = stick(m, u, func() { session.Execute(ctx, 0, o.Command) })
		case "suspend":
			err = m.Suspend(ctx, u, o.Guest.Domain, image("image"))
		case "suspend without an end":
			err = stick(m, u, func() { m.Suspend(ctx, u, o.Guest.Domain, image("image")) })
		case "resume":
			resumption, err = m.Resume(u)
		case "finish":
			err = resumption.Finish(ctx, o.Guest.Domain, image("image").SHA256)
		case "finish without an end":
			err = stick(m, u, func() { resumption.Finish(ctx, o.Guest.Domain, image("image").SHA256) })
		case "reset":
			err = session.Reset(ctx)
		case "end":
			err = session.End()
		case "end unclaimed":
			err = m.EndUnclaimed()
		case "log":
			r.Bytes, err = m.Log(u)
		case "forget": // as a restored backup would
			err = s.Remove(u)
		case "descriptors":
			var list []os.DirEntry
			list, err = os.ReadDir("/proc/self/fd")
			for _, e := range list {
				where, _ := os.Readlink("/proc/self/fd/" + e.Name())
				r.Text += where + "\n"
			}
		}
		if err != nil {
			r.Err = err.Error()
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}

// prepare has a start expected, by one whose builder the manager shall outlive.
func prepare(m *manager.Manager, u vtpm.UUID, builder string) error {
	p, err := m.Prepare(u, material("kernel"))
	if err != nil || builder == "" {
		return err
	}
	f, err := os.OpenFile(builder, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		p.While(f)
	}
	return err
}

// stick does something whose state is never stored: it returns when the emulator has done it, and the store is about to be told.
func stick(m *manager.Manager, u vtpm.UUID, do func()) error {
	held := make(chan struct{})
	go m.Store.Change(u, func(*store.Record) error {
		close(held)
		select {}
	})
	<-held
	go do()
	for buf := make([]byte, 1<<20); ; runtime.Gosched() {
		if strings.Contains(string(buf[:runtime.Stack(buf, true)]), ".PutState(") {
			return nil
		}
	}
}

// mortal is a manager in a process of its own, and the keeper that outlives it.
type mortal struct {
	t      testing.TB
	dir    string
	keeper *fdstore.Keeper

	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder
}

func newMortal(t testing.TB) *mortal {
	t.Helper()
	testbed.Need(t, "swtpm")
	dir, err := os.MkdirTemp("", "vtpm-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	k, err := fdstore.NewKeeper()
	must(t, err)
	t.Cleanup(func() { k.Close() })
	m := &mortal{t: t, dir: dir, keeper: k}
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *mortal) start() {
	m.t.Helper()
	m.cmd = exec.Command(os.Args[0])
	m.cmd.Env = append(os.Environ(), childDir+"="+m.dir)
	m.cmd.Stderr = os.Stderr
	must(m.t, m.keeper.Hand(m.cmd))
	in, err := m.cmd.StdinPipe()
	must(m.t, err)
	out, err := m.cmd.StdoutPipe()
	must(m.t, err)
	must(m.t, m.cmd.Start())
	m.in, m.enc, m.dec = in, json.NewEncoder(in), json.NewDecoder(out)
}

// stop ends the manager in order.
func (m *mortal) stop() {
	m.in.Close()
	m.cmd.Wait()
}

// kill ends it as SIGKILL does.
func (m *mortal) kill() {
	m.cmd.Process.Kill()
	m.cmd.Wait()
}

func (m *mortal) restart() {
	m.t.Helper()
	m.kill()
	m.start()
}

// errDied says that the manager died before it answered.
var errDied = errors.New("the manager died")

func (m *mortal) try(o order) (report, error) {
	var r report
	if m.enc.Encode(o) != nil || m.dec.Decode(&r) != nil {
		return r, errDied
	}
	if r.Err != "" {
		return r, errors.New(r.Err)
	}
	return r, nil
}

func (m *mortal) do(o order) report {
	m.t.Helper()
	r, err := m.try(o)
	must(m.t, err)
	return r
}

// remote is a guest whose manager dies now and then. It sends what was not answered again, as
// a frontend does that finds it in the guest's page.
type remote struct {
	*mortal
	who   vtpm.Guest
	died  func() // after each death; nil is a death that must not be
	again int
}

func (g *remote) Send(command []byte) ([]byte, error) {
	for {
		r, err := g.try(order{Do: "execute", Command: command})
		if !errors.Is(err, errDied) || g.died == nil {
			return r.Bytes, err
		}
		g.again++
		g.died()
	}
}

func (m *mortal) guest(v tpm.Version) *remote {
	m.t.Helper()
	g := &remote{mortal: m, who: vtpm.Guest{UUID: vtpm.NewUUID(), Domain: "xen:1", Birth: "1", Returns: true}}
	m.do(order{Do: "create", Guest: g.who, Version: v})
	m.do(order{Do: "attach", Guest: g.who})
	return g
}

// back attaches the guest again, as its frontend does: it runs by now.
func (g *remote) back() {
	g.t.Helper()
	who := g.who
	who.Late = true
	g.do(order{Do: "attach", Guest: who})
}
