package vtpmx

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

const (
	// bufferSize is the longest command that the kernel sends (TPM_BUFSIZE), in bytes.
	bufferSize = 4096
	headerSize = 10
	// setLocality is the command by which the driver says at which locality the next ones
	// come (TPM2_CC_SET_LOCALITY, TPM_ORD_SET_LOCALITY); programs can't send it.
	setLocality = 0x20001000

	badLocality = 0x3d // TPM_BAD_LOCALITY, for the driver alone
)

// Serve answers the kernel's commands out of a session until ctx ends, which is no
// error, or the session has no vTPM any more, which is one. The session stays open.
func (d *Device) Serve(ctx context.Context, s vtpm.Session) error {
	// The kernel's read can't be interrupted from here: so poll, with a pipe that closes.
	over, end, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("serve a TPM device: %w", err)
	}
	defer over.Close()
	defer context.AfterFunc(ctx, func() { end.Close() })()
	defer end.Close()

	at := tpm.Locality(0)
	fds := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}, {Fd: int32(over.Fd())}}
	command := make([]byte, bufferSize)
	for {
		if _, err := unix.Poll(fds, -1); errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return fmt.Errorf("wait for a command of the kernel's: %w", err)
		}
		if fds[1].Revents != 0 {
			return nil
		}
		if fds[0].Revents&unix.POLLIN == 0 {
			return fmt.Errorf("the kernel took its TPM device /dev/tpm%d away", d.Number)
		}
		n, err := unix.Read(d.fd, command)
		if errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return fmt.Errorf("read a command of the kernel's: %w", err)
		}
		response, err := answer(ctx, s, &at, command[:n])
		if ctx.Err() != nil {
			return nil
		} else if err != nil {
			return fmt.Errorf("the vTPM behind /dev/tpm%d is gone: %w", d.Number, err)
		}
		// Where the kernel has given the command up meanwhile it says so, and goes on.
		if _, err := unix.Write(d.fd, response); err != nil && !errors.Is(err, unix.EIO) {
			return fmt.Errorf("give the kernel a response: %w", err)
		}
	}
}

// answer runs a command, or heeds the driver's word on the locality. 4 is not for it: it
// is the launcher's, whom the host's programs must not be able to imitate.
func answer(ctx context.Context, s vtpm.Session, at *tpm.Locality, command []byte) ([]byte, error) {
	if len(command) != headerSize+1 || binary.BigEndian.Uint32(command[6:]) != setLocality {
		return s.Execute(ctx, *at, command)
	}
	tag, code := uint16(0x8001), uint32(0)
	if s.Version() == tpm.V12 {
		tag = 0x00c4
	}
	if l := tpm.Locality(command[headerSize]); l > 3 {
		code = badLocality
	} else {
		*at = l
	}
	b := binary.BigEndian.AppendUint16(nil, tag)
	b = binary.BigEndian.AppendUint32(b, headerSize)
	return binary.BigEndian.AppendUint32(b, code), nil
}
