package swtpm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/swtpm"
)

// pair is a client's end and the reader of its requests.
func pair(t *testing.T) (client *net.UnixConn, requests *swtpm.Requests) {
	t.Helper()
	client, server := connections(t)
	return client, swtpm.NewRequests(server)
}

func connections(t *testing.T) (client, server *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "control")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return conns[0], conns[1]
}

// stream is what QEMU sends at its start: note the four bytes of payload behind
// CmdSetLocality, where the protocol has one.
var stream = []struct {
	sent []byte
	want swtpm.Request
}{
	{[]byte{0, 0, 0, 0x11, 0, 0, 16, 0}, swtpm.Request{Command: 0x11, Payload: []byte{0, 0, 16, 0}}},
	{[]byte{0, 0, 0, 5, 3, 0, 0, 0}, swtpm.Request{Command: swtpm.CmdSetLocality, Payload: []byte{3}}},
	{[]byte{0, 0, 0, 5, 0, 0, 0, 0}, swtpm.Request{Command: swtpm.CmdSetLocality, Payload: []byte{0}}},
	{[]byte{0, 0, 0, 2, 0, 0, 0, 1}, swtpm.Request{Command: swtpm.CmdInit, Payload: []byte{0, 0, 0, 1}}},
	{[]byte{0, 0, 0, 5, 1}, swtpm.Request{Command: swtpm.CmdSetLocality, Payload: []byte{1}}},
	{append([]byte{0, 0, 0, 0x12}, make([]byte, 16)...), swtpm.Request{Command: swtpm.CmdGetInfo, Payload: make([]byte, 16)}},
	{[]byte{0, 0, 0, 3}, swtpm.Request{Command: swtpm.CmdShutdown}},
}

// The stream has no framing of its own, and a socket may deliver it in any pieces.
func TestRequestsArriveInPiecesOfAnySize(t *testing.T) {
	for size := 1; size <= 9; size++ {
		client, requests := pair(t)
		answered := make(chan struct{}) // a client waits for the answer to each request
		go func() {
			defer client.Close()
			for _, s := range stream {
				for b := s.sent; len(b) > 0; {
					n := min(size, len(b))
					client.Write(b[:n])
					b = b[n:]
				}
				<-answered
			}
		}()
		for i, s := range stream {
			got, err := requests.Next()
			if err != nil {
				t.Fatalf("in pieces of %d bytes, request %d: %v", size, i, err)
			}
			answered <- struct{}{}
			if diff := cmp.Diff(s.want, got, cmp.Transformer("bytes", func(b []byte) string { return string(b) })); diff != "" {
				t.Errorf("in pieces of %d bytes, request %d: %s", size, i, diff)
			}
		}
		if _, err := requests.Next(); err != io.EOF {
			t.Errorf("in pieces of %d bytes, at the end: %v", size, err)
		}
	}
}

// QEMU does not clear the union behind CmdResetTPMEstablished's payload.
func TestGarbageBehindAShortPayloadIsDropped(t *testing.T) {
	client, requests := pair(t)
	client.Write([]byte{0, 0, 0, 0x0b, 2, 0x7f, 0xff, 0x80})
	if got, err := requests.Next(); err != nil || !bytes.Equal(got.Payload, []byte{2}) {
		t.Fatalf("%+v, %v", got, err)
	}
	client.Write([]byte{0, 0, 0, 1})
	if got, err := requests.Next(); err != nil || got.Command != 1 {
		t.Errorf("the next request: %+v, %v", got, err)
	}
}

func TestRequestThatBreaksOffIsAnError(t *testing.T) {
	for _, sent := range [][]byte{{0}, {0, 0, 0}, {0, 0, 0, 2}, {0, 0, 0, 2, 0, 0, 0}} {
		client, requests := pair(t)
		client.Write(sent)
		client.Close()
		if _, err := requests.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %x: %v", sent, err)
		}
	}
}

// Padding that has arrived excuses no more zeros.
func TestPaddingIsNotCountedTwice(t *testing.T) {
	client, requests := pair(t)
	client.Write([]byte{0, 0, 0, 5, 0, 0, 0, 0})
	if _, err := requests.Next(); err != nil {
		t.Fatal(err)
	}
	client.Write([]byte{0, 0, 0})
	client.Close()
	if _, err := requests.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("three bytes of a request were dropped: %v", err)
	}
}

// Whoever serves requests ends the wait for the next one by closing.
func TestCloseEndsTheWait(t *testing.T) {
	client, server := connections(t)
	defer client.Close()
	done := make(chan error)
	go func() {
		_, err := swtpm.NewRequests(server).Next()
		done <- err
	}()
	server.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("it ended with: %v", err)
	}
}

func TestRequestOfUnknownLengthIsAnError(t *testing.T) {
	for _, sent := range [][]byte{{0, 0, 0, 0}, {0, 0, 0, 0x0d}, {0xff, 0xff, 0xff, 0xff}} {
		client, requests := pair(t)
		client.Write(sent)
		var unknown *swtpm.UnknownLengthError
		if got, err := requests.Next(); !errors.As(err, &unknown) || unknown.Command != swtpm.Command(binary.BigEndian.Uint32(sent)) {
			t.Errorf("%x was taken for %+v, %v", sent, got, err)
		}
	}
}

// A descriptor comes with the data channel's command, and with no other.
func TestDescriptorGoesToTheCommandThatWantsIt(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	client, requests := pair(t)
	send := func(msg []byte, more ...int) swtpm.Request {
		t.Helper()
		if _, _, err := client.WriteMsgUnix(msg, unix.UnixRights(append(more, int(w.Fd()))...), nil); err != nil {
			t.Fatal(err)
		}
		q, err := requests.Next()
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	if q := send([]byte{0, 0, 0, 1}); q.File != nil {
		t.Error("another command was given the descriptor")
	}
	q := send([]byte{0, 0, 0, 0x10}, int(w.Fd()))
	if q.File == nil {
		t.Fatal("the data channel's command came without its descriptor")
	}
	q.File.Close()
	w.Close()
	// Were one of the others still open, this would wait for ever.
	if _, err := io.ReadAll(r); err != nil {
		t.Error(err)
	}
}

func FuzzRequests(f *testing.F) {
	var all []byte
	for _, s := range stream {
		all = append(all, s.sent...)
	}
	f.Add(all)
	f.Add([]byte{0, 0, 0, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, sent []byte) {
		client, requests := pair(t)
		go func() {
			client.Write(sent)
			client.Close()
		}()
		total := 0
		for {
			q, err := requests.Next()
			if err != nil {
				break
			}
			if total += 4 + len(q.Payload); total > len(sent) {
				t.Fatal("more was read than was sent")
			}
		}
	})
}
