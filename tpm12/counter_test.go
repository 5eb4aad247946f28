package tpm12_test

import (
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
)

func TestACounterNeverGoesDown(t *testing.T) {
	c, chip := owned(t, "image")
	first, err := chip.CreateCounter(owner, pin, [4]byte{'a', 'e', 'm', '0'})
	ok(t, err)
	second, err := chip.CreateCounter(owner, pin, [4]byte{'a', 'e', 'm', '1'})
	ok(t, err)
	if second.Handle == first.Handle || second.Value <= first.Value {
		t.Errorf("the second counter is %+v, the first %+v", second, first)
	}
	for i := uint32(1); i <= 3; i++ {
		now, err := chip.IncrementCounter(first.Handle, pin)
		if err != nil || now != (tpm12.Counter{Handle: first.Handle, Value: first.Value + i}) {
			t.Fatalf("after %d increments: %+v, %v", i, now, err)
		}
	}
	ok(t, testbed.PowerOn(c, tpm.V12))
	if now, err := chip.ReadCounter(first.Handle); err != nil || now.Value != first.Value+3 {
		t.Errorf("after a restart: %+v, %v", now, err)
	}
	// Deleting a counter and making it anew does not set it back.
	ok(t, chip.ReleaseCounter(first.Handle, pin))
	again, err := chip.CreateCounter(owner, pin, [4]byte{'a', 'e', 'm', '0'})
	if err != nil || again.Value <= first.Value+3 {
		t.Errorf("made anew, it stands at %d, %v; it stood at %d", again.Value, err, first.Value+3)
	}
}

// Premise: between two starts one counter can be incremented, so that no two
// programs can share a TPM's counters.
func TestOneCounterForEachStart(t *testing.T) {
	c, chip := owned(t, "image")
	var made [2]tpm12.Counter
	for i := range made {
		var err error
		made[i], err = chip.CreateCounter(owner, pin, [4]byte{'a', 'e', 'm', byte(i)})
		ok(t, err)
	}
	ok(t, testbed.PowerOn(c, tpm.V12))
	ok(t, second(chip.IncrementCounter(made[1].Handle, pin)))
	refused(t, "the other one", second(chip.IncrementCounter(made[0].Handle, pin)), tpm12.ErrBadCounter)
	ok(t, testbed.PowerOn(c, tpm.V12))
	ok(t, second(chip.IncrementCounter(made[0].Handle, pin)))
}

func TestACounterIsItsHoldersAlone(t *testing.T) {
	_, chip := owned(t, "image")
	refused(t, "made with a wrong owner's password",
		second(chip.CreateCounter(wrong, pin, [4]byte{})), tpm12.ErrAuthFail)
	made, err := chip.CreateCounter(owner, pin, [4]byte{'a', 'e', 'm', '0'})
	ok(t, err)
	refused(t, "incremented with a wrong password", second(chip.IncrementCounter(made.Handle, wrong)), tpm12.ErrAuthFail)
	refused(t, "released with a wrong password", chip.ReleaseCounter(made.Handle, wrong), tpm12.ErrAuthFail)
	if now, err := chip.ReadCounter(made.Handle); err != nil || now != made {
		t.Errorf("afterwards: %+v, %v; want %+v", now, err, made)
	}
}
