package totp_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/totp"
	"github.com/antievilmaid/aem/tpm2"
)

func TestPlausible(t *testing.T) {
	const day, hour = 24 * time.Hour, time.Hour
	sealed := totp.Sighting{
		Wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		TPM:  tpm2.Clock{Milliseconds: uint64((100 * day).Milliseconds()), Resets: 50, Restarts: 1, Safe: true},
	}
	for name, c := range map[string]struct {
		wall, powered    time.Duration // since the sealing
		resets, restarts int           // likewise
		unsafe           bool
		want             error
	}{
		"at once":                               {0, 0, 0, 0, false, nil},
		"an hour later, still running":          {hour, hour, 0, 0, false, nil},
		"a month later, mostly off":             {30 * day, 2 * day, 40, 0, false, nil},
		"a month in one go":                     {30 * day, 30 * day, 0, 0, false, nil},
		"a TPM that runs 15 per cent fast":      {100 * hour, 115 * hour, 0, 0, false, nil},
		"a TPM that runs 15 per cent slow":      {100 * hour, 85 * hour, 0, 0, false, nil},
		"advanced by just four fifths":          {81 * hour, 100 * hour, 9, 0, false, nil},
		"advanced by just less":                 {79 * hour, 100 * hour, 9, 0, false, totp.ErrBehind},
		"advanced by just six fifths":           {119 * hour, 100 * hour, 0, 0, false, nil},
		"advanced by just more":                 {121 * hour, 100 * hour, 0, 0, false, totp.ErrAhead},
		"a machine that is corrected by 90 s":   {-90 * time.Second, 0, 0, 0, false, nil},
		"a machine that is put forward by 90 s": {90 * time.Second, 0, 0, 0, false, nil},
		"suspended for a night":                 {8 * hour, time.Minute, 0, 2, false, nil},
		"an empty battery":                      {-10 * 365 * day, hour, 1, 0, false, totp.ErrBehind},
		"set back by three minutes":             {-3 * time.Minute, 0, 1, 0, false, totp.ErrBehind},
		"set back to the sealing":               {0, 10 * hour, 3, 0, false, totp.ErrBehind},
		"set back by half of what passed":       {5 * hour, 10 * hour, 3, 0, false, totp.ErrBehind},
		"set forward while it ran":              {day, hour, 0, 0, false, totp.ErrAhead},
		"set forward by five minutes":           {5 * time.Minute, 0, 0, 0, false, totp.ErrAhead},
		"set forward while it was off":          {300 * day, hour, 1, 0, false, nil}, // can't be known
		"a cleared TPM":                         {day, -99 * day, -50, 0, false, totp.ErrHistory},
		"fewer resets, though the clock is set": {day, hour, -1, 0, false, totp.ErrHistory},
		"fewer restarts in one reset":           {hour, hour, 0, -1, false, totp.ErrHistory},
		"fewer restarts after a reset":          {hour, hour, 1, -1, false, nil},
		"the TPM's clock back after a cut":      {day, -69 * time.Minute, 1, 0, true, nil},
		"the TPM's clock far back after a cut":  {day, -70 * time.Minute, 1, 0, true, totp.ErrHistory},
		"the TPM's clock back without a cut":    {day, -time.Minute, 1, 0, false, totp.ErrHistory},
		"the TPM's clock back in one reset":     {day, -time.Minute, 0, 0, true, totp.ErrHistory},
	} {
		now := totp.Sighting{Wall: sealed.Wall.Add(c.wall), TPM: tpm2.Clock{
			Milliseconds: sealed.TPM.Milliseconds + uint64(c.powered.Milliseconds()),
			Resets:       sealed.TPM.Resets + uint32(c.resets), Restarts: sealed.TPM.Restarts + uint32(c.restarts), Safe: !c.unsafe,
		}}
		if err := totp.Plausible(now, sealed); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v; want %v", name, err, c.want)
		}
	}
}

// The owner of a TPM may set its clock to what is left of its range.
func TestPlausibleWithClocksAtTheirEnds(t *testing.T) {
	end := tpm2.Clock{Milliseconds: math.MaxUint64, Resets: math.MaxUint32, Restarts: math.MaxUint32, Safe: true}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if err := totp.Plausible(totp.Sighting{now, end}, totp.Sighting{now, tpm2.Clock{Safe: true}}); !errors.Is(err, totp.ErrBehind) {
		t.Errorf("a TPM's clock set to its end: %v", err)
	}
	if err := totp.Plausible(totp.Sighting{now, tpm2.Clock{Safe: true}}, totp.Sighting{now, end}); !errors.Is(err, totp.ErrHistory) {
		t.Errorf("a TPM's clock that came from its end: %v", err)
	}
	young := tpm2.Clock{Milliseconds: 1000, Resets: 1, Safe: true}
	if err := totp.Plausible(totp.Sighting{now, tpm2.Clock{Milliseconds: 500, Resets: 2}}, totp.Sighting{now, young}); err != nil {
		t.Errorf("a TPM's clock back after a power cut soon after a clearing: %v", err)
	}
	if err := totp.Plausible(totp.Sighting{now, end}, totp.Sighting{now, end}); err != nil {
		t.Errorf("a TPM's clock that stands at its end: %v", err)
	}
}
