package xenstore

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// Op is the type of a message (enum xsd_sockmsg_type of io/xs_wire.h).
type Op uint32

// The messages in use.
const (
	OpDirectory        Op = 1
	OpRead             Op = 2
	OpGetPerms         Op = 3
	OpWatch            Op = 4
	OpUnwatch          Op = 5
	OpTransactionStart Op = 6
	OpTransactionEnd   Op = 7
	OpWrite            Op = 11
	OpMkdir            Op = 12
	OpRemove           Op = 13
	OpSetPerms         Op = 14
	OpWatchEvent       Op = 15
	OpError            Op = 16
	OpIsIntroduced     Op = 17
	OpDirectoryPart    Op = 20
)

// MaxPayload is the longest payload of a message, in bytes (XENSTORE_PAYLOAD_MAX).
const MaxPayload = 4096

const headerSize = 16

// Message is one message in either direction. All integers are little-endian: xenstored
// uses the machine's order, and x86 is what we run on.
type Message struct {
	Op          Op
	Request     uint32 // chosen by the client, and repeated in the answer
	Transaction uint32 // 0 outside of one
	Payload     []byte
}

// Write sends a message in one piece, as the kernel's /dev/xen/xenbus likes it.
func (m Message) Write(w io.Writer) error {
	if len(m.Payload) > MaxPayload {
		return fmt.Errorf("a message of %d bytes is too long for xenstore, which takes %d", len(m.Payload), MaxPayload)
	}
	b := make([]byte, headerSize, headerSize+len(m.Payload))
	for i, v := range []uint32{uint32(m.Op), m.Request, m.Transaction, uint32(len(m.Payload))} {
		binary.LittleEndian.PutUint32(b[4*i:], v)
	}
	_, err := w.Write(append(b, m.Payload...))
	return err
}

// ReadMessage reads the next message.
func ReadMessage(r io.Reader) (Message, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Message{}, err
	}
	n := binary.LittleEndian.Uint32(h[12:])
	if n > MaxPayload {
		return Message{}, fmt.Errorf("a message from xenstore claims %d bytes; %d is the longest", n, MaxPayload)
	}
	m := Message{
		Op: Op(binary.LittleEndian.Uint32(h[0:])), Request: binary.LittleEndian.Uint32(h[4:]),
		Transaction: binary.LittleEndian.Uint32(h[8:]), Payload: make([]byte, n),
	}
	_, err := io.ReadFull(r, m.Payload)
	return m, err
}

// Strings takes a payload apart at its NUL bytes. One at the end ends the last string.
func Strings(payload []byte) []string {
	if len(payload) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(payload), "\x00"), "\x00")
}

// errnos are the errors that xenstored gives by name (xsd_errors of io/xs_wire.h).
var errnos = map[string]unix.Errno{
	"EINVAL": unix.EINVAL, "EACCES": unix.EACCES, "EEXIST": unix.EEXIST, "EISDIR": unix.EISDIR, "ENOENT": unix.ENOENT,
	"ENOMEM": unix.ENOMEM, "ENOSPC": unix.ENOSPC, "EIO": unix.EIO, "ENOTEMPTY": unix.ENOTEMPTY, "ENOSYS": unix.ENOSYS,
	"EROFS": unix.EROFS, "EBUSY": unix.EBUSY, "EAGAIN": unix.EAGAIN, "EISCONN": unix.EISCONN, "E2BIG": unix.E2BIG, "EPERM": unix.EPERM,
}

// Errno is the error that a name on the wire stands for; EIO where the name is not known.
func Errno(name string) unix.Errno {
	if e, ok := errnos[name]; ok {
		return e
	}
	return unix.EIO
}
