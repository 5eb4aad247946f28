package fdstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Store is where a program's files outlive it. A nil one holds nothing.
type Store struct{ socket string }

// patience is how long the service manager may take to have read what it was sent.
const patience = 10 * time.Second

// maxName is how long a file's name can be (sd_notify(3), FDNAME=).
const maxName = 255

// Open finds the service manager that started us. It returns nil where nobody did who
// could be told ($NOTIFY_SOCKET).
//
// Whether the service manager keeps files for us it does not say: a unit without FileDescriptorStoreMax=
// has them closed.
func Open() *Store {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	return &Store{path} // @ begins one in the abstract name space, for unix.SockaddrUnix as for systemd
}

// Put has a file held under a name, and returns when it is. The caller's own stays open. It is held
// whatever becomes of its other end: who gets it back looks. Files that have the same name are held all, and
// come back in any order (systemd 252 turns it round).
func (s *Store) Put(name string, file *os.File) error {
	if err := checkName(name); err != nil {
		return err
	}
	if s == nil {
		return nil
	}
	err := s.send("FDSTORE=1\nFDNAME="+name+"\nFDPOLL=0", file)
	if err == nil {
		err = s.barrier()
	}
	if err != nil {
		return fmt.Errorf("have %s held for the next start: %w", name, err)
	}
	return nil
}

// Remove has the files of some names closed, one after the other, and returns when they are. There need
// not be any.
func (s *Store) Remove(names ...string) error {
	if s == nil {
		return nil
	}
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
		if err := s.send("FDSTOREREMOVE=1\nFDNAME="+name, nil); err != nil {
			return fmt.Errorf("have %s held no more: %w", name, err)
		}
	}
	if err := s.barrier(); err != nil {
		return fmt.Errorf("have %q held no more: %w", names, err)
	}
	return nil
}

// checkName refuses what would be another name, or another message, on its way.
func checkName(name string) error {
	bad := func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("%.40q is no name for a held file", name)
	}
	return nil
}

// barrier waits until all that was sent before has been read: the service manager then closes the
// end of the pipe that it was sent (sd_notify_barrier(3)). One that does not know the word closes it, too,
// as a file that nobody is to hold.
func (s *Store) barrier() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	err = s.send("BARRIER=1", w)
	w.Close()
	if err != nil {
		return err
	}
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the service manager does not take its messages: %w", err)
	}
	return nil
}

// send sends one datagram. It waits as long as the service manager's queue is full.
func (s *Store) send(text string, file *os.File) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket to the service manager: %w", err)
	}
	defer unix.Close(fd)
	wait := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait); err != nil {
		return err
	}
	message := func(oob []byte) error {
		for {
			err := unix.Sendmsg(fd, []byte(text), oob, &unix.SockaddrUnix{Name: s.socket}, unix.MSG_NOSIGNAL)
			if err != unix.EINTR {
				return err
			}
		}
	}
	if file == nil {
		err = message(nil)
	} else {
		err = withDescriptor(file, func(fd int) error { return message(unix.UnixRights(fd)) })
	}
	if err != nil {
		return fmt.Errorf("tell the service manager at %s: %w", s.socket, err)
	}
	return nil
}

// withDescriptor calls f while the file can't be closed. File.Fd is no way to that: it can change what other
// descriptors of the same socket do.
func withDescriptor(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
