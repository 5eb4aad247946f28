// Package plymouth talks to plymouthd, which paints a picture over the console while
// the system boots. Whoever wants the console to himself has to ask it for that.
//
// A request is a byte that says what is wanted, followed by 0, or by 2, the length
// of a text with its final zero byte, and that text. The answer is one byte, except
// where a person is asked (plymouth 22.02, src/ply-boot-protocol.h and
// ply-boot-server.c).
//
// The requests that ask a person are left out on purpose: plymouthd keeps every
// password that was typed into it, and systemd tries those on the disks.
package plymouth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Address is plymouthd's socket, in Linux's abstract name space.
const Address = "@/org/freedesktop/plymouthd"

// ErrRefused says that plymouthd did not do what it was asked for: it does not know
// the request, or serves only root.
var ErrRefused = errors.New("plymouthd refused")

// patience is how long plymouthd may take for an answer. It waits for no person here.
const patience = 5 * time.Second

// The requests.
const (
	ping        = 'P'
	showMessage = 'M'
	hideMessage = 'm'
	deactivate  = 'D'
	reactivate  = 'r'
)

// The answers.
const (
	ack = 0x06
	nak = 0x15
)

// maxText is the longest text: its length with the final zero is a byte.
const maxText = 254

// Client is a connection to plymouthd.
type Client struct{ conn net.Conn }

// Dial connects to plymouthd at an address, and sees that it answers. Where none
// runs, this ends at once.
func Dial(ctx context.Context, address string) (*Client, error) {
	conn, err := (&net.Dialer{Timeout: patience}).DialUnix(ctx, "unix", nil, &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("find plymouthd: %w", err)
	}
	c := &Client{conn}
	if err := c.request(ctx, ping, ""); err != nil {
		conn.Close()
		return nil, fmt.Errorf("find plymouthd: %w", err)
	}
	return c, nil
}

// ShowMessage shows a line of text on the picture. Its end is cut off where it is
// longer than 254 bytes. It stays there, and in plymouthd's memory: nothing secret.
func (c *Client) ShowMessage(ctx context.Context, text string) error {
	return c.say(ctx, showMessage, text)
}

// HideMessage takes away what ShowMessage has shown.
func (c *Client) HideMessage(ctx context.Context, text string) error {
	return c.say(ctx, hideMessage, text)
}

func (c *Client) say(ctx context.Context, kind byte, text string) error {
	if err := c.request(ctx, kind, text[:min(len(text), maxText)]); err != nil {
		return fmt.Errorf("show a message on the boot's picture: %w", err)
	}
	return nil
}

// Deactivate has plymouthd give the console away, with text in place of the picture.
// The picture's last state is kept for Reactivate.
func (c *Client) Deactivate(ctx context.Context) error {
	if err := c.request(ctx, deactivate, ""); err != nil {
		return fmt.Errorf("get the console from plymouthd: %w", err)
	}
	return nil
}

// Reactivate gives the console back.
func (c *Client) Reactivate(ctx context.Context) error {
	if err := c.request(ctx, reactivate, ""); err != nil {
		return fmt.Errorf("give the console back to plymouthd: %w", err)
	}
	return nil
}

// Close ends the connection. plymouthd goes on.
func (c *Client) Close() error { return c.conn.Close() }

// request sends a request and reads its answer.
func (c *Client) request(ctx context.Context, kind byte, text string) error {
	deadline := time.Now().Add(patience)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return err
	}
	// A context that ends wakes whoever waits for the answer.
	stop := context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := c.conn.Write(encode(kind, text)); err != nil {
		return err
	}
	return readAnswer(c.conn)
}

// encode writes a request. Without a text, requests have none, not an empty one.
func encode(kind byte, text string) []byte {
	if text == "" {
		return []byte{kind, 0}
	}
	var b bytes.Buffer
	b.Write([]byte{kind, 2, byte(len(text) + 1)})
	b.WriteString(text)
	b.WriteByte(0)
	return b.Bytes()
}

// readAnswer reads the answer to a request that asks no person.
func readAnswer(r io.Reader) error {
	var b [1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return fmt.Errorf("plymouthd gave no answer: %w", err)
	}
	switch b[0] {
	case ack:
		return nil
	case nak:
		return ErrRefused
	}
	return fmt.Errorf("%w, with the unknown answer %#02x", ErrRefused, b[0])
}
