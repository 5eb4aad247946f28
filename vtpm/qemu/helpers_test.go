package qemu_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/qemu"
)

// ledger notes what a keeper and its sessions are asked for, in order.
type ledger struct {
	mu    sync.Mutex
	lines []string
	more  *sync.Cond
}

func newLedger() *ledger {
	l := &ledger{}
	l.more = sync.NewCond(&l.mu)
	return l
}

func (l *ledger) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
	l.more.Broadcast()
}

// all is what was noted so far.
func (l *ledger) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

// wait waits until a line with these words is there for the nth time.
func (l *ledger) wait(words string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		found := 0
		for _, line := range l.lines {
			if strings.Contains(line, words) {
				found++
			}
		}
		if found >= n {
			return
		}
		l.more.Wait()
	}
}

// Write is for the log's lines.
func (l *ledger) Write(b []byte) (int, error) {
	l.note("%s", bytes.TrimSpace(b))
	return len(b), nil
}

// fake is a keeper with one kind of session; its fields may be changed before it is used.
type fake struct {
	*ledger
	version tpm.Version
	attach  func(vtpm.Guest) error
	execute func(ctx context.Context, at tpm.Locality, command []byte) ([]byte, error)
	reset   func() error
	cancel  func() error
	guests  []vtpm.Guest
}

func newFake(v tpm.Version) *fake {
	f := &fake{ledger: newLedger(), version: v}
	f.attach = func(vtpm.Guest) error { return nil }
	f.execute = func(_ context.Context, at tpm.Locality, command []byte) ([]byte, error) {
		f.note("execute at %d: %x", at, command)
		return response(f.version, 0), nil
	}
	f.reset = func() error { return nil }
	f.cancel = func() error { return nil }
	return f
}

func (f *fake) Attach(_ context.Context, g vtpm.Guest) (vtpm.Session, error) {
	f.note("attach")
	f.mu.Lock()
	f.guests = append(f.guests, g)
	f.mu.Unlock()
	if err := f.attach(g); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *fake) Version() tpm.Version { return f.version }
func (f *fake) Execute(ctx context.Context, at tpm.Locality, command []byte) ([]byte, error) {
	return f.execute(ctx, at, command)
}
func (f *fake) Cancel() error               { f.note("cancel"); return f.cancel() }
func (f *fake) Reset(context.Context) error { f.note("reset"); return f.reset() }
func (f *fake) Log() ([]byte, error)        { f.note("log"); return nil, nil }
func (f *fake) Close() error                { f.note("close"); return nil }
func (f *fake) End() error                  { f.note("end"); return nil }

// response is a TPM's response that is only a code.
func response(v tpm.Version, code uint32) []byte {
	tag := uint16(0x8001)
	if v == tpm.V12 {
		tag = 0x00c4
	}
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, tag), 10), code)
}

// server is a running server and its log.
type server struct {
	path string
	log  *ledger
	end  context.CancelFunc
	done chan error
}

var uuid = vtpm.UUID{1, 2, 3}

// serve runs a server until the test ends.
func serve(t testing.TB, k vtpm.Keeper) *server {
	t.Helper()
	// t.TempDir's path may be longer than a socket's path may be.
	dir, err := os.MkdirTemp("", "vtpm-qemu-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &server{path: filepath.Join(dir, "sock"), log: newLedger(), done: make(chan error, 1)}
	q, err := qemu.Listen(qemu.Config{Path: s.path, UUID: uuid, Keeper: k, Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	s.end = end
	go func() { s.done <- q.Serve(ctx); close(s.done) }()
	t.Cleanup(func() { end(); <-s.done })
	return s
}

// client sends what QEMU sends.
type client struct {
	t    testing.TB
	ctl  *net.UnixConn
	data net.Conn
}

func (s *server) dial(t testing.TB) *client {
	t.Helper()
	ctl, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: s.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, ctl: ctl}
	t.Cleanup(c.die)
	return c
}

// die closes the client's connections, as the kernel does when QEMU dies.
func (c *client) die() {
	c.ctl.Close()
	if c.data != nil {
		c.data.Close()
	}
}

// ask sends a control request and returns the answer.
func (c *client) ask(cmd swtpm.Command, payload []byte, fds ...int) ([]byte, error) {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := c.ctl.WriteMsgUnix(swtpm.Request{Command: cmd, Payload: payload}.Bytes(), oob, nil); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	n, err := c.ctl.Read(buf)
	return buf[:n], err
}

// want asks and demands an answer, in hexadecimal digits.
func (c *client) want(answer string, cmd swtpm.Command, payload ...byte) {
	c.t.Helper()
	got, err := c.ask(cmd, payload)
	if s := fmt.Sprintf("%x", got); err != nil || s != answer {
		c.t.Fatalf("control command %#x %x: %s, %v; want %s", uint32(cmd), payload, s, err, answer)
	}
}

// open makes the data channel.
func (c *client) open() {
	c.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	near := os.NewFile(uintptr(fds[0]), "data")
	c.data, err = net.FileConn(near)
	near.Close()
	if err != nil {
		c.t.Fatal(err)
	}
	got, err := c.ask(swtpm.CmdSetDataFD, nil, fds[1])
	unix.Close(fds[1])
	if err != nil || !bytes.Equal(got, make([]byte, 4)) {
		c.t.Fatalf("the data channel: %x, %v", got, err)
	}
}

// send sends a command as it is and returns the response.
func (c *client) send(command []byte) []byte {
	c.t.Helper()
	if _, err := c.data.Write(command); err != nil {
		c.t.Fatal(err)
	}
	r, err := swtpm.ReadPacket(c.data)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// negotiate asks for the buffer and chooses it, as QEMU's devices do at each reset.
func (c *client) negotiate() {
	c.t.Helper()
	c.want("00000000", swtpm.CmdStop)
	if got, err := c.ask(swtpm.CmdSetBufferSize, make([]byte, 4)); err != nil || len(got) != 16 {
		c.t.Fatalf("the buffer: %x, %v", got, err)
	}
	c.want("00000000", swtpm.CmdStop)
	if got, err := c.ask(swtpm.CmdSetBufferSize, []byte{0, 0, 15, 0xf8}); err != nil || len(got) != 16 {
		c.t.Fatalf("the buffer: %x, %v", got, err)
	}
}

// start goes through QEMU's start until the machine runs.
func (s *server) start(t testing.TB) *client {
	t.Helper()
	c := s.dial(t)
	c.open()
	c.send(readClock)
	c.negotiate()
	c.want("00000000", swtpm.CmdInit, 0, 0, 0, 0)
	return c
}

var (
	readClock = []byte("\x80\x01\x00\x00\x00\x0a\x00\x00\x01\x81")
	startup20 = []byte("\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x44\x00\x00")
	startup12 = []byte("\x00\xc1\x00\x00\x00\x0c\x00\x00\x00\x99\x00\x01")
)
