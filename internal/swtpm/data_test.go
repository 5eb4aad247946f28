package swtpm_test

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/swtpm"
)

// counted counts the reads of a connection.
type counted struct {
	net.Conn
	reads int
}

func (c *counted) Read(b []byte) (int, error) {
	c.reads++
	return c.Conn.Read(b)
}

var packetOf12 = []byte("\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08")

// Each read is a system call, of which a guest's every command pays the price.
func TestAResponseTakesOneRead(t *testing.T) {
	near, far := connections(t)
	conn := &counted{Conn: near}
	data := swtpm.NewData(conn)
	for range 3 {
		if _, err := far.Write(packetOf12); err != nil {
			t.Fatal(err)
		}
		if _, err := data.Send(packetOf12); err != nil {
			t.Fatal(err)
		}
	}
	if conn.reads != 3 {
		t.Errorf("three responses took %d reads", conn.reads)
	}
}

// Whoever waits for an emulator that does not answer gets free when the channel is closed, and
// learns that this was the reason.
func TestClosingEndsACommandUnderWay(t *testing.T) {
	client, server := connections(t)
	arrived := make(chan *swtpm.Data)
	go func() {
		data, err := swtpm.NewControl(client).OpenData()
		if err != nil {
			t.Error(err)
		}
		arrived <- data
	}()
	requests := swtpm.NewRequests(server)
	defer requests.Close()
	q, err := requests.Next()
	if err != nil {
		t.Fatal(err)
	}
	defer q.File.Close()
	if _, err := server.Write(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	data := <-arrived
	sent := make(chan error)
	go func() {
		_, err := data.Send(packetOf12)
		sent <- err
	}()
	// The command is there, so its sender waits for the answer.
	if _, err := unix.Read(int(q.File.Fd()), make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	if err := data.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the command ended with: %v", err)
	}
}
