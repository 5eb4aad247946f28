package tis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/antievilmaid/aem/tpm"
)

// Registers of the CRB, as offsets in a locality's page (PTP 1.05, clause 6.5.3).
// All are read and written as 32 bits.
const (
	crbLocState  = 0x00 // the same from each locality
	crbLocCtrl   = 0x08
	crbLocStatus = 0x0c
	crbRequest   = 0x40
	crbStatus    = 0x44
	crbCancel    = 0x48
	crbStart     = 0x4c
	crbIntEnable = 0x50
	crbCmdSize   = 0x58
	crbCmdLow    = 0x5c
	crbCmdHigh   = 0x60
	crbRspSize   = 0x64
	crbRspLow    = 0x68
	crbRspHigh   = 0x6c
	crbBuffer    = 0x80 // the first byte that a buffer may have
)

// Bits of those registers.
const (
	capLocality = 1 << 8 // INTERFACE_ID: there are five localities, not one

	locAssigned = 1 << 1 // LOC_STATE
	locActive   = 7 << 2 // LOC_STATE: who has the TPM
	locValid    = 1 << 7 // LOC_STATE

	locRequest    = 1 << 0 // LOC_CTRL
	locRelinquish = 1 << 1 // LOC_CTRL

	locGranted = 1 << 0 // LOC_STS

	reqReady = 1 << 0 // CTRL_REQ: the TPM clears it when it is ready
	reqIdle  = 1 << 1 // CTRL_REQ: the TPM clears it when it is idle

	crbError = 1 << 0 // CTRL_STS: a fatal error
	crbIdle  = 1 << 1 // CTRL_STS
)

type crb struct {
	*bus
	interrupts uint32
}

func (c *crb) get(reg uint32) uint32    { return c.Read32(c.at(reg)) }
func (c *crb) put(reg uint32, v uint32) { c.Write32(c.at(reg), v) }

// holder is the locality that has the TPM by LOC_STATE.
func holder(state uint32) (tpm.Locality, bool) {
	return tpm.Locality(state & locActive >> 2), state&(locValid|locAssigned) == locValid|locAssigned
}

func (c *crb) request(ctx context.Context) error {
	if c.loc > 0 && c.Read32(regInterfaceID)&capLocality == 0 {
		return fmt.Errorf("%w: this TPM's command buffer has locality 0 alone (INTERFACE_ID, CapLocality)", ErrLocalityClosed)
	}
	if c.get(crbLocState) == ^uint32(0) {
		return closed(c.loc, "LOC_STATE reads all ones")
	}
	c.put(crbLocCtrl, locRequest)
	err := c.until(ctx, timeoutA, "the locality is granted", func() (bool, error) {
		state := c.get(crbLocState)
		if state == ^uint32(0) {
			return false, closed(c.loc, "LOC_STATE reads all ones after the request")
		}
		l, ok := holder(state)
		return ok && l == c.loc && c.get(crbLocStatus)&locGranted != 0, nil
	})
	if err != nil {
		state := c.get(crbLocState)
		c.put(crbLocCtrl, locRelinquish)
		if l, ok := holder(state); ok && l != c.loc && errors.Is(err, ErrTimeout) && state != ^uint32(0) {
			return fmt.Errorf("%w: it is locality %d: %w", ErrLocalityHeld, l, err)
		}
		return err
	}
	c.interrupts = c.get(crbIntEnable)
	c.put(crbIntEnable, c.interrupts&^globalIntEnable)
	return nil
}

func (c *crb) relinquish(ctx context.Context) error {
	c.put(crbIntEnable, c.interrupts)
	c.put(crbLocCtrl, locRelinquish)
	return c.until(ctx, timeoutC, "the locality is given back", func() (bool, error) {
		state := c.get(crbLocState)
		l, ok := holder(state)
		return state == ^uint32(0) || !ok || l != c.loc, nil
	})
}

// check reports what CTRL_STS says of the TPM.
func (c *crb) check() error {
	switch s := c.get(crbStatus); {
	case s == ^uint32(0):
		return closed(c.loc, "its registers turned to all ones")
	case s&crbError != 0:
		return fmt.Errorf("%w: CTRL_STS reports a fatal error; only a restart of the machine ends that", ErrInterface)
	}
	return nil
}

// falls waits until the TPM clears a bit.
func (c *crb) falls(ctx context.Context, reg, bit uint32, within time.Duration, what string) error {
	return c.until(ctx, within, what, func() (bool, error) {
		if c.get(reg)&bit == 0 {
			return true, c.check()
		}
		return false, c.check()
	})
}

// exchange sends a command and reads the response.
func (c *crb) exchange(ctx context.Context, cmd []byte) ([]byte, error) {
	c.put(crbCancel, 0)
	c.put(crbRequest, reqReady)
	if err := c.falls(ctx, crbRequest, reqReady, timeoutC, "it is ready for a command"); err != nil {
		return nil, err
	}
	in, size, err := c.buffer("command", crbCmdSize, crbCmdLow, crbCmdHigh)
	if err != nil {
		return nil, err
	}
	if len(cmd) > size {
		return nil, fmt.Errorf("%w: it has %d bytes, and this TPM takes no more than %d", ErrCommand, len(cmd), size)
	}
	for i, b := range cmd {
		c.Write8(in+uint32(i), b)
	}
	c.put(crbStart, 1)
	if err := c.falls(ctx, crbStart, 1, duration(cmd), "a response is there"); err != nil {
		return nil, err
	}
	out, size, err := c.buffer("response", crbRspSize, crbRspLow, crbRspHigh)
	if err != nil {
		return nil, err
	}
	rsp, err := readResponse(func(b []byte) error {
		for i := range b {
			b[i] = c.Read8(out)
			out++
		}
		return nil
	}, size)
	if err != nil {
		return nil, err
	}
	// The TPM keeps the response until it may be idle (PTP 1.05, clause 6.5.3.9.2).
	// That is also how another locality can be had.
	return rsp, c.idle(ctx)
}

func (c *crb) idle(ctx context.Context) error {
	c.put(crbRequest, reqIdle)
	return c.falls(ctx, crbRequest, reqIdle, timeoutC, "it is idle")
}

// cancel ends a command that the TPM computes, and brings the TPM to rest.
func (c *crb) cancel(ctx context.Context) error {
	if c.get(crbStart)&1 != 0 {
		c.put(crbCancel, 1)
		err := c.falls(ctx, crbStart, 1, timeoutB, "it has cancelled the command")
		c.put(crbCancel, 0)
		if err != nil {
			return err
		}
	}
	return c.idle(ctx)
}

// buffer finds a buffer by its registers: its offset and its size, of which no more
// is used than a command can need. It must lie behind the registers in a locality's
// page. Anything else would have this process write to where a register's lie points.
func (c *crb) buffer(name string, size, low, high uint32) (offset uint32, length int, err error) {
	n := c.get(size)
	address := uint64(c.get(high))<<32 | uint64(c.get(low))
	from := address - c.base // beyond Size where it lies before the base
	if from >= Size || from%page < crbBuffer || n < headerSize || uint64(n) > page-from%page {
		return 0, 0, fmt.Errorf("%w: the %s buffer has %d bytes at %#x, which are not within the registers at %#x; this program drives no other", ErrInterface, name, n, address, c.base)
	}
	return uint32(from), int(min(n, maxSize)), nil
}
