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

	badLocality = 0x3d  // TPM_BAD_LOCALITY, for the driver alone
	retry       = 0x922 // TPM_RC_RETRY, on which the driver sends a command again, whatever the TPM's family
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

	// The process before us may have died with a command, which nobody but the driver has. Whose session
	// it is knows whether it was run. Where the driver waits for nothing it does not take this.
	if d.resumed {
		if _, err := unix.Write(d.fd, response(s.Version(), retry)); err != nil && !errors.Is(err, unix.EIO) {
			return fmt.Errorf("have the kernel repeat its command: %w", err)
		}
	}
	at := tpm.Locality(0) // the driver has no other, and chooses it once
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
		rsp, err := answer(ctx, s, &at, command[:n])
		if ctx.Err() != nil {
			return nil
		} else if err != nil {
			return fmt.Errorf("the vTPM behind /dev/tpm%d is gone: %w", d.Number, err)
		}
		// Where the kernel has given the command up meanwhile it says so, and goes on.
		if _, err := unix.Write(d.fd, rsp); err != nil && !errors.Is(err, unix.EIO) {
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
	l := tpm.Locality(command[headerSize])
	if l > 3 {
		return response(s.Version(), badLocality), nil
	}
	*at = l
	return response(s.Version(), 0), nil
}

// response is one that has a code alone.
func response(v tpm.Version, code uint32) []byte {
	tag := uint16(0x8001)
	if v == tpm.V12 {
		tag = 0x00c4
	}
	b := binary.BigEndian.AppendUint16(nil, tag)
	b = binary.BigEndian.AppendUint32(b, headerSize)
	return binary.BigEndian.AppendUint32(b, code)
}
