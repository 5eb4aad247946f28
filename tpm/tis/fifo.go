package tis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/antievilmaid/aem/tpm"
)

// Registers of the FIFO, as offsets in a locality's page (TIS 1.3; PTP 1.05,
// clause 6.5.2).
const (
	fifoAccess    = 0x000 // 8 bits: who uses the TPM
	fifoIntEnable = 0x008 // 32 bits
	fifoStatus    = 0x018 // 8 bits of status; in the word's bits 8 to 23, the burst count
	fifoData      = 0x024 // 8 bits: the queue
	fifoVendor    = 0xf00 // 32 bits: DID_VID
)

// Bits of ACCESS. Writing activeLocality gives a locality back, and withdraws a
// request that was not granted.
const (
	accessValid   = 1 << 7
	accessActive  = 1 << 5
	accessRequest = 1 << 1
)

// Bits of STS (PTP 1.05, clause 6.5.2.5). Expect and dataAvail count only together
// with stsValid.
const (
	statusValid  = 1 << 7
	commandReady = 1 << 6
	tpmGo        = 1 << 5
	dataAvail    = 1 << 4
	expect       = 1 << 3
	rspRetry     = 1 << 1
)

// globalIntEnable lets the TPM interrupt. Nobody would answer its interrupts while
// the driver is away, and the kernel would switch off a line that others share.
const globalIntEnable = 1 << 31

// allOnes is what a byte reads that nobody answers for.
const allOnes = 0xff

// retries is how often a malformed response is asked for again: the queue is read
// over a slow bus, and the TPM keeps the response for that (responseRetry).
const retries = 2

type fifo struct {
	*bus
	interrupts uint32 // INT_ENABLE as it was found
}

func (f *fifo) access() uint8 { return f.Read8(f.at(fifoAccess)) }

// request asks for the bus's locality, and waits until whoever has the TPM lets go.
// It never seizes the TPM: a lower locality may be in the middle of a command.
func (f *fifo) request(ctx context.Context) error {
	if f.access() == allOnes {
		return closed(f.loc, "ACCESS reads all ones")
	}
	err := f.until(ctx, timeoutA, "ACCESS becomes valid", func() (bool, error) { return f.access()&accessValid != 0, nil })
	if err != nil {
		return err
	}
	f.Write8(f.at(fifoAccess), accessRequest)
	err = f.until(ctx, timeoutA, "the locality is granted", func() (bool, error) {
		a := f.access()
		if a == allOnes {
			return false, closed(f.loc, "ACCESS reads all ones after the request")
		}
		return a&(accessValid|accessActive) == accessValid|accessActive, nil
	})
	if err != nil {
		f.Write8(f.at(fifoAccess), accessActive)
		if other, ok := f.active(); ok && errors.Is(err, ErrTimeout) {
			return fmt.Errorf("%w: it is locality %d: %w", ErrLocalityHeld, other, err)
		}
		return err
	}
	f.interrupts = f.Read32(f.at(fifoIntEnable))
	f.Write32(f.at(fifoIntEnable), f.interrupts&^globalIntEnable)
	return nil
}

// active finds another locality that has the TPM.
func (f *fifo) active() (tpm.Locality, bool) {
	for l := range tpm.Locality(Size / page) {
		a := f.Read8(uint32(l)*page + fifoAccess)
		if l != f.loc && a != allOnes && a&(accessValid|accessActive) == accessValid|accessActive {
			return l, true
		}
	}
	return 0, false
}

// relinquish gives the locality back.
func (f *fifo) relinquish(ctx context.Context) error {
	f.Write32(f.at(fifoIntEnable), f.interrupts)
	f.Write8(f.at(fifoAccess), accessActive)
	return f.until(ctx, timeoutC, "the locality is given back", func() (bool, error) {
		a := f.access()
		return a == allOnes || a&accessActive == 0, nil
	})
}

// status reads STS. All ones mean that this locality no longer has the TPM: a
// higher one seized it, or the chipset closed it.
func (f *fifo) status() (uint8, error) {
	s := f.Read8(f.at(fifoStatus))
	if s != allOnes {
		return s, nil
	}
	if a := f.access(); a == allOnes {
		return 0, closed(f.loc, "its registers turned to all ones")
	} else if other, ok := f.active(); ok {
		return 0, fmt.Errorf("%w: locality %d took it from locality %d", ErrLocalityHeld, other, f.loc)
	}
	return 0, fmt.Errorf("%w: STS reads all ones at locality %d", ErrInterface, f.loc)
}

// statusBecomes waits until the masked bits of STS have a value.
func (f *fifo) statusBecomes(ctx context.Context, limit time.Duration, what string, mask, want uint8) error {
	return f.until(ctx, limit, what, func() (bool, error) {
		s, err := f.status()
		return s&mask == want, err
	})
}

// exchange sends a command and reads the response.
func (f *fifo) exchange(ctx context.Context, cmd []byte) ([]byte, error) {
	if err := f.ready(ctx); err != nil {
		return nil, err
	}
	if err := f.send(ctx, cmd); err != nil {
		return nil, err
	}
	f.Write8(f.at(fifoStatus), tpmGo)
	if err := f.statusBecomes(ctx, duration(cmd), "a response is there", statusValid|dataAvail, statusValid|dataAvail); err != nil {
		return nil, err
	}
	rsp, err := f.receive(ctx)
	if err != nil {
		return nil, err
	}
	f.Write8(f.at(fifoStatus), commandReady) // the response is read; the TPM may forget it
	return rsp, nil
}

// ready makes the TPM ready for a command. Where one before was left half-way, the
// first request ends that and only the second makes it ready.
func (f *fifo) ready(ctx context.Context) error {
	s, err := f.status()
	if err != nil || s&commandReady != 0 {
		return err
	}
	if s&(dataAvail|expect) != 0 {
		f.Write8(f.at(fifoStatus), commandReady)
	}
	f.Write8(f.at(fifoStatus), commandReady)
	return f.statusBecomes(ctx, timeoutB, "it is ready for a command", commandReady, commandReady)
}

// cancel ends a command: commandReady does that in every state, also while the TPM
// computes. By which write it becomes idle and by which ready can't be seen, so it is
// told until it is ready.
func (f *fifo) cancel(ctx context.Context) error {
	return f.until(ctx, timeoutB, "it has cancelled the command", func() (bool, error) {
		s, err := f.status()
		if err == nil && s&commandReady == 0 {
			f.Write8(f.at(fifoStatus), commandReady)
		}
		return s&commandReady != 0, err
	})
}

// burst waits until the TPM takes or gives bytes, and says how many. The count is
// read in one access of 32 bits: of two bytes read one by one, the first may change
// before the second is read.
func (f *fifo) burst(ctx context.Context, more uint8, what string) (int, error) {
	var n int
	err := f.until(ctx, timeoutA, "the burst count is above zero", func() (bool, error) {
		s, err := f.status()
		if err != nil {
			return false, err
		}
		if s&statusValid != 0 && s&more == 0 {
			return false, fmt.Errorf("%w: %s", ErrResponse, what)
		}
		n = int(f.Read32(f.at(fifoStatus)) >> 8 & 0xffff)
		return n > 0, nil
	})
	return n, err
}

// send writes a command. Before the last byte the TPM must expect one more, and
// after it none: otherwise it understood another size than was meant.
func (f *fifo) send(ctx context.Context, cmd []byte) error {
	last := len(cmd) - 1
	for sent := 0; sent < len(cmd); {
		if sent == last {
			if err := f.statusBecomes(ctx, timeoutC, "it expects the command's last byte", statusValid|expect, statusValid|expect); err != nil {
				return err
			}
		}
		// Expect rises with the first byte only.
		var more uint8 = expect
		if sent == 0 {
			more = allOnes
		}
		n, err := f.burst(ctx, more, fmt.Sprintf("it expects nothing more after %d of a command's %d bytes", sent, len(cmd)))
		if err != nil {
			return err
		}
		end := min(sent+n, len(cmd))
		if sent < last {
			end = min(end, last)
		}
		for ; sent < end; sent++ {
			f.Write8(f.at(fifoData), cmd[sent])
		}
	}
	return f.statusBecomes(ctx, timeoutC, "it has the whole command (Expect falls)", statusValid|expect, statusValid)
}

// receive reads the response, and asks for it again where it is malformed.
func (f *fifo) receive(ctx context.Context) ([]byte, error) {
	for try := 0; ; try++ {
		rsp, err := f.receiveOnce(ctx)
		if err == nil || try == retries || !errors.Is(err, ErrResponse) {
			return rsp, err
		}
		f.Write8(f.at(fifoStatus), rspRetry)
		if again := f.statusBecomes(ctx, timeoutC, "the response is there again", statusValid|dataAvail, statusValid|dataAvail); again != nil {
			return nil, fmt.Errorf("%w; asked for it again: %w", err, again)
		}
	}
}

func (f *fifo) receiveOnce(ctx context.Context) ([]byte, error) {
	rsp, err := readResponse(func(b []byte) error {
		for at := 0; at < len(b); {
			n, err := f.burst(ctx, dataAvail, fmt.Sprintf("it ends %d bytes too early", len(b)-at))
			if err != nil {
				return err
			}
			for end := min(at+n, len(b)); at < end; at++ {
				b[at] = f.Read8(f.at(fifoData))
			}
		}
		return nil
	}, maxSize)
	if err != nil {
		return nil, err
	}
	var s uint8
	err = f.until(ctx, timeoutC, "it says whether the response ended", func() (bool, error) {
		s, err = f.status()
		return s&statusValid != 0, err
	})
	if err == nil && s&dataAvail != 0 {
		err = fmt.Errorf("%w: it goes on after the %d bytes that it says it has", ErrResponse, len(rsp))
	}
	if err != nil {
		return nil, err
	}
	return rsp, nil
}

func closed(l tpm.Locality, seen string) error {
	return fmt.Errorf("%w: locality %d (%s); the chipset opens 1 to 3 only where firmware or a launch lets it", ErrLocalityClosed, l, seen)
}
