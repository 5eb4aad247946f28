// Package evtchn binds Xen's event channels, by which two domains ring at each other,
// through Linux's /dev/xen/evtchn (include/uapi/xen/evtchn.h).
//
// A channel that rang is masked until it is unmasked: a domain that rings all the time is heard
// once for each time that we ask to hear it again.
package evtchn

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Device is where channels are bound.
const Device = "/dev/xen/evtchn"

// The ioctl numbers have the size of their argument in the upper half.
const (
	bindInterdomain = 8<<16 | 'E'<<8 | 1
	notify          = 4<<16 | 'E'<<8 | 4
)

// Channel is our end of an event channel.
type Channel struct {
	device *os.File
	port   uint32
}

// Bind joins the channel that a domain offers under its port. It rings once at once: what
// was sent before may have been missed. A port that is bound is not offered any more,
// until its other end has closed.
func Bind(domain, port uint32) (*Channel, error) {
	// Non-blocking, so that waiting costs no thread and Close ends it.
	fd, err := unix.Open(Device, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", Device, err)
	}
	a := struct{ domain, port uint32 }{domain, port}
	local, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), bindInterdomain, uintptr(unsafe.Pointer(&a)))
	if e != 0 {
		unix.Close(fd)
		return nil, fmt.Errorf("bind event channel %d of domain %d: %w", port, domain, e)
	}
	return &Channel{os.NewFile(uintptr(fd), Device), uint32(local)}, nil
}

// Wait waits until the channel rings. It ends with os.ErrClosed when the channel is closed.
func (c *Channel) Wait() error {
	var b [4]byte
	_, err := c.device.Read(b[:])
	return err
}

// Unmask lets the channel ring again. If the other end rang in the meantime, it does at once.
func (c *Channel) Unmask() error {
	_, err := c.device.Write(binary.LittleEndian.AppendUint32(nil, c.port))
	return err
}

// Notify rings at the other end.
func (c *Channel) Notify() error {
	raw, err := c.device.SyscallConn()
	if err != nil {
		return err
	}
	a := struct{ port uint32 }{c.port}
	var errno unix.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, notify, uintptr(unsafe.Pointer(&a)))
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return err
}

// Close lets go of the channel and wakes who waits.
func (c *Channel) Close() error { return c.device.Close() }
