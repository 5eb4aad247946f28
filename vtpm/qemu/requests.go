package qemu

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

// request does what a client asks for and returns the answer. An error ends the client.
func (c *client) request(ctx context.Context, fail context.CancelCauseFunc, q swtpm.Request) ([]byte, error) {
	if c.session == nil {
		session, err := c.server.Keeper.Attach(ctx, c.guest)
		if err != nil {
			return nil, fmt.Errorf("the guest gets no vTPM: %w", err)
		}
		c.session = session
		c.log.Info("a guest has its vTPM", "birth", c.guest.Birth)
	}
	switch q.Command {
	case swtpm.CmdGetCapability:
		return binary.BigEndian.AppendUint64(nil, capabilities), nil
	case swtpm.CmdGetConfig:
		return words(swtpm.ResultSuccess, 0), nil // no key was given by the client
	case swtpm.CmdGetInfo:
		return infoFrom(binary.BigEndian.Uint32(q.Payload[8:])), nil
	case swtpm.CmdSetDataFD:
		return c.openData(ctx, fail, q.File), nil
	case swtpm.CmdSetBufferSize:
		return c.setBuffer(binary.BigEndian.Uint32(q.Payload)), nil
	case swtpm.CmdInit:
		return c.powerOn(ctx)
	case swtpm.CmdStop, swtpm.CmdShutdown:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.on = false
		return result(swtpm.ResultSuccess), nil
	case swtpm.CmdSetLocality:
		return c.setLocality(tpm.Locality(q.Payload[0])), nil
	}
	return c.whileOn(q), nil
}

// whileOn answers the requests that swtpm answers only while the TPM is on.
func (c *client) whileOn(q swtpm.Request) []byte {
	if on := c.now().on; on {
		switch q.Command {
		case swtpm.CmdGetEstablished:
			// The guest can't perform a dynamic launch, so it never finds that it has: the
			// result, the flag and padding.
			return words(swtpm.ResultSuccess, 0)
		case swtpm.CmdResetEstablished:
			if l := q.Payload[0]; l != 3 && l != 4 {
				return result(swtpm.ResultBadLocality)
			}
			return result(swtpm.ResultSuccess)
		case swtpm.CmdCancel:
			if err := c.session.Cancel(); err != nil {
				c.warn("a command could not be cancelled", "cause", err)
				return result(swtpm.ResultFail)
			}
			return result(swtpm.ResultSuccess)
		}
	}
	c.warn(fmt.Sprintf("refused control command %#x, which is not for guests or came while the TPM was off", uint32(q.Command)))
	if q.Command == swtpm.CmdGetStateBlob {
		// The client waits for the whole header: result, flags, total and present length.
		return words(swtpm.ResultBadOrdinal, 0, 0, 0)
	}
	return result(swtpm.ResultBadOrdinal)
}

// powerOn is INIT. A vTPM of which nothing was asked since it was fresh still is: that is
// so at the machine's start, and when one reboot makes the machine reset several times,
// as Linux's does because it tries several ways.
func (c *client) powerOn(ctx context.Context) ([]byte, error) {
	c.mu.Lock()
	used := c.used
	c.on, c.used, c.started = false, false, false
	c.mu.Unlock()
	if used {
		if err := c.session.Reset(ctx); err != nil {
			return nil, fmt.Errorf("the guest was reset, and its vTPM was not: %w", err)
		}
		c.log.Info("the guest was reset")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = true
	return result(swtpm.ResultSuccess), nil
}

// setBuffer is SET_BUFFERSIZE: 0 asks, and any other size is brought into what is
// possible. The session knows nothing of it: the TPM's own buffer is vtpm.BufferSize,
// and what does not fit into the device's is kept from it here, because QEMU's tpm-crb
// has room for 3968 bytes and reads a response of any length into it.
func (c *client) setBuffer(size uint32) []byte {
	least := minBuffer(c.session.Version())
	c.mu.Lock()
	defer c.mu.Unlock()
	if size != 0 {
		if c.on {
			return result(swtpm.ResultBadOrdinal)
		}
		c.buffer = int(min(max(size, uint32(least)), vtpm.BufferSize))
	}
	return words(swtpm.ResultSuccess, uint32(c.buffer), uint32(least), vtpm.BufferSize)
}

// setLocality chooses the locality of the commands that follow. 4 is the launcher's.
func (c *client) setLocality(l tpm.Locality) []byte {
	if l > 3 {
		c.warn("refused a locality", "locality", uint8(l))
		return result(swtpm.ResultBadLocality)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.locality = l
	return result(swtpm.ResultSuccess)
}

// openData takes the client's end of the data channel. There is one for each client.
func (c *client) openData(ctx context.Context, fail context.CancelCauseFunc, end *os.File) []byte {
	if c.data != nil {
		return result(swtpm.ResultIOError)
	}
	if end == nil {
		return result(swtpm.ResultBadParameter)
	}
	conn, err := net.FileConn(end)
	if err != nil {
		return result(swtpm.ResultBadParameter)
	}
	data, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return result(swtpm.ResultBadParameter)
	}
	c.data = data
	c.channel.Go(func() {
		if err := c.commands(ctx, data); err != nil {
			fail(err)
		}
	})
	return result(swtpm.ResultSuccess)
}

// now is the machine as it is.
func (c *client) now() machine {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.machine
}

// warn tells the log of something once: a client or its guest may try for ever.
func (c *client) warn(what string, args ...any) {
	c.mu.Lock()
	told := c.told[what]
	c.told[what] = true
	c.mu.Unlock()
	if !told {
		c.log.Warn(what, args...)
	}
}
