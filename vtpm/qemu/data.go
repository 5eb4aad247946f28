package qemu

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"

	"github.com/antievilmaid/aem/vtpm"
)

// headerSize is the length of a command's and a response's header: tag, size, code.
const headerSize = 10

// commands runs what comes on the data channel until it ends, or until there is no vTPM
// any more, which is an error.
func (c *client) commands(ctx context.Context, data *net.UnixConn) error {
	defer data.Close()
	// Longer than what a device sends: what is too long must not be taken for two commands.
	buf := make([]byte, 2*vtpm.BufferSize)
	for {
		command, err := c.readCommand(data, buf)
		if err != nil {
			return nil // the client's end is closed, and what was cut short is nobody's command
		}
		m := c.now()
		v := c.session.Version()
		response := refusal(v, failed)
		switch {
		case !m.on:
		case command == nil:
			response = refusal(v, wrongSize)
		default:
			if response, err = c.execute(ctx, m, command); err != nil {
				return err
			}
		}
		if _, err := data.Write(response); err != nil {
			return nil
		}
	}
}

// execute runs a command. A response for which the device has no room is a failure.
func (c *client) execute(ctx context.Context, m machine, command []byte) ([]byte, error) {
	first := c.use(command)
	response, err := c.session.Execute(ctx, m.locality, command)
	// Once more: a reset may have come meanwhile, and may have come first.
	c.use(nil)
	if err != nil {
		return nil, fmt.Errorf("the vTPM is gone: %w", err)
	}
	if len(response) < headerSize || len(response) > m.buffer {
		c.warn("a response has no room in the guest's device", "bytes", len(response), "room", m.buffer)
		return refusal(c.session.Version(), failed), nil
	}
	if first && isStarted(response) {
		return refusal(c.session.Version(), failure{}), nil
	}
	return response, nil
}

// use notes that the session runs a command, and says whether that is the guest's
// first Startup.
func (c *client) use(command []byte) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = true
	if !isStartup(command) {
		return false
	}
	first = !c.started
	c.started = true
	return first
}

// isStartup recognises TPM2_Startup(CLEAR) (TPM Library, Part 3, clause 9.3) and
// TPM_Startup(ST_CLEAR) (TPM Main, Part 3, clause 3.2).
func isStartup(command []byte) bool {
	const v20, v12 = "\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x44\x00\x00", "\x00\xc1\x00\x00\x00\x0c\x00\x00\x00\x99\x00\x01"
	return string(command) == v20 || string(command) == v12
}

// isStarted recognises the answer of a TPM that was started before: TPM_RC_INITIALIZE
// or TPM_INVALID_POSTINIT. The keeper has started the vTPM and measured into it; the
// guest's firmware, who is the first in its machine, takes that answer for a broken
// TPM and switches it off.
func isStarted(response []byte) bool {
	switch code := binary.BigEndian.Uint32(response[6:]); binary.BigEndian.Uint16(response) {
	case 0x8001:
		return code == 0x100
	case 0x00c4:
		return code == 0x26
	}
	return false
}

// readCommand reads one command into buf. The device sends each in one piece, and the guest has
// written it: its header may claim any length, and the device sends what it has. So the rest is
// waited for only where it can still come; a command that is too short or too long
// for its header, or too long for the device, is nil.
func (c *client) readCommand(data *net.UnixConn, buf []byte) ([]byte, error) {
	n, err := data.Read(buf)
	if err != nil {
		return nil, err
	}
	if n < 6 {
		return nil, nil
	}
	claimed := int64(binary.BigEndian.Uint32(buf[2:]))
	if claimed < headerSize || claimed > int64(c.now().buffer) || claimed < int64(n) {
		return nil, nil
	}
	for int64(n) < claimed {
		more, err := data.Read(buf[n:claimed])
		if err != nil {
			return nil, err
		}
		n += more
	}
	return buf[:n], nil
}
