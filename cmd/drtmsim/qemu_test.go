package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// progress is what drtmsim says; a test can wait for a line.
type progress struct {
	mu   sync.Mutex
	text strings.Builder
	more *sync.Cond
}

func newProgress() *progress {
	p := &progress{}
	p.more = sync.NewCond(&p.mu)
	return p
}

func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.more.Broadcast()
	return p.text.Write(b)
}

func (p *progress) wait(words string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !strings.Contains(p.text.String(), words) {
		p.more.Wait()
	}
}

// machine is drtmsim, with swtpm behind it and the files that it launches.
type machine struct {
	config
	emulator *testbed.Emulator
	progress *progress
	end      context.CancelFunc
	done     chan error // what run returned
}

// start runs drtmsim before a TPM of its own. change may alter its flags.
func start(t *testing.T, p drtm.Platform, v tpm.Version, change ...func(*config)) *machine {
	t.Helper()
	c, e := testbed.NewTPM(t, v)
	c.Close() // swtpm serves one client at a time
	m := prepare(t, p, e.Socket(), change...)
	m.emulator = e
	m.run(t)
	return m
}

func prepare(t *testing.T, p drtm.Platform, socket string, change ...func(*config)) *machine {
	t.Helper()
	// t.TempDir's path may be longer than a socket's path may be.
	dir, err := os.MkdirTemp("", "drtmsim-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &machine{progress: newProgress(), done: make(chan error, 1), config: config{
		listen: filepath.Join(dir, "qemu"), swtpm: socket, platform: p, kind: drtm.Linux,
		kernel: filepath.Join(dir, "vmlinuz"), initrd: filepath.Join(dir, "initrd"), initrdGiven: true,
		commandLine: "console=ttyS0 quiet", handover: filepath.Join(dir, "handover"), size: 64 << 10, once: true,
	}}
	write(t, m.kernel, bzImage())
	write(t, m.initrd, []byte("an initramfs"))
	for _, f := range change {
		f(&m.config)
	}
	return m
}

func (m *machine) run(t *testing.T) {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	m.end = end
	t.Cleanup(end)
	go func() {
		err := run(ctx, m.config, m.progress)
		m.progress.Write([]byte("(waiting for QEMU no more)")) // lets wait return after an early error
		m.done <- err
	}()
	m.progress.wait("waiting for QEMU")
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// bzImage is the least that passes for a Linux kernel.
func bzImage() []byte {
	b := make([]byte, 4096)
	copy(b[0x1fe:], []byte{0x55, 0xaa, 0xeb, 0x6a})
	copy(b[0x202:], "HdrS\x0f\x02")
	copy(b[1024:], "code")
	return b
}

// qemu sends what QEMU sends.
type qemu struct {
	t   *testing.T
	ctl *net.UnixConn
	*swtpm.Data
}

// connect goes through QEMU's start (hw/tpm/tpm_emulator.c) up to the reset
// that powers the TPM on.
func (m *machine) connect(t *testing.T) *qemu {
	t.Helper()
	ctl, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: m.listen, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near := os.NewFile(uintptr(fds[0]), "data")
	data, err := net.FileConn(near)
	near.Close()
	if err != nil {
		t.Fatal(err)
	}
	q := &qemu{t, ctl, swtpm.NewData(data)}
	t.Cleanup(q.die)
	q.must(swtpm.CmdSetDataFD, nil, unix.UnixRights(fds[1]))
	unix.Close(fds[1])
	if _, err := q.Send(probe); err != nil { // swtpm refuses: the TPM is off
		t.Fatal(err)
	}
	q.must(0x01, nil, nil) // CMD_GET_CAPABILITY
	q.must(swtpm.CmdStop, nil, nil)
	q.must(0x11, []byte{0, 0, 16, 0}, nil) // CMD_SET_BUFFERSIZE
	q.must(swtpm.CmdInit, make([]byte, 4), nil)
	q.must(0x04, nil, nil) // CMD_GET_TPMESTABLISHED
	q.locality(0)
	return q
}

// probe is the command by which QEMU asks for the family.
var probe = []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x81, 0, 0}

// must sends a control request and demands success.
func (q *qemu) must(c swtpm.Command, payload, oob []byte) {
	q.t.Helper()
	rsp, err := q.request(c, payload, oob)
	if err != nil || len(rsp) < 4 || binary.BigEndian.Uint32(rsp) != 0 && c != 0x01 {
		q.t.Fatalf("control command %#x: %x, %v", uint32(c), rsp, err)
	}
}

func (q *qemu) request(c swtpm.Command, payload, oob []byte) ([]byte, error) {
	msg := swtpm.Request{Command: c, Payload: payload}.Bytes()
	if _, _, err := q.ctl.WriteMsgUnix(msg, oob, nil); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	n, err := q.ctl.Read(buf)
	return buf[:n], err
}

// locality chooses one as QEMU does, with the whole union for a payload.
func (q *qemu) locality(l tpm.Locality) {
	q.t.Helper()
	q.must(swtpm.CmdSetLocality, []byte{byte(l), 0, 0, 0}, nil)
}

// reset is what QEMU does when the guest restarts.
func (q *qemu) reset() {
	q.t.Helper()
	q.must(swtpm.CmdStop, nil, nil)
	q.must(swtpm.CmdInit, make([]byte, 4), nil)
}

// firmware starts the TPM, as the guest's firmware does first of all.
func (q *qemu) firmware(v tpm.Version) {
	q.t.Helper()
	if rc, err := q.startup(v); err != nil || rc != 0 {
		q.t.Fatalf("the firmware's start of the TPM: %#x, %v", rc, err)
	}
}

func (q *qemu) startup(v tpm.Version) (rc uint32, err error) {
	cmd := []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0}
	if v == tpm.V12 {
		cmd = []byte{0x00, 0xc1, 0, 0, 0, 12, 0, 0, 0, 0x99, 0, 1}
	}
	rsp, err := q.Send(cmd)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(rsp[6:]), nil
}

// pcrs reads the launch's PCRs as the guest would.
func (q *qemu) pcrs(v tpm.Version) tpm.Banks {
	q.t.Helper()
	banks, err := newMeasurer(q, v).ReadPCRs(tpm.PCRSet(17, 18, 19, 20, 21, 22))
	if err != nil {
		q.t.Fatal(err)
	}
	return banks
}

// values lists the PCRs, for comparing.
func values(bs tpm.Banks) []string {
	var l []string
	for i := range bs {
		for p := tpm.PCR(17); p.Dynamic(); p++ {
			l = append(l, fmt.Sprintf("%s %d %s", bs[i].Alg, p, bs[i].Values[p]))
		}
	}
	return l
}

// die closes QEMU's connections, as the kernel does when QEMU dies.
func (q *qemu) die() {
	q.ctl.Close()
	q.Close()
}
