package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

// client is one QEMU, from its connection to its end.
type client struct {
	server *Server
	conn   *net.UnixConn
	who    *unix.Ucred
	log    *slog.Logger
	guest  vtpm.Guest
	done   chan struct{} // closed when nothing of it is left

	session vtpm.Session // nil until the first request
	data    *net.UnixConn
	channel sync.WaitGroup // the goroutine that serves data

	mu   sync.Mutex
	told map[string]bool // what the log was warned of already
	machine
}

// machine is what control requests set and commands on the data channel heed.
type machine struct {
	on       bool
	used     bool // since it was last fresh, the session has run a command
	started  bool // since the last INIT, the guest has sent a Startup
	locality tpm.Locality
	buffer   int // the longest command or response, in bytes
}

// gone says whether the connection is closed, by us or by the client, even if nobody has
// read up to there yet.
func (c *client) gone() bool {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return true
	}
	hungUp := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		_, err := unix.Poll(fds, 0)
		hungUp = err == nil && fds[0].Revents != 0
	})
	return err != nil || hungUp
}

// serve answers the client until it goes. When it returns, nothing is left.
func (c *client) serve(ctx context.Context) {
	defer close(c.done)
	ctx, fail := context.WithCancelCause(ctx)
	// Closing is what ends a read or a write that waits.
	defer context.AfterFunc(ctx, func() { c.conn.Close() })()
	fail(c.control(ctx, fail))
	c.conn.Close()
	if c.data != nil {
		c.data.Close()
	}
	c.channel.Wait()
	if c.session != nil {
		if err := c.session.End(); err != nil {
			c.log.Error("the vTPM was not shut down in order", "cause", err)
		}
	}
	switch cause := context.Cause(ctx); {
	case !errors.Is(cause, errGone) && !errors.Is(cause, context.Canceled):
		c.log.Error("the client was cut off", "cause", cause)
	case c.session == nil: // it only looked whether somebody listens
		c.log.Debug("the client has gone")
	default:
		c.log.Info("the client has gone")
	}
}

// errGone is the cause of an end that is nobody's fault.
var errGone = errors.New("the client is gone")

// control answers requests, and returns why it does so no more.
func (c *client) control(ctx context.Context, fail context.CancelCauseFunc) error {
	requests := swtpm.NewRequests(c.conn)
	defer requests.Close()
	for {
		q, err := requests.Next()
		var unknown *swtpm.UnknownLengthError
		switch {
		case errors.As(err, &unknown):
			// State to take over, data to hash, or what no version of the protocol has.
			c.conn.Write(result(swtpm.ResultBadOrdinal))
			return fmt.Errorf("control command %#x is not for guests, and what follows it can't be read", uint32(unknown.Command))
		case closed(err):
			return errGone
		case err != nil:
			return err
		}
		answer, err := c.request(ctx, fail, q)
		if q.File != nil {
			q.File.Close()
		}
		if err != nil {
			c.conn.Write(result(swtpm.ResultFail))
			return err
		}
		if _, err := c.conn.Write(answer); err != nil || q.Command == swtpm.CmdShutdown {
			return errGone
		}
	}
}

// closed says that a connection was closed, by its other end or by us.
func closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}
