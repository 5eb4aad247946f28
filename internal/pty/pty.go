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
	// Non-blocking, so that closing it ends the read that waits on it.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &Terminal{t: t, master: os.NewFile(uintptr(fd), "/dev/ptmx"), more: make(chan struct{}, 1)}
	t.Cleanup(x.HangUp)
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	x.Path = fmt.Sprintf("/dev/pts/%d", n)
	if x.TTY, err = os.OpenFile(x.Path, os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.TTY.Close() })
	go x.read()
	return x
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
	deadline := time.After(20 * time.Second)
	for !strings.Contains(x.Seen(), text) {
		select {
		case <-x.more:
		case <-deadline:
			x.t.Fatalf("the terminal never showed %q; it showed %q", text, x.Seen())
		}
	}
}

// Send types on the terminal.
func (x *Terminal) Send(keys string) {
	x.t.Helper()
	if _, err := x.master.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// HangUp takes the terminal away from the program.
func (x *Terminal) HangUp() { x.master.Close() }
