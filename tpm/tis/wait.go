package tis

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/antievilmaid/aem/tpm"
)

// Clock is the time by which waiting is bounded.
type Clock interface {
	Now() time.Time
	Sleep(time.Duration)
}

type systemClock struct{}

func (systemClock) Now() time.Time        { return time.Now() }
func (systemClock) Sleep(d time.Duration) { time.Sleep(d) }

// The interface's time-outs TIMEOUT_A, B and C: of both families' values the longer
// one, because the family is not known yet when the first of them is needed. C is 200
// ms for a TPM 2.0 (PTP 1.05, clause 6.5.1.3) and 750 ms for a TPM 1.2 (TIS 1.3).
// TIMEOUT_D (30 and 750 ms) is nowhere waited for: A stands in its place for the burst
// count. Waiting longer than needed harms only with a chip that is broken.
const (
	timeoutA = 750 * time.Millisecond
	timeoutB = 2 * time.Second
	timeoutC = 750 * time.Millisecond
)

// transferLimit bounds all the time between a command's first byte and its
// response's last in which the TPM does not compute. Without it, a chip that takes
// each byte just in time could hold a boot for an hour.
const transferLimit = 10 * time.Second

// Between two looks at a register the process sleeps: first shortly, because many
// chips answer at once, then longer. It never spins.
const (
	shortestPause = 50 * time.Microsecond
	longestPause  = 5 * time.Millisecond
)

// How long a TPM may compute. The profile gives 20 ms, 750 ms and 2 s for what it
// lists (PTP 1.05, clause 6.5.1.3, table 17) and nothing for the rest; real chips
// take longer, and a self-test that the command must wait for is not in it. So a
// command whose duration is listed gets ten times the longest, any other two
// minutes, as TPM 1.2's drivers have it, and one that makes a key five.
const (
	listed   = 20 * time.Second
	unlisted = 2 * time.Minute
	makesKey = 5 * time.Minute
)

// duration is how long a command may take. A command has at least ten bytes.
func duration(cmd []byte) time.Duration {
	code := binary.BigEndian.Uint32(cmd[6:])
	switch binary.BigEndian.Uint16(cmd) {
	case 0x8001, 0x8002: // TPM 2.0: TPM_ST_NO_SESSIONS, TPM_ST_SESSIONS
		switch code {
		case 0x131, 0x153, 0x191: // CreatePrimary, Create, CreateLoaded
			return makesKey
		case 0x13d, 0x143, 0x144, 0x145, 0x17a, 0x17b, 0x17e, 0x182:
			// PCR_Reset, SelfTest, Startup, Shutdown, GetCapability, GetRandom, PCR_Read, PCR_Extend
			return listed
		}
	case 0x00c1, 0x00c2, 0x00c3: // TPM 1.2: TPM_TAG_RQU_COMMAND and with one and two sessions
		switch code {
		case 0x0d, 0x13, 0x1b, 0x1f, 0x78, 0x79: // TakeOwnership, CMK_CreateKey, CMK_ConvertMigration, CreateWrapKey, CreateEndorsementKeyPair, MakeIdentity
			return makesKey
		case 0x14, 0x15, 0x46, 0x65, 0x99, 0xc8: // Extend, PCRRead, GetRandom, GetCapability, Startup, PCR_Reset
			return listed
		}
	}
	return unlisted
}

// bus is the registers as seen from one locality, with the time that passes.
type bus struct {
	Registers
	clock Clock
	base  uint64       // the physical address of offset 0
	loc   tpm.Locality // whose page is used
	end   time.Time    // of the exchange at the latest
}

// at is the offset of a register in the locality's page.
func (b *bus) at(reg uint32) uint32 { return uint32(b.loc)*page + reg }

// until looks until something is so, and pauses between. What did not come to be
// stands in the error, which wraps [ErrTimeout] or the context's.
func (b *bus) until(ctx context.Context, limit time.Duration, what string, is func() (bool, error)) error {
	start := b.clock.Now()
	deadline := start.Add(limit)
	if b.end.Before(deadline) {
		deadline = b.end
	}
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		// The time is taken before the look: a process that was not scheduled for
		// long looks once more before it gives up.
		now := b.clock.Now()
		if ok, err := is(); ok || err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("the TPM at locality %d: gave up waiting until %s: %w", b.loc, what, err)
		}
		if !now.Before(deadline) {
			return fmt.Errorf("%w: at locality %d, waited %v until %s", ErrTimeout, b.loc, now.Sub(start).Round(time.Millisecond), what)
		}
		b.clock.Sleep(pause)
	}
}
