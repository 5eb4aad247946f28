// Package swtpm speaks to the TPM emulator swtpm: its control protocol (swtpm's
// manual page swtpm(8) and its header tpm_ioctl.h) and the data channel that
// goes with it. All integers on the control socket are big-endian.
//
// It is the one place that knows the protocol. tpm/device uses it as a
// transport, drtmsim to stand between QEMU and the emulator, the test bed to
// play the parts of the firmware and the CPU.
package swtpm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/tpm"
)

// Command is a request on the control socket.
type Command uint32

// The commands in use, by their numbers in tpm_ioctl.h.
const (
	CmdGetCapability    Command = 0x01
	CmdInit             Command = 0x02
	CmdShutdown         Command = 0x03
	CmdGetEstablished   Command = 0x04
	CmdSetLocality      Command = 0x05
	CmdHashStart        Command = 0x06
	CmdHashData         Command = 0x07
	CmdHashEnd          Command = 0x08
	CmdCancel           Command = 0x09
	CmdStoreVolatile    Command = 0x0a
	CmdResetEstablished Command = 0x0b
	CmdGetStateBlob     Command = 0x0c
	CmdSetStateBlob     Command = 0x0d
	CmdStop             Command = 0x0e
	CmdGetConfig        Command = 0x0f
	CmdSetDataFD        Command = 0x10
	CmdSetBufferSize    Command = 0x11
	CmdGetInfo          Command = 0x12
)

// The results that swtpm answers control commands with: TPM 1.2's result codes (TPM
// Main, Part 2, clause 16), whatever the TPM's family.
const (
	ResultSuccess      = 0x00
	ResultBadParameter = 0x03
	ResultFail         = 0x09
	ResultBadOrdinal   = 0x0a // not known, or not in this state
	ResultIOError      = 0x1f // there is a data channel already
	ResultBadLocality  = 0x3d
)

// requestSize is the length of each command's payload after its number; the
// stream has no other framing. CmdHashData and CmdSetStateBlob are absent: their
// length is in them.
var requestSize = map[Command]int{
	0x01: 0, 0x02: 4, 0x03: 0, 0x04: 0, 0x05: 1, 0x06: 0, 0x08: 0, 0x09: 0, 0x0a: 0,
	0x0b: 1, 0x0c: 12, 0x0e: 0, 0x0f: 0, 0x10: 0, 0x11: 4, 0x12: 16, 0x13: 4,
}

// RequestSize is the number of payload bytes that follow the command's number,
// or false for a command whose length can't be told from its number.
func RequestSize(c Command) (int, bool) {
	n, ok := requestSize[c]
	return n, ok
}

// hashChunk is how much of an image goes to the emulator in one CmdHashData.
const hashChunk = 2048

// Control is a connection to swtpm's control socket. Its methods may be called
// from several goroutines; each request waits for its own answer.
type Control struct {
	mu   sync.Mutex
	conn *net.UnixConn
}

// DialControl connects to the control socket at path.
func DialControl(path string) (*Control, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("connect to the TPM emulator's control socket: %w", err)
	}
	return NewControl(conn), nil
}

// NewControl speaks over a connection that swtpm was given when it was started
// (--ctrl clientfd=).
func NewControl(conn *net.UnixConn) *Control { return &Control{conn: conn} }

// Close ends the connection. swtpm ends with it when it was told --terminate.
func (c *Control) Close() error { return c.conn.Close() }

// Transact sends a whole request, with a file descriptor's control message
// where oob is not nil, and returns the whole answer.
func (c *Control) Transact(msg, oob []byte) ([]byte, error) {
	// The longest answer is a state blob's header and a page of the blob.
	return c.transact(msg, oob, make([]byte, 64<<10))
}

func (c *Control) transact(msg, oob, buf []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, _, err := c.conn.WriteMsgUnix(msg, oob, nil); err != nil {
		return nil, fmt.Errorf("send to the TPM emulator's control socket: %w", err)
	}
	n, err := c.conn.Read(buf)
	if err != nil {
		return nil, fmt.Errorf("read from the TPM emulator's control socket: %w", err)
	}
	return buf[:n], nil
}

// ResultError is what swtpm answered in place of success: a TPM result code.
type ResultError struct {
	Command Command
	Result  uint32
}

func (e *ResultError) Error() string {
	return fmt.Sprintf("the TPM emulator refused control command %#x with result %#x", uint32(e.Command), e.Result)
}

func (c *Control) do(cmd Command, payload, oob []byte) error {
	// The answer to each of these is a result alone.
	rsp, err := c.transact(append(binary.BigEndian.AppendUint32(nil, uint32(cmd)), payload...), oob, make([]byte, 64))
	if err != nil {
		return err
	}
	if len(rsp) < 4 {
		return fmt.Errorf("the TPM emulator answered control command %#x with %d bytes", uint32(cmd), len(rsp))
	}
	if rc := binary.BigEndian.Uint32(rsp); rc != 0 {
		return &ResultError{cmd, rc}
	}
	return nil
}

// Init powers the TPM on: volatile state is gone, TPM_Startup is expected.
func (c *Control) Init() error { return c.do(CmdInit, make([]byte, 4), nil) }

// Resume powers the TPM on with the volatile state that StoreVolatile wrote, and has
// that file deleted: the next power-on is an ordinary one. Where there is no such
// file it is as Init.
func (c *Control) Resume() error { return c.do(CmdInit, []byte{0, 0, 0, 1}, nil) }

// StoreVolatile writes the PCRs, the sessions and all else that a power cut would end to a
// file in the state's folder, under the same key as the state.
func (c *Control) StoreVolatile() error { return c.do(CmdStoreVolatile, nil, nil) }

// Stop powers the TPM off. The process goes on.
func (c *Control) Stop() error { return c.do(CmdStop, nil, nil) }

// Cancel asks for the end of the command that is under way. swtpm's socket interface runs
// a command on the thread that also reads the control socket, so the request is
// answered when the command has ended, and ends none (its ctrlchannel.c says so; measured with 0.7.1).
func (c *Control) Cancel() error { return c.do(CmdCancel, nil, nil) }

// SetBufferSize makes size bytes the longest command and response of a TPM that is not powered
// on. An error is returned where swtpm chose another size.
func (c *Control) SetBufferSize(size uint32) error {
	rsp, err := c.Transact(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(CmdSetBufferSize)), size), nil)
	if err != nil {
		return err
	}
	if len(rsp) < 4 || len(rsp) < 8 && binary.BigEndian.Uint32(rsp) == 0 {
		return fmt.Errorf("the TPM emulator answered control command %#x with %d bytes", uint32(CmdSetBufferSize), len(rsp))
	}
	if rc := binary.BigEndian.Uint32(rsp); rc != 0 {
		return &ResultError{CmdSetBufferSize, rc}
	}
	if got := binary.BigEndian.Uint32(rsp[4:]); got != size {
		return fmt.Errorf("the TPM emulator took %d for its buffer's size in place of %d", got, size)
	}
	return nil
}

// SetLocality chooses the locality of the commands that follow.
func (c *Control) SetLocality(l tpm.Locality) error {
	return c.do(CmdSetLocality, []byte{byte(l)}, nil)
}

// Launch sends the hash sequence that a CPU sends at locality 4 during a
// dynamic launch. It must come after TPM_Startup: before it, a TPM 2.0 takes
// the sequence for the static root's and a TPM 1.2 fails its self-test.
// Afterwards PCR 17 is H(0 || H(image)), and PCRs 18 to 22 are zero.
func (c *Control) Launch(image []byte) error {
	if err := c.do(CmdHashStart, nil, nil); err != nil {
		return err
	}
	for len(image) > 0 {
		n := min(len(image), hashChunk)
		payload := append(binary.BigEndian.AppendUint32(nil, uint32(n)), image[:n]...)
		if err := c.do(CmdHashData, payload, nil); err != nil {
			return err
		}
		image = image[n:]
	}
	return c.do(CmdHashEnd, nil, nil)
}

// Shutdown tells swtpm to end, in order.
func (c *Control) Shutdown() error { return c.do(CmdShutdown, nil, nil) }

// OpenData makes a data channel and hands swtpm its far end.
func (c *Control) OpenData() (*Data, error) {
	near, far, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer far.Close()
	if err := c.do(CmdSetDataFD, nil, unix.UnixRights(int(far.Fd()))); err != nil {
		near.Close()
		return nil, err
	}
	return newData(waiting{near, near}), nil
}

func socketPair() (near, far *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair for the TPM emulator: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "tpm data"), os.NewFile(uintptr(fds[1]), "tpm data, far end"), nil
}

// Data carries TPM commands to the emulator and its responses back.
type Data struct {
	mu     sync.Mutex
	conn   io.ReadWriteCloser
	rsp    *bufio.Reader // so that a response takes one read
	closed atomic.Bool
}

// NewData wraps a connection that already carries TPM commands.
func NewData(conn net.Conn) *Data { return newData(conn) }

func newData(conn io.ReadWriteCloser) *Data { return &Data{conn: conn, rsp: bufio.NewReader(conn)} }

// waiting is an end of a socket pair on which a read waits in the kernel. An answer mostly comes within
// microseconds: by way of the runtime's poller, which wakes another thread for it, it takes a third longer.
type waiting struct {
	io.ReadWriter // is end
	end           *os.File
}

// File is another descriptor of the same end.
func (w waiting) File() (*os.File, error) {
	raw, err := w.end.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if e := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		err = e
	}
	if err != nil {
		return nil, fmt.Errorf("keep the TPM emulator's data channel: %w", err)
	}
	return os.NewFile(uintptr(fd), "tpm data"), nil
}

// Close ends a read or a write that waits, which closing alone would not.
func (w waiting) Close() error {
	raw, err := w.end.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	}
	return errors.Join(err, w.end.Close())
}

// Close ends the channel, and a command that is under way on it.
func (d *Data) Close() error {
	d.closed.Store(true)
	return d.conn.Close()
}

// Send sends one TPM command and returns its whole response. The error is net.ErrClosed where it
// was ended by Close.
func (d *Data) Send(cmd []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	rsp, err := d.transact(cmd)
	if err != nil && d.closed.Load() {
		err = fmt.Errorf("%w: %w", net.ErrClosed, err)
	}
	return rsp, err
}

func (d *Data) transact(cmd []byte) ([]byte, error) {
	if _, err := d.conn.Write(cmd); err != nil {
		return nil, fmt.Errorf("send to the TPM emulator: %w", err)
	}
	return ReadPacket(d.rsp)
}

// maxPacket bounds what a packet may claim: TPMs take at most 4096 bytes.
const maxPacket = 64 << 10

// ReadPacket reads one TPM command or response: a ten-byte header whose second
// field is the whole length.
func ReadPacket(r io.Reader) ([]byte, error) {
	var header [10]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, fmt.Errorf("read a TPM packet's header: %w", err)
	}
	n := binary.BigEndian.Uint32(header[2:])
	if n < 10 || n > maxPacket {
		return nil, fmt.Errorf("a TPM packet claims %d bytes; between 10 and %d are possible", n, maxPacket)
	}
	packet := make([]byte, n)
	copy(packet, header[:])
	if _, err := io.ReadFull(r, packet[10:]); err != nil {
		return nil, fmt.Errorf("read a TPM packet of %d bytes: %w", n, err)
	}
	return packet, nil
}

// TPM is an emulated TPM with both its channels: a [tpm.LocalityChannel].
type TPM struct {
	*Control
	data *Data
}

// Dial connects to the control socket at path and opens a data channel. The
// TPM must be powered on by Init unless swtpm was started with not-need-init.
func Dial(path string) (*TPM, error) {
	c, err := DialControl(path)
	if err != nil {
		return nil, err
	}
	d, err := c.OpenData()
	for i := 0; isBusy(err) && i < pauses; i++ {
		time.Sleep(firstPause << i)
		d, err = c.OpenData()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return &TPM{c, d}, nil
}

// isBusy says that swtpm still has the data channel of the client before: it may notice
// that one's end after it has taken the next control connection.
func isBusy(err error) bool {
	var r *ResultError
	return errors.As(err, &r) && r.Command == CmdSetDataFD && r.Result == ResultIOError
}

// A TPM 2.0 answers "again, please" while it tests itself, or when the first use
// of a PIN after a restart made it note that fact (TPM Library, Part 1, clause
// 19.8.6). The kernel's driver then sends the command again by itself, so an
// emulator's channel does, too. The pauses double; together they stay under
// three seconds.
const (
	rcYielded, rcTesting, rcRetry = 0x908, 0x90a, 0x922

	firstPause, pauses = 5 * time.Millisecond, 9
)

// Send sends one TPM command at the present locality.
func (t *TPM) Send(cmd []byte) ([]byte, error) {
	for i := 0; ; i++ {
		rsp, err := t.data.Send(cmd)
		if err != nil {
			return nil, err
		}
		switch binary.BigEndian.Uint32(rsp[6:]) {
		case rcYielded, rcTesting, rcRetry:
			if i < pauses {
				time.Sleep(firstPause << i)
				continue
			}
		}
		return rsp, nil
	}
}

// Close ends both channels.
func (t *TPM) Close() error { return errors.Join(t.data.Close(), t.Control.Close()) }
