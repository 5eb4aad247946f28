package totp

import (
	"errors"
	"fmt"
	"time"

	"github.com/antievilmaid/aem/tpm2"
)

// Sighting is a moment in which the machine's clock and its TPM's were both read.
type Sighting struct {
	Wall time.Time
	TPM  tpm2.Clock
}

// Why a clock is not believed.
var (
	// ErrBehind: less time passed by the machine's clock than the TPM had power.
	ErrBehind = errors.New("the machine's clock was set back, or its battery is empty")
	// ErrAhead: more time passed by the machine's clock than by the TPM's, which ran all along.
	ErrAhead = errors.New("the machine's clock was set forward")
	// ErrHistory: the TPM's clock is not a later one than was seen before.
	ErrHistory = errors.New("the TPM's clock does not continue the one that was seen before")
)

// Clocks may disagree by a fifth of the time and by grace besides. The TCG's
// reference code has a TPM's clock within 15 per cent of real time; a machine's
// is corrected over the network now and then.
const grace = 2 * time.Minute

// unsaved is by how many milliseconds a TPM's clock may be back after a power cut
// (Part 2, clause 10.11.1: it is saved every 2^22 milliseconds at least).
const unsaved = 1 << 22

// Plausible says whether the machine's clock is believable, compared with an
// earlier sighting, such as the one at sealing. The error wraps [ErrBehind],
// [ErrAhead] or [ErrHistory].
//
// The TPM's clock runs while the TPM has power and stands still otherwise. So it
// gives a lower bound of the time that passed, always, and an upper one only where
// it never stopped: between two sightings with the same numbers of resets and
// restarts. The rules, in their order:
//
//   - The TPM's clock continues: neither it nor its reset count is lower than it was,
//     nor, within one reset, its restart count. After a power cut the clock
//     may be back by 2^22 milliseconds.
//   - The machine's clock is not before the earlier sighting, nor advanced by less
//     than four fifths of what the TPM's did. ([ErrBehind])
//   - Without a restart in between, it is not advanced by more than six fifths. ([ErrAhead])
//
// What passes all the same: a clock that was set forward while the machine was
// off. Who may start the machine in its approved state reads a later code so, and
// the rules notice it only if that start was recorded as a sighting and the clock
// set back since. And TPM2_ReadClock is not authenticated: a chip on the bus may
// say that no time passed.
func Plausible(now, before Sighting) error {
	a, b := before.TPM, now.TPM
	sameReset := a.Resets == b.Resets
	allowed := uint64(0)
	if !sameReset && !b.Safe {
		allowed = unsaved
	}
	if b.Resets < a.Resets || sameReset && b.Restarts < a.Restarts || b.Milliseconds < a.Milliseconds-min(allowed, a.Milliseconds) {
		return fmt.Errorf("%w: it was cleared since, or is another TPM's", ErrHistory)
	}
	powered := duration(b.Milliseconds - min(a.Milliseconds, b.Milliseconds))
	// Round drops Go's own monotonic reading, by which a clock that was set would not show.
	passed := now.Wall.Round(0).Sub(before.Wall.Round(0))
	if passed < powered-powered/5-grace {
		return fmt.Errorf("%w: by it %s passed, and the TPM had power for %s", ErrBehind, passed.Round(time.Second), powered.Round(time.Second))
	}
	if sameReset && a.Restarts == b.Restarts && passed > powered+powered/5+grace {
		return fmt.Errorf("%w: by it %s passed, and %s by the TPM's, which never stopped", ErrAhead, passed.Round(time.Second), powered.Round(time.Second))
	}
	return nil
}

// NotBefore is what is left of [Plausible] where the TPM has no clock that outlives
// a restart, as a TPM 1.2: the machine's clock is not before an earlier sighting.
// Otherwise the error wraps [ErrBehind].
func NotBefore(now, before time.Time) error {
	if passed := now.Round(0).Sub(before.Round(0)); passed < -grace {
		return fmt.Errorf("%w: it is %s before the time of the sealing", ErrBehind, (-passed).Round(time.Second))
	}
	return nil
}

// duration is a TPM's time, of which more than a century counts as one: the owner
// of a TPM may advance its clock to any value.
func duration(milliseconds uint64) time.Duration {
	const century = 100 * 365 * 24 * time.Hour
	return time.Duration(min(milliseconds, uint64(century/time.Millisecond))) * time.Millisecond
}
