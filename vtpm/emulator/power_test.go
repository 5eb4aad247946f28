package emulator_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
)

// inherited is what a launched host and its guest leave in PCRs 17, 18 and 4.
func inherited(v tpm.Version) emulator.Inheritance {
	return emulator.Inheritance{
		Launch: []byte("the host's launch"),
		Extends: []emulator.Extend{
			{PCR: 18, Digests: digests(v, "the guest")},
			{PCR: 4, Digests: digests(v, "the kernel")},
		},
	}
}

// wantInherited computes what inherited leaves, without a TPM.
func wantInherited(t *testing.T, v tpm.Version, have tpm.Banks) {
	t.Helper()
	for _, bank := range have {
		zero := make(tpm.Digest, bank.Alg.Size())
		extended := func(text string) tpm.Digest { return bank.Alg.Sum(zero, bank.Alg.Sum([]byte(text))) }
		want := map[tpm.PCR]tpm.Digest{
			4: extended("the kernel"), 17: extended("the host's launch"), 18: extended("the guest"), 19: zero, 22: zero,
		}
		for p, d := range want {
			if diff := cmp.Diff(d, have.Value(bank.Alg, p)); diff != "" {
				t.Errorf("%v: PCR %d in bank %v: %s", v, p, bank.Alg, diff)
			}
		}
	}
	if len(have) == 0 {
		t.Errorf("%v: no bank was read", v)
	}
}

var launchPCRs = []tpm.PCR{4, 17, 18, 19, 22}

func TestGuestInheritsTheLaunch(t *testing.T) {
	h := newHost(t)
	for _, v := range both {
		e := run(t, h, create(t, h, v), inherited(v))
		wantInherited(t, v, readPCRs(t, e, v, launchPCRs...))
	}
}

func TestWithoutLaunchPCRsStayOnes(t *testing.T) {
	h := newHost(t)
	for _, v := range both {
		e := run(t, h, create(t, h, v), emulator.Inheritance{})
		for _, bank := range readPCRs(t, e, v, 17, 18, 22) {
			for p, d := range bank.Values {
				if tpm.PCR(p).Dynamic() && len(d) > 0 && !d.All(0xff) {
					t.Errorf("%v: PCR %d is %v", v, p, d)
				}
			}
		}
	}
}

// What was inherited can be neither altered nor imitated from the guest's localities.
func TestGuestCannotTouchInheritedPCRs(t *testing.T) {
	h := newHost(t)
	e := run(t, h, create(t, h, tpm.V20), inherited(tpm.V20))
	for _, at := range []tpm.Locality{0, 1} {
		for _, p := range []byte{17, 18, 19} {
			extend := packet(0x8002, 0x182, append([]byte{0, 0, 0, p, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x0b}, make([]byte, 32)...)...)
			if rsp, _, err := e.Execute(context.Background(), at, extend); err != nil || code(rsp) != 0x907 {
				t.Errorf("extending PCR %d at locality %d: %#x, %v", p, at, code(rsp), err)
			}
		}
		reset := packet(0x8002, 0x13d, 0, 0, 0, 17, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0)
		if rsp, _, err := e.Execute(context.Background(), at, reset); err != nil || code(rsp) != 0x907 {
			t.Errorf("resetting PCR 17 at locality %d: %#x, %v", at, code(rsp), err)
		}
	}
	wantInherited(t, tpm.V20, readPCRs(t, e, tpm.V20, launchPCRs...))
}

func TestResetGivesFreshPCRs(t *testing.T) {
	h := newHost(t)
	for _, v := range both {
		e := run(t, h, create(t, h, v), inherited(v))
		who := identity(t, e, v)
		if err := e.Reset(context.Background(), emulator.Inheritance{Extends: []emulator.Extend{{PCR: 4, Digests: digests(v, "another kernel")}}}); err != nil {
			t.Fatal(err)
		}
		for _, bank := range readPCRs(t, e, v, 4, 17) {
			if want := bank.Alg.Sum(make([]byte, bank.Alg.Size()), bank.Alg.Sum([]byte("another kernel"))); !bank.Values[4].Equal(want) {
				t.Errorf("%v: PCR 4 is %v after the reset", v, bank.Values[4])
			}
			if !bank.Values[17].All(0xff) {
				t.Errorf("%v: PCR 17 is %v after a reset without a launch", v, bank.Values[17])
			}
		}
		if identity(t, e, v) != who {
			t.Errorf("%v: the reset made it another TPM", v)
		}
	}
}

// suspend keeps what a suspended TPM goes on with.
func suspend(t *testing.T, e *emulator.Emulator) (state, volatile []byte) {
	t.Helper()
	if err := e.Suspend(context.Background(), func(s, v []byte) error { state, volatile = s, v; return nil }); err != nil {
		t.Fatal(err)
	}
	return state, volatile
}

func TestSuspendedGuestGoesOn(t *testing.T) {
	h := newHost(t)
	for _, v := range both {
		cfg := create(t, h, v)
		e := run(t, h, cfg, inherited(v))
		cfg.State, cfg.Volatile = suspend(t, e)
		if _, _, err := e.Execute(context.Background(), 0, random(v)); !errors.Is(err, emulator.ErrEnded) {
			t.Errorf("%v: the suspended TPM went on: %v", v, err)
		}
		e = start(t, h, cfg)
		if err := e.PowerOn(context.Background(), emulator.Inheritance{}); err == nil {
			t.Errorf("%v: a suspended TPM was switched on as if it were a fresh one", v)
		}
		if err := e.Resume(context.Background()); err != nil {
			t.Fatal(err)
		}
		wantInherited(t, v, readPCRs(t, e, v, launchPCRs...))
		if v == tpm.V20 && ask(t, e, changeEPS) != rcHierarchy {
			t.Error("the platform hierarchy is open after a resume")
		}
		// The volatile state must not come back at a reset.
		if err := e.Reset(context.Background(), emulator.Inheritance{}); err != nil {
			t.Fatal(err)
		}
		for _, bank := range readPCRs(t, e, v, 4, 17) {
			if !bank.Values[4].All(0) || !bank.Values[17].All(0xff) {
				t.Errorf("%v: after a reset PCR 4 is %v, PCR 17 %v", v, bank.Values[4], bank.Values[17])
			}
		}
	}
}

// What was written for a suspend that came to nothing must not come back at a reset.
func TestFailedSuspendLeavesNothing(t *testing.T) {
	h := newHost(t)
	for _, v := range both {
		e := run(t, h, create(t, h, v), inherited(v))
		full := errors.New("the disk is full")
		if err := e.Suspend(context.Background(), func(_, _ []byte) error { return full }); !errors.Is(err, full) {
			t.Errorf("%v: a state that could not be kept: %v", v, err)
		}
		wantInherited(t, v, readPCRs(t, e, v, launchPCRs...)) // it goes on
		if err := e.Reset(context.Background(), emulator.Inheritance{}); err != nil {
			t.Fatal(err)
		}
		for _, bank := range readPCRs(t, e, v, 4) {
			if !bank.Values[4].All(0) {
				t.Errorf("%v: after a reset PCR 4 is %v", v, bank.Values[4])
			}
		}
	}
}

// A volatile state of another vTPM, or a damaged one, starts nothing.
func TestForeignVolatileStateIsRefused(t *testing.T) {
	h := newHost(t)
	for _, v := range both {
		cfg := create(t, h, v)
		_, volatile := suspend(t, run(t, h, cfg, emulator.Inheritance{}))
		volatile[len(volatile)/2] ^= 1
		for what, b := range map[string][]byte{"a damaged volatile state": volatile, "half of one": volatile[:len(volatile)/2]} {
			cfg.Volatile = b
			e := start(t, h, cfg)
			if err := e.Resume(context.Background()); !errors.Is(err, emulator.ErrState) {
				t.Errorf("%v: %s: %v", v, what, err)
			}
		}
	}
}

const rcHierarchy = 0x185 // TPM_RC_HIERARCHY for the first handle

// changeEPS is TPM2_ChangeEPS with an empty platform password.
var changeEPS = packet(0x8002, 0x124, 0x40, 0, 0, 0x0c, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0)

// Without the filter in front, too.
func TestNobodyHasThePlatform(t *testing.T) {
	h := newHost(t)
	e := run(t, h, create(t, h, tpm.V20), emulator.Inheritance{})
	who := identity(t, e, tpm.V20)
	platform := []byte{0x40, 0, 0, 0x0c, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0}
	for _, c := range []uint32{0x124, 0x125, 0x126} { // ChangeEPS, ChangePPS, Clear
		if rc := ask(t, e, packet(0x8002, c, platform...)); rc != rcHierarchy {
			t.Errorf("command %#x with platform authorisation: %#x", c, rc)
		}
	}
	enable := packet(0x8002, 0x121, append(platform, 0x40, 0, 0, 0x0c, 1)...)
	if rc := ask(t, e, enable); rc != rcHierarchy {
		t.Errorf("enabling the hierarchy again: %#x", rc)
	}
	if rc := ask(t, e, changeEPS); rc != rcHierarchy {
		t.Errorf("TPM2_ChangeEPS: %#x", rc)
	}
	if identity(t, e, tpm.V20) != who {
		t.Error("the guest changed its TPM's identity")
	}
}

func TestNobodyIsPhysicallyPresent(t *testing.T) {
	h := newHost(t)
	e := run(t, h, create(t, h, tpm.V12), emulator.Inheritance{})
	for _, flags := range []byte{0x20, 0x08} { // commands enabled; present
		if rc := ask(t, e, packet(0xc1, 0x4000000a, 0, flags)); rc != 3 { // TPM_BAD_PARAMETER
			t.Errorf("TSC_PhysicalPresence %#x: %#x", flags, rc)
		}
	}
	if rc := ask(t, e, packet(0xc1, 0x5d)); rc != 0x2d { // TPM_ForceClear: TPM_BAD_PRESENCE
		t.Errorf("TPM_ForceClear: %#x", rc)
	}
}

func TestNothingRunsWhileOff(t *testing.T) {
	h := newHost(t)
	e := start(t, h, create(t, h, tpm.V20))
	if _, _, err := e.Execute(context.Background(), 0, random(tpm.V20)); !errors.Is(err, emulator.ErrOff) {
		t.Errorf("before the power-on: %v", err)
	}
	if err := e.Resume(context.Background()); err == nil {
		t.Error("a TPM that was not suspended was resumed")
	}
	if err := e.Reset(context.Background(), emulator.Inheritance{}); !errors.Is(err, emulator.ErrOff) {
		t.Errorf("a reset before the power-on: %v", err)
	}
}

// The longest answer fits into the page of Xen's frontends, after a reset, too.
func TestBufferFitsThePage(t *testing.T) {
	h := newHost(t)
	e := run(t, h, create(t, h, tpm.V20), emulator.Inheritance{})
	if err := e.Reset(context.Background(), emulator.Inheritance{}); err != nil {
		t.Fatal(err)
	}
	const maxCommandSize = 0x11e // TPM_PT_MAX_COMMAND_SIZE, and TPM_PT_MAX_RESPONSE_SIZE behind it
	rsp, _, err := e.Execute(context.Background(), 0, packet(0x8001, 0x17a, 0, 0, 0, 6, 0, 0, 1, 0x1e&0xff, 0, 0, 0, 2))
	if err != nil || len(rsp) != 10+9+16 {
		t.Fatalf("%x, %v", rsp, err)
	}
	want := []byte{0, 0, 1, 0x1e, 0, 0, 0x0f, 0xf8, 0, 0, 1, 0x1f, 0, 0, 0x0f, 0xf8}
	if diff := cmp.Diff(want, rsp[19:]); diff != "" {
		t.Errorf("property %#x and the next: %s", maxCommandSize, diff)
	}
}
