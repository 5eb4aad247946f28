package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// role is what a peer may do.
type role uint8

const (
	nobody role = iota
	looker
	owner
)

// peer is who is at the other end of a connection, as the kernel says: when it was made.
type peer struct {
	pid    int
	uid    uint32
	groups []uint32 // the effective one first
}

// role of a peer. group is who may look, 0 for nobody; me is the server's own user.
func (p *peer) role(group, me uint32) role {
	switch {
	case p.uid == 0 || p.uid == me:
		return owner
	case group != 0 && slices.Contains(p.groups, group):
		return looker
	}
	return nobody
}

type peerKey struct{}

// withPeer remembers who connected (http.Server's ConnContext).
func withPeer(ctx context.Context, c net.Conn) context.Context {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	p, err := peerOf(conn)
	if err != nil {
		return ctx // and is nobody
	}
	return context.WithValue(ctx, peerKey{}, p)
}

func peerOf(conn *net.UnixConn) (*peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var p *peer
	if e := raw.Control(func(fd uintptr) {
		var c *unix.Ucred
		if c, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			return
		}
		p = &peer{pid: int(c.Pid), uid: c.Uid}
		var more []uint32
		more, err = peerGroups(fd)
		p.groups = append([]uint32{c.Gid}, more...)
	}); e != nil {
		err = e
	}
	return p, err
}

// peerGroups asks for the supplementary groups (unix(7), SO_PEERGROUPS).
func peerGroups(fd uintptr) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4)
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case e == 0:
			return groups[:size/4], nil
		case e == unix.ERANGE && int(size/4) > len(groups):
			groups = make([]uint32, size/4)
		default:
			return nil, fmt.Errorf("ask for the groups of who connected: %w", e)
		}
	}
}

// allow lets those through who have at least a role.
func (s *Server) allow(least role, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, ok := r.Context().Value(peerKey{}).(*peer)
		if !ok {
			answerError(w, http.StatusForbidden, errors.New("the kernel does not say who asks"))
			return
		}
		if got := p.role(s.Group, uint32(os.Geteuid())); got < least {
			s.Log.Warn("refused an administrator's request", "user", p.uid, "pid", p.pid, "request", r.Method+" "+r.URL.Path)
			text := "only root may do this"
			if got == nobody {
				text = "only root, and the group that vtpmd was told of, may ask"
			}
			answerError(w, http.StatusForbidden, fmt.Errorf("%s, and you are user %d", text, p.uid))
			return
		}
		next(w, r)
	}
}

// Listen makes the socket: for root alone, or also for a group. One that a dead process left behind is
// replaced.
func Listen(path string, group uint32) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("somebody answers at %s already; does vtpmd run?", path)
	} else if errors.Is(err, unix.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove the socket that a dead process left behind: %w", err)
		}
	}
	// Nobody may connect between bind and chmod who may not later.
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("make the administrator's socket: %w", err)
	}
	if group != 0 {
		if err := errors.Join(os.Chown(path, -1, int(group)), os.Chmod(path, 0o660)); err != nil {
			l.Close()
			return nil, fmt.Errorf("let a group connect to the administrator's socket: %w", err)
		}
	}
	return l, nil
}
