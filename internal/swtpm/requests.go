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

// Request is one request as it arrives at a control socket.
type Request struct {
	Command Command
	Payload []byte
	File    *os.File // the data channel that came with CmdSetDataFD, else nil; the receiver closes it
}

// Bytes is the request as it goes over the socket.
func (r Request) Bytes() []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(r.Command)), r.Payload...)
}

// UnknownLengthError says that a command came whose length can't be told, so that
// nothing after it can be read.
type UnknownLengthError struct{ Command Command }

func (e *UnknownLengthError) Error() string {
	return fmt.Sprintf("control command %#x came, whose length is not known", uint32(e.Command))
}

// Requests reads the requests that a client such as QEMU sends, whatever pieces
// they arrive in.
//
// swtpm itself takes whatever one read returns for one request, and QEMU relies
// on it: for the commands whose payload is one byte it sends the whole union of
// request and response, four bytes. Up to three bytes behind such a payload
// belong to no request. Those that arrive with it are dropped: no client sends a
// request before it has the answer to the last. Those that arrive later are
// recognised by being zero, because no command has the number zero.
type Requests struct {
	conn *net.UnixConn
	buf  []byte
	file *os.File // the first descriptor that came since the last request
	pad  int      // how many zero bytes may stand before the next request
}

// NewRequests reads from conn.
func NewRequests(conn *net.UnixConn) *Requests { return &Requests{conn: conn} }

// unionPadding is what QEMU sends behind a payload of one byte.
const unionPadding = 3

// Next returns the next request. It returns io.EOF where the client closed the
// connection between two requests.
func (r *Requests) Next() (Request, error) {
	if err := r.fill(4); err != nil {
		if errors.Is(err, io.EOF) && len(r.buf) <= r.pad {
			return Request{}, io.EOF
		}
		return Request{}, unexpected(err)
	}
	for ; r.pad > 0 && binary.BigEndian.Uint32(r.buf) == 0; r.pad-- {
		r.buf = r.buf[1:]
		if err := r.fill(4); err != nil {
			if errors.Is(err, io.EOF) && len(r.buf) < r.pad {
				return Request{}, io.EOF
			}
			return Request{}, unexpected(err)
		}
	}
	c := Command(binary.BigEndian.Uint32(r.buf))
	n, ok := RequestSize(c)
	if !ok {
		return Request{}, &UnknownLengthError{c}
	}
	if err := r.fill(4 + n); err != nil {
		return Request{}, unexpected(err)
	}
	q := Request{Command: c, Payload: append([]byte(nil), r.buf[4:4+n]...)}
	r.buf = r.buf[4+n:]
	r.pad = 0
	if n == 1 {
		r.pad = unionPadding
		if len(r.buf) <= unionPadding {
			r.pad -= len(r.buf)
			r.buf = nil
		}
	}
	if c == CmdSetDataFD {
		q.File, r.file = r.file, nil
	}
	// A descriptor that no request asked for would stay open for ever.
	r.Close()
	return q, nil
}

// Close closes the descriptor that arrived and was not handed out.
func (r *Requests) Close() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

// fill reads until n bytes are there.
func (r *Requests) fill(n int) error {
	var piece [4096]byte
	var oob [256]byte
	for len(r.buf) < n {
		got, goob, _, _, err := r.conn.ReadMsgUnix(piece[:], oob[:])
		if err != nil {
			return err
		}
		r.buf = append(r.buf, piece[:got]...)
		if err := r.take(oob[:goob]); err != nil {
			return err
		}
		if got == 0 {
			return io.EOF
		}
	}
	return nil
}

// take keeps the first descriptor of a control message (unix(7), SCM_RIGHTS) and closes
// the others: a client that sends some with each byte must not use up ours.
func (r *Requests) take(oob []byte) error {
	if len(oob) == 0 {
		return nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("read the descriptors that came with a control command: %w", err)
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // credentials or the like
		}
		for _, fd := range fds {
			if r.file == nil {
				r.file = os.NewFile(uintptr(fd), "TPM data")
			} else {
				unix.Close(fd)
			}
		}
	}
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read a control command: %w", err)
}
