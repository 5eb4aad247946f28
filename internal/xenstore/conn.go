package xenstore

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Where xenstored is reached: by its socket in the domain that it runs in, and through the
// kernel in every domain.
const (
	Socket = "/run/xenstored/socket"
	Device = "/dev/xen/xenbus"
)

// ErrClosed is wrapped where the connection to xenstored is gone. All watches are, too.
var ErrClosed = errors.New("the connection to xenstore is gone")

// Conn is a connection to xenstored. Its methods may be called from several goroutines;
// one request at a time is under way, as xenstored answers them in turn anyway.
//
// Errors are the [unix.Errno] that xenstored gave, with the path: os.ErrNotExist and the
// like can be asked for with [errors.Is].
type Conn struct {
	rw io.ReadWriteCloser

	mu      sync.Mutex // held from a request until its answer
	request uint32
	answers chan Message
	done    chan struct{} // closed when nothing more comes
	why     error         // read after done

	watching sync.Mutex
	watches  map[string]func(string) // by token
	token    uint64
}

// Dial connects to the socket where there is one, and to the kernel's device otherwise.
func Dial() (*Conn, error) {
	if _, err := os.Stat(Socket); err == nil {
		return DialPath(Socket)
	}
	return DialPath(Device)
}

// DialPath connects to a socket or a device.
func DialPath(path string) (*Conn, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("connect to xenstore (is this a domain of a running Xen?): %w", err)
	}
	var rw io.ReadWriteCloser
	if info.Mode()&os.ModeSocket != 0 {
		// Not net.Dial: that brings the resolver of names into each program.
		rw, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	} else {
		rw, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to xenstore: %w", err)
	}
	return New(rw), nil
}

// New speaks to xenstored over a connection that is already open, and owns it.
func New(rw io.ReadWriteCloser) *Conn {
	c := &Conn{rw: rw, answers: make(chan Message, 1), done: make(chan struct{}), watches: map[string]func(string){}}
	go c.listen()
	return c
}

// Close ends the connection, and with it all watches and transactions.
func (c *Conn) Close() error {
	err := c.rw.Close()
	<-c.done
	return err
}

// Done is closed when the connection has ended, by whatever.
func (c *Conn) Done() <-chan struct{} { return c.done }

func (c *Conn) listen() {
	defer close(c.done)
	defer c.rw.Close()
	for {
		m, err := ReadMessage(c.rw)
		if err != nil {
			c.why = err
			return
		}
		if m.Op == OpWatchEvent {
			c.fire(m.Payload)
			continue
		}
		select {
		case c.answers <- m:
		default: // two answers to one question: the stream is not to be trusted any more
			c.why = fmt.Errorf("an answer of type %d came that nobody had asked for", m.Op)
			return
		}
	}
}

// transact sends a request and waits for its answer's payload.
func (c *Conn) transact(transaction uint32, op Op, payload string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.request++
	q := Message{op, c.request, transaction, []byte(payload)}
	if err := q.Write(c.rw); err != nil {
		return nil, c.gone(err)
	}
	select {
	case a := <-c.answers:
		if a.Op == OpError {
			name, _, _ := strings.Cut(string(a.Payload), "\x00")
			return nil, Errno(name)
		}
		// The kernel answers watches itself, and forgets to repeat the number.
		if a.Op != op || a.Request != q.Request && a.Request != 0 {
			c.rw.Close()
			return nil, fmt.Errorf("%w: request %d of type %d was answered as %d of type %d", ErrClosed, q.Request, op, a.Request, a.Op)
		}
		return a.Payload, nil
	case <-c.done:
		return nil, c.gone(c.why)
	}
}

func (c *Conn) gone(err error) error { return fmt.Errorf("%w: %v", ErrClosed, err) }

// ask sends a request about a path.
func (c *Conn) ask(transaction uint32, op Op, what, path, rest string) ([]byte, error) {
	if path == "" || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("%s %q in xenstore: %w", what, path, unix.EINVAL)
	}
	b, err := c.transact(transaction, op, path+"\x00"+rest)
	if err != nil {
		return nil, fmt.Errorf("%s %s in xenstore: %w", what, path, err)
	}
	return b, nil
}

// Introduced says whether xenstored knows a domain as a living one.
func (c *Conn) Introduced(domain uint32) (bool, error) {
	b, err := c.ask(0, OpIsIntroduced, "look for domain", strconv.FormatUint(uint64(domain), 10), "")
	return len(b) > 0 && b[0] == 'T', err
}
