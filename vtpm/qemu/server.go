package qemu

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/vtpm"
)

// Config is one vTPM's socket.
type Config struct {
	// Path is the socket's, of at most 107 bytes.
	Path string
	// UUID is the vTPM that whoever connects is given.
	UUID vtpm.UUID
	// Keeper gives it.
	Keeper vtpm.Keeper
	// User is who runs QEMU, and the socket's owner; 0 means the server's own user.
	User uint32
	// Group may connect, too, where it is not 0: processes whose effective group it is.
	Group uint32
	// Log is told who comes and goes, and what is refused.
	Log *slog.Logger
}

// Server gives one vTPM to one QEMU at a time.
type Server struct {
	Config
	listener *net.UnixListener
	log      *slog.Logger
}

// Listen makes the socket: mode 0600, or 0660 where there is a group. A socket that a
// dead process left behind is replaced, one that somebody serves is an error.
func Listen(c Config) (*Server, error) {
	l, err := swtpm.Listen(c.Path)
	if err != nil {
		return nil, err
	}
	if err := handOver(c); err != nil {
		l.Close()
		return nil, err
	}
	return &Server{c, l, c.Log.With("vtpm", c.UUID.String(), "socket", c.Path)}, nil
}

// handOver gives the socket to those who may connect.
func handOver(c Config) error {
	user, group := -1, -1
	if c.User != 0 {
		user = int(c.User)
	}
	if c.Group != 0 {
		group = int(c.Group)
	}
	if user != -1 || group != -1 {
		if err := os.Chown(c.Path, user, group); err != nil {
			return fmt.Errorf("give the socket to those who run QEMU: %w", err)
		}
	}
	if group != -1 {
		if err := os.Chmod(c.Path, 0o660); err != nil {
			return fmt.Errorf("let the group connect to the socket: %w", err)
		}
	}
	return nil
}

// Close removes the socket of a server that does not serve.
func (s *Server) Close() error { return s.listener.Close() }

// Serve serves one QEMU after the other until ctx ends, which is no error. Then the
// socket is gone, and so is the guest's TPM, if there is a guest.
func (s *Server) Serve(ctx context.Context) error {
	defer s.listener.Close()
	defer context.AfterFunc(ctx, func() { s.listener.Close() })()
	var now *client
	defer func() {
		if now != nil {
			<-now.done
		}
	}()
	for {
		conn, err := s.listener.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if errors.Is(err, unix.ECONNABORTED) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for QEMU at %s: %w", s.Path, err)
		}
		who, err := s.admit(conn, now)
		if err != nil {
			s.log.Warn("refused a client", "cause", err)
			conn.Close()
			continue
		}
		now = s.newClient(conn, who)
		go now.serve(ctx)
	}
}

// admit returns who connects, or says why it may not. Where the client before has gone,
// its end is waited for: the vTPM is shut down in order before the next guest gets it.
func (s *Server) admit(conn *net.UnixConn, now *client) (*unix.Ucred, error) {
	who, err := peer(conn)
	if err != nil {
		return nil, err
	}
	if !s.allowed(who) {
		return nil, fmt.Errorf("process %d runs as user %d and group %d, who may not use this vTPM", who.Pid, who.Uid, who.Gid)
	}
	if now != nil {
		if !now.gone() {
			return nil, fmt.Errorf("process %d wants this vTPM, which process %d has; stop that QEMU first", who.Pid, now.who.Pid)
		}
		<-now.done
	}
	return who, nil
}

// allowed says whether a process may have the vTPM. The socket's mode says the same;
// but a mode can be loosened by accident, and a descriptor be handed on.
func (s *Server) allowed(who *unix.Ucred) bool {
	user := s.User
	if user == 0 {
		user = uint32(os.Geteuid())
	}
	return who.Uid == user || s.Group != 0 && who.Gid == s.Group
}

// peer asks the kernel who connected (unix(7), SO_PEERCRED).
func peer(conn *net.UnixConn) (who *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("ask who connected: %w", err)
	}
	if e := raw.Control(func(fd uintptr) {
		who, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); e != nil {
		err = e
	}
	if err != nil {
		return nil, fmt.Errorf("ask who connected: %w", err)
	}
	return who, nil
}

// newClient is a client whose vTPM is asked for with its first request: whoever only
// looks whether somebody listens has no guest.
func (s *Server) newClient(conn *net.UnixConn, who *unix.Ucred) *client {
	return &client{
		server: s, conn: conn, who: who, done: make(chan struct{}),
		log:     s.log.With("pid", who.Pid),
		machine: machine{buffer: vtpm.BufferSize},
		told:    map[string]bool{},
		guest:   vtpm.Guest{UUID: s.UUID, Domain: "qemu:" + s.Path, Birth: rand.Text(), Firmware: true},
	}
}
