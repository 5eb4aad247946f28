// Package tis reaches a TPM through its registers, without the kernel's driver, and
// so at a locality of choice. Software that a dynamic launch started extends PCRs 17
// to 22 at locality 2, and the driver of every operating system uses locality 0.
//
// A PC's TPM has one of two interfaces at a fixed physical address. The FIFO (TIS 1.3
// for TPM 1.2; PTP clause 6.5.2 for TPM 2.0) is a queue of bytes. The CRB (PTP clause
// 6.5.3) is a buffer for a whole command. Both begin and end alike: a locality is
// requested, granted when no other has the TPM, and given back. The localities are
// a matter of the chipset: it lets 1 to 3 through only where a launch opened
// them, and 4 never, because that is the CPU's own.
//
// What the registers say is an attacker's word as much as the TPM's: the bus can be
// tapped. Each wait is bounded, each size is checked against what can be, no address
// in them is followed outside of the interface, and whatever goes wrong, the locality
// is given back.
//
// PTP is the "TCG PC Client Platform TPM Profile Specification for TPM 2.0", version
// 1.05 revision 14; TIS the "TCG PC Client Specific TPM Interface Specification",
// version 1.3.
package tis

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/antievilmaid/aem/tpm"
)

// HighestLocality is the highest that software can have.
const HighestLocality tpm.Locality = 3

// transport is one of the two interfaces, at the locality of its bus.
type transport interface {
	request(context.Context) error
	relinquish(context.Context) error
	exchange(ctx context.Context, cmd []byte) ([]byte, error)
	cancel(context.Context) error
}

// Channel is a TPM at one locality, which it has until it is closed. It is a
// [tpm.LocalityChannel], and may be used by several goroutines.
type Channel struct {
	// Kind is the interface that the TPM has.
	Kind Kind

	mu     sync.Mutex
	bus    *bus
	way    transport
	held   bool
	closed bool
}

// Config says how a Channel uses the registers.
type Config struct {
	// Locality is the locality to have, from 0 to [HighestLocality].
	Locality tpm.Locality
	// Address is the physical address of the registers' offset 0; 0 means [Base].
	Address uint64
	// Clock is the machine's where it is nil.
	Clock Clock
}

// New finds out which interface the TPM has and takes the locality.
func New(ctx context.Context, r Registers, c Config) (*Channel, error) {
	if c.Clock == nil {
		c.Clock = systemClock{}
	}
	if c.Address == 0 {
		c.Address = Base
	}
	ch := &Channel{bus: &bus{Registers: r, clock: c.Clock, base: c.Address, loc: c.Locality}}
	err := guarded(func() (err error) {
		if ch.Kind, err = identify(r); err != nil {
			return fmt.Errorf("look for a TPM at %#x: %w", c.Address, err)
		}
		ch.way = &fifo{bus: ch.bus}
		if ch.Kind == CRB {
			ch.way = &crb{bus: ch.bus}
		}
		return ch.take(ctx)
	})
	if err != nil {
		return nil, err
	}
	return ch, nil
}

// take requests the locality of the bus.
func (c *Channel) take(ctx context.Context) error {
	if c.bus.loc > HighestLocality {
		return fmt.Errorf("%w: locality %d; software has none above %d", ErrLocalityClosed, c.bus.loc, HighestLocality)
	}
	c.begin(0)
	if err := c.way.request(ctx); err != nil {
		return fmt.Errorf("take the TPM's locality %d: %w", c.bus.loc, err)
	}
	c.held = true
	return nil
}

// begin bounds what follows by the time that the TPM may compute, and the time for
// all the rest.
func (c *Channel) begin(computing time.Duration) {
	c.bus.end = c.bus.clock.Now().Add(computing + transferLimit)
}

// release gives the locality back, whatever happened before.
func (c *Channel) release() error {
	if !c.held {
		return nil
	}
	c.held = false
	c.begin(0)
	if err := c.way.relinquish(context.Background()); err != nil {
		return fmt.Errorf("give the TPM's locality %d back: %w", c.bus.loc, err)
	}
	return nil
}

// Send is [Channel.SendContext] without a context.
func (c *Channel) Send(cmd []byte) ([]byte, error) {
	return c.SendContext(context.Background(), cmd)
}

// SendContext sends a command and returns its response. Where the context ends, or
// the TPM does not answer in time, the command is cancelled.
func (c *Channel) SendContext(ctx context.Context, cmd []byte) (rsp []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if err := checkCommand(cmd); err != nil {
		return nil, err
	}
	err = guarded(func() (err error) {
		if !c.held { // an earlier change of locality was refused
			if err := c.take(ctx); err != nil {
				return err
			}
		}
		c.begin(duration(cmd))
		if rsp, err = c.way.exchange(ctx, cmd); err == nil {
			return nil
		}
		rsp = nil
		err = fmt.Errorf("send a command to the TPM: %w", err)
		c.begin(0)
		if failed := c.way.cancel(context.WithoutCancel(ctx)); failed != nil {
			err = fmt.Errorf("%w; then cancel it: %w", err, failed)
		}
		return err
	})
	return rsp, err
}

// SetLocality gives the locality back and takes another one. Where that is refused,
// the Channel has none, and the next command tries again.
func (c *Channel) SetLocality(l tpm.Locality) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	if c.held && c.bus.loc == l {
		return nil
	}
	return guarded(func() error {
		if err := c.release(); err != nil {
			return err
		}
		c.bus.loc = l
		return c.take(context.Background())
	})
}

// Close gives the locality back. Closing twice does nothing.
func (c *Channel) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return guarded(c.release)
}
