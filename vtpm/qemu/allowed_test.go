package qemu

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel's word on who connects counts, whatever the socket's mode has become.
func TestWhoIsAllowed(t *testing.T) {
	own := uint32(os.Geteuid())
	for _, c := range []struct {
		name        string
		user, group uint32
		who         unix.Ucred
		want        bool
	}{
		{"the server's own user", 0, 0, unix.Ucred{Uid: own, Gid: 7}, true},
		{"another user", 0, 0, unix.Ucred{Uid: own + 1, Gid: 7}, false},
		{"no group is not root's", 0, 0, unix.Ucred{Uid: own + 1, Gid: 0}, false},
		{"the named user", 64055, 0, unix.Ucred{Uid: 64055, Gid: 7}, true},
		{"not the named user", 64055, 0, unix.Ucred{Uid: 64056, Gid: 7}, false},
		{"the named group", 64055, 108, unix.Ucred{Uid: 64056, Gid: 108}, true},
		{"not the named group", 64055, 108, unix.Ucred{Uid: 64056, Gid: 109}, false},
	} {
		s := &Server{Config: Config{User: c.user, Group: c.group}}
		if got := s.allowed(&c.who); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
