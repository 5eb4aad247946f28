package swtpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// File is another descriptor of the connection, to be kept by somebody who outlives us.
func (c *Control) File() (*os.File, error) { return c.conn.File() }

// File is another descriptor of the channel, to be kept by somebody who outlives us.
func (d *Data) File() (*os.File, error) {
	conn, ok := d.conn.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, errors.New("keep the TPM emulator's data channel: it is no socket")
	}
	return conn.File()
}

// TakeOver goes on with the channels of a process that died, wherever it was. It waits until the command
// that was under way has ended; answer is what nobody read of that command's response: all
// of it, the end of it, or nothing.
//
// swtpm has one thread. Where both sockets have something to read it takes the request on the
// control socket first, then the command on the data channel (its mainloop.c). So one answered
// request shows little: the command may come behind it. The answer to a second one shows that
// all that the dead process sent is done.
func TakeOver(control, data *os.File) (c *Control, d *Data, answer []byte, err error) {
	c = &Control{}
	if c.conn, err = unixConn(control); err != nil {
		return nil, nil, nil, err
	}
	channel, err := unixConn(data)
	if err != nil {
		c.Close()
		return nil, nil, nil, err
	}
	d = NewData(channel)
	err = c.sent()
	for range 2 {
		if err == nil {
			err = c.settle()
		}
	}
	if err == nil {
		answer, err = unread(channel)
	}
	if err != nil {
		c.Close()
		d.Close()
		return nil, nil, nil, fmt.Errorf("take over a TPM emulator: %w", err)
	}
	return c, d, answer, nil
}

func unixConn(f *os.File) (*net.UnixConn, error) {
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("take over a TPM emulator: %w", err)
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.New("take over a TPM emulator: its channel is no socket of ours")
	}
	return u, nil
}

// sent waits until swtpm has read what the dead process sent last: it takes all that it finds on the control socket
// for one request, so that another one behind it would be lost. No event tells of that, only
// SIOCOUTQ (unix(7)) does, and the command before it may take seconds. A process that dies meanwhile ends the wait.
func (c *Control) sent() error {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return err
	}
	for {
		unread := 0
		events := []unix.PollFd{{}}
		if e := raw.Control(func(fd uintptr) {
			events[0].Fd = int32(fd)
			unread, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
			if err == nil && unread > 0 {
				unix.Poll(events, 2) // for an end of the connection; its milliseconds are the pause
			}
		}); e != nil {
			return e
		}
		switch {
		case err != nil || unread == 0:
			return err
		case events[0].Revents&unix.POLLHUP != 0:
			return io.ErrUnexpectedEOF
		}
	}
}

// settle sends a request that changes nothing and reads its answer, and before it the one that the dead process
// may have left unread: it sent no request before it had the answer to the last, and each of its answers was
// a result alone.
func (c *Control) settle() error {
	const result, config = 4, 8 // of GET_CONFIG: a result and flags
	if _, err := c.conn.Write(binary.BigEndian.AppendUint32(nil, uint32(CmdGetConfig))); err != nil {
		return err
	}
	var got []byte
	for len(got) < config {
		buf := make([]byte, 64)
		n, err := c.conn.Read(buf)
		if err != nil {
			return err
		}
		got = append(got, buf[:n]...)
	}
	left := len(got) - config
	if left != 0 && left != result {
		return fmt.Errorf("%d bytes stood on its control channel", left)
	}
	if rc := binary.BigEndian.Uint32(got[left:]); rc != 0 {
		return &ResultError{CmdGetConfig, rc}
	}
	return nil
}

// unread reads what has arrived, and waits for nothing.
func unread(conn *net.UnixConn) (got []byte, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	buf := make([]byte, maxPacket)
	if e := raw.Read(func(fd uintptr) bool {
		for {
			var n int
			n, err = unix.Read(int(fd), buf)
			switch {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN:
				err = nil
				return true
			case err == nil && n == 0:
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return true
			}
			if got = append(got, buf[:n]...); len(got) > maxPacket {
				err = fmt.Errorf("more than %d bytes stood on its data channel", maxPacket)
				return true
			}
		}
	}); e != nil {
		return nil, e
	}
	return got, err
}
