package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/swtpm"
)

// guest is what QEMU is to a TPM: a control channel, and a data channel on which it waits
// without doing anything else.
type guest struct {
	control *swtpm.Control
	data    int
	rsp     [4096]byte
}

// newGuest opens a data channel and powers the TPM on.
func newGuest(control *swtpm.Control) (*guest, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		control.Close()
		return nil, err
	}
	g := &guest{control: control, data: fds[0]}
	answer, err := control.Transact(swtpm.Request{Command: swtpm.CmdSetDataFD}.Bytes(), unix.UnixRights(fds[1]))
	unix.Close(fds[1])
	if err == nil && (len(answer) != 4 || binary.BigEndian.Uint32(answer) != 0) {
		err = fmt.Errorf("the data channel was answered with %x", answer)
	}
	if err == nil {
		err = control.Init()
	}
	if err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// atSocket comes to a control socket that somebody listens on.
func atSocket(path string) (*guest, error) {
	control, err := swtpm.DialControl(path)
	if err != nil {
		return nil, err
	}
	return newGuest(control)
}

func (g *guest) Close() error {
	return errors.Join(unix.Close(g.data), g.control.Close())
}

// Send sends a command. The response holds until the next one.
func (g *guest) Send(cmd []byte) ([]byte, error) {
	if _, err := unix.Write(g.data, cmd); err != nil {
		return nil, fmt.Errorf("send a command: %w", err)
	}
	n, err := unix.Read(g.data, g.rsp[:])
	if err == nil && n < 10 {
		err = errors.New("the other end is gone")
	}
	if err != nil {
		return nil, fmt.Errorf("read a response: %w", err)
	}
	return g.rsp[:n], nil
}

// plain is a swtpm with nothing around it.
type plain struct {
	*guest
	process, relay *exec.Cmd
}

var startup = []byte("\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x44\x00\x00")

// startPlain starts swtpm over the state in dir, as fast as it can be done: the control
// channel is handed to it, so nobody waits for a socket's file.
func startPlain(dir string) (*plain, error) {
	return start(dir, func(c *swtpm.Control) (*guest, *exec.Cmd, error) {
		g, err := newGuest(c)
		return g, nil, err
	})
}

func start(dir string, come func(*swtpm.Control) (*guest, *exec.Cmd, error)) (*plain, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	defer near.Close()
	defer far.Close()
	conn, err := net.FileConn(near)
	if err != nil {
		return nil, err
	}
	p := &plain{process: exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--ctrl", "type=unixio,clientfd=3", "--terminate")}
	p.process.ExtraFiles = []*os.File{far}
	if err := p.process.Start(); err != nil {
		conn.Close()
		return nil, err
	}
	if p.guest, p.relay, err = come(swtpm.NewControl(conn.(*net.UnixConn))); err == nil {
		_, err = succeed(p.guest, startup)
	}
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("start swtpm over %s: %w", filepath.Base(dir), err)
	}
	return p, nil
}

func (p *plain) stop() {
	p.process.Process.Kill()
	p.process.Wait()
	if p.guest != nil {
		p.Close()
	}
	if p.relay != nil {
		p.relay.Wait() // it ends with the channels
	}
}
