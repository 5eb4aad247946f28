// Package pty opens pseudo terminals, for tests that look at a screen and type.
package pty

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is a pseudo terminal of 0 by 0 cells, as a serial line has.
type Terminal struct {
	// TTY is what a program opens; Path is its name.
	TTY  *os.File
	Path string

	t      testing.TB
	master *os.File
	mu     sync.Mutex
	seen   bytes.Buffer
	more   chan struct{}
}

// Open opens a terminal, which goes away with the test.
func Open(t testing.TB) *Terminal {
	t.Helper()
	x, err := New()
	if err != nil {
		t.Fatal(err)
	}
	x.t = t
	t.Cleanup(x.HangUp)
	t.Cleanup(func() { x.TTY.Close() })
	return x
}

// New opens a terminal outside of a test.
func New() (*Terminal, error) {
	// Non-blocking, so that closing it ends the read that waits on it.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	x := &Terminal{master: os.NewFile(uintptr(fd), "/dev/ptmx"), more: make(chan struct{}, 1)}
	err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	if err == nil {
		var n int
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		x.Path = fmt.Sprintf("/dev/pts/%d", n)
	}
	if err == nil {
		x.TTY, err = os.OpenFile(x.Path, os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		x.HangUp()
		return nil, err
	}
	go x.read()
	return x, nil
}

func (x *Terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := x.master.Read(buf)
		if err != nil {
			return
		}
		x.mu.Lock()
		x.seen.Write(buf[:n])
		x.mu.Unlock()
		select {
		case x.more <- struct{}{}:
		default:
		}
	}
}

// Seen is all that was written to the terminal.
func (x *Terminal) Seen() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.seen.String()
}

// Expect waits until a text has been written.
func (x *Terminal) Expect(text string) {
	x.t.Helper()
	if err := x.Wait(text); err != nil {
		x.t.Fatal(err)
	}
}

// Wait is Expect outside of a test.
func (x *Terminal) Wait(text string) error {
	deadline := time.After(20 * time.Second)
	for !strings.Contains(x.Seen(), text) {
		select {
		case <-x.more:
		case <-deadline:
			return fmt.Errorf("the terminal never showed %q; it showed %q", text, x.Seen())
		}
	}
	return nil
}

// Send types on the terminal.
func (x *Terminal) Send(keys string) {
	if _, err := x.master.WriteString(keys); err != nil && x.t != nil {
		x.t.Error(err)
	}
}

// HangUp takes the terminal away from the program.
func (x *Terminal) HangUp() { x.master.Close() }
