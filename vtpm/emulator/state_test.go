package emulator_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm/emulator"
)

func code(rsp []byte) uint32 { return binary.BigEndian.Uint32(rsp[6:]) }

func TestVTPMIsTheSameAfterAStop(t *testing.T) {
	h := newHost(t)
	for _, v := range both {
		cfg := create(t, h, v)
		e := run(t, h, cfg, emulator.Inheritance{})
		who := identity(t, e, v)
		cfg.State = stop(t, e)
		if identity(t, run(t, h, cfg, emulator.Inheritance{}), v) != who {
			t.Errorf("%v: a stop and a start made it another TPM", v)
		}
		other := cfg
		other.State = nil
		var err error
		if other.State, err = h.Create(context.Background(), other); err != nil {
			t.Fatal(err)
		}
		if identity(t, run(t, h, other, emulator.Inheritance{}), v) == who {
			t.Errorf("%v: two vTPMs have one identity", v)
		}
	}
}

// refused demands that a state is not taken, and that no guest could have been served.
func refused(t *testing.T, h *emulator.Host, cfg emulator.Config, what string) {
	t.Helper()
	e, err := h.Start(context.Background(), cfg)
	if err == nil {
		err = e.PowerOn(context.Background(), emulator.Inheritance{})
		if _, _, ran := e.Execute(context.Background(), 0, random(cfg.Version)); ran == nil {
			t.Errorf("%s: the guest was served", what)
		}
		e.Kill()
	}
	if !errors.Is(err, emulator.ErrState) {
		t.Errorf("%s: %v", what, err)
	}
}

func TestStateThatIsNotItsOwnIsRefused(t *testing.T) {
	h := newHost(t)
	for _, v := range both {
		good := create(t, h, v)
		with := func(change func(*emulator.Config)) emulator.Config {
			cfg := good
			cfg.State, cfg.Key = bytes.Clone(good.State), bytes.Clone(good.Key)
			change(&cfg)
			return cfg
		}
		refused(t, h, with(func(c *emulator.Config) { c.State = nil }), "no state")
		refused(t, h, with(func(c *emulator.Config) { c.State = []byte{} }), "an empty state")
		refused(t, h, with(func(c *emulator.Config) { c.Key[0] ^= 1 }), "another key")
		refused(t, h, with(func(c *emulator.Config) { c.Version = tpm.V12 + tpm.V20 - v }), "the other family's state")
		for _, n := range []int{1, 9, 10, 100, len(good.State) - 1} {
			refused(t, h, with(func(c *emulator.Config) { c.State = c.State[:n] }), "a truncated state")
		}
	}
}

// swtpm makes a new TPM where it finds no state. The guest never meets that one.
func TestVanishedStateIsNotReplaced(t *testing.T) {
	h := isolated(t)
	for _, v := range both {
		e := start(t, h, create(t, h, v))
		state := fmt.Sprintf("/proc/%d/root/state/", e.PID())
		for _, name := range entries(t, state) {
			if err := os.Remove(state + name); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.PowerOn(context.Background(), emulator.Inheritance{}); !errors.Is(err, emulator.ErrState) {
			t.Errorf("%v: %v", v, err)
		}
		if _, _, err := e.Execute(context.Background(), 0, random(v)); !errors.Is(err, emulator.ErrEnded) {
			t.Errorf("%v: the guest was served: %v", v, err)
		}
	}
}

// No bit of a state can be changed so that the guest gets another TPM, or one with other contents. swtpm's header
// has bits of which it takes no notice; what is behind them is then the same.
func TestFlippedStateIsRefused(t *testing.T) {
	h := newHost(t)
	good := create(t, h, tpm.V20)
	e := run(t, h, good, emulator.Inheritance{})
	who := identity(t, e, tpm.V20)
	e.Kill()
	var taken []int
	for i := 0; i < len(good.State); i++ {
		const header = 16
		if i > header && i%241 != 0 {
			continue
		}
		cfg := good
		cfg.State = bytes.Clone(good.State)
		cfg.State[i] ^= 1
		e := start(t, h, cfg)
		switch err := e.PowerOn(context.Background(), emulator.Inheritance{}); {
		case err == nil && i < header && identity(t, e, tpm.V20) == who:
			taken = append(taken, i)
		case !errors.Is(err, emulator.ErrState):
			t.Errorf("bit 0 of byte %d of %d: %v", i, len(good.State), err)
		}
		e.Kill()
	}
	if diff := cmp.Diff([]int{1, 4, 5}, taken); diff != "" {
		t.Errorf("changed bytes that made no difference: %s", diff)
	}
}

// What a power cut would lose is noticed with the command that made it, and nothing else is.
func TestChangesAreNoticed(t *testing.T) {
	h := newHost(t)
	e := run(t, h, create(t, h, tpm.V20), emulator.Inheritance{})
	g := &guest{e: e}
	owner := gotpm.AuthHandle{Handle: gotpm.TPMRHOwner, Auth: gotpm.PasswordAuth(nil)}
	index := func(h gotpm.TPMHandle, kind gotpm.TPMNT) (gotpm.NVDefineSpace, func() gotpm.NamedHandle) {
		size := uint16(8)
		public := gotpm.New2B(gotpm.TPMSNVPublic{NVIndex: h, NameAlg: gotpm.TPMAlgSHA256, DataSize: size,
			Attributes: gotpm.TPMANV{OwnerWrite: true, OwnerRead: true, AuthWrite: true, AuthRead: true, NoDA: true, NT: kind}})
		return gotpm.NVDefineSpace{AuthHandle: owner, PublicInfo: public}, func() gotpm.NamedHandle {
			rsp, err := gotpm.NVReadPublic{NVIndex: h}.Execute(g)
			if err != nil {
				t.Fatal(err)
			}
			return gotpm.NamedHandle{Handle: h, Name: rsp.NVName}
		}
	}
	defineData, data := index(0x01800001, gotpm.TPMNTOrdinary)
	defineCounter, counter := index(0x01800002, gotpm.TPMNTCounter)
	var key *gotpm.CreatePrimaryResponse
	steps := []struct {
		name string
		want bool
		do   func() error
	}{
		{"NV_DefineSpace", true, func() error { _, err := defineData.Execute(g); return err }},
		{"NV_Write", true, func() error {
			_, err := gotpm.NVWrite{AuthHandle: owner, NVIndex: data(), Data: gotpm.TPM2BMaxNVBuffer{Buffer: []byte("12345678")}}.Execute(g)
			return err
		}},
		{"NV_DefineSpace of a counter", true, func() error { _, err := defineCounter.Execute(g); return err }},
		{"NV_Increment", true, func() error {
			_, err := gotpm.NVIncrement{AuthHandle: owner, NVIndex: counter()}.Execute(g)
			return err
		}},
		{"NV_Increment again", true, func() error {
			_, err := gotpm.NVIncrement{AuthHandle: owner, NVIndex: counter()}.Execute(g)
			return err
		}},
		{"NV_Read", false, func() error {
			_, err := gotpm.NVRead{AuthHandle: owner, NVIndex: data(), Size: 8}.Execute(g)
			return err
		}},
		{"CreatePrimary", false, func() (err error) {
			key, err = gotpm.CreatePrimary{PrimaryHandle: owner, InPublic: gotpm.New2B(gotpm.ECCSRKTemplate)}.Execute(g)
			return err
		}},
		{"EvictControl", true, func() error {
			_, err := gotpm.EvictControl{Auth: owner, ObjectHandle: &gotpm.NamedHandle{Handle: key.ObjectHandle, Name: key.Name},
				PersistentHandle: 0x81000001}.Execute(g)
			return err
		}},
		{"PCR_Extend", false, func() error { return tpm2.New(g).Extend(10, digests(tpm.V20, "an event")) }},
		{"PCR_Read", false, func() error { _, err := tpm2.New(g).ReadPCRs(tpm.PCRSet(10)); return err }},
		{"GetRandom", false, func() error { _, err := g.Send(random(tpm.V20)); return err }},
		{"HierarchyChangeAuth", true, func() error {
			_, err := gotpm.HierarchyChangeAuth{AuthHandle: owner, NewAuth: gotpm.TPM2BAuth{Buffer: []byte("owner")}}.Execute(g)
			return err
		}},
	}
	before := e.State()
	for _, s := range steps {
		g.changed = false
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		now := e.State()
		if g.changed != s.want || bytes.Equal(before, now) == s.want {
			t.Errorf("%s: changed is %v, the state differs: %v; want %v", s.name, g.changed, !bytes.Equal(before, now), s.want)
		}
		before = now
	}
}

// A state that was noted when a command was answered holds what that command did, even where the process is
// killed right then.
func TestStateHoldsWhatWasAnswered(t *testing.T) {
	h := newHost(t)
	cfg := create(t, h, tpm.V20)
	e := run(t, h, cfg, emulator.Inheritance{})
	c, err := tpm2.New(&guest{e: e}).MakeCounter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := tpm2.New(&guest{e: e}).Increment(c.Index, nil); err != nil {
			t.Fatal(err)
		}
		want, err := tpm2.New(&guest{e: e}).ReadCounter(c)
		if err != nil {
			t.Fatal(err)
		}
		cfg.State = e.State()
		e.Kill()
		e = run(t, h, cfg, emulator.Inheritance{})
		if got, err := tpm2.New(&guest{e: e}).ReadCounter(c); err != nil || got != want {
			t.Fatalf("the counter is %d, not %d: %v", got, want, err)
		}
	}
}

// A guest may fill its TPM's memory. That is within the limits of its emulator, and all of it lasts.
func TestFullTPMLasts(t *testing.T) {
	h := newHost(t)
	cfg := create(t, h, tpm.V20)
	e := run(t, h, cfg, emulator.Inheritance{})
	const size, most = 2048, 200
	full := func(n uint32) error {
		public := gotpm.New2B(gotpm.TPMSNVPublic{NVIndex: gotpm.TPMHandle(0x01800000 + n), NameAlg: gotpm.TPMAlgSHA256, DataSize: size,
			Attributes: gotpm.TPMANV{OwnerWrite: true, OwnerRead: true, NoDA: true, NT: gotpm.TPMNTOrdinary}})
		owner := gotpm.AuthHandle{Handle: gotpm.TPMRHOwner, Auth: gotpm.PasswordAuth(nil)}
		_, err := gotpm.NVDefineSpace{AuthHandle: owner, PublicInfo: public}.Execute(&guest{e: e})
		return err
	}
	var n uint32
	var err error
	for err == nil && n < most {
		if err = full(n); err == nil {
			n++
		}
	}
	if !errors.Is(err, gotpm.TPMRCNVSpace) || n < 10 {
		t.Fatalf("after %d areas: %v", n, err)
	}
	cfg.State = stop(t, e)
	if len(cfg.State) < int(n)*size {
		t.Errorf("%d areas of %d bytes are in a state of %d", n, size, len(cfg.State))
	}
	e = run(t, h, cfg, emulator.Inheritance{})
	if err := full(n); !errors.Is(err, gotpm.TPMRCNVSpace) {
		t.Errorf("after a restart there is space again: %v", err)
	}
	if err := e.Suspend(context.Background(), func(_, _ []byte) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestChangesOfTPM12AreNoticed(t *testing.T) {
	h := newHost(t)
	e := run(t, h, create(t, h, tpm.V12), emulator.Inheritance{})
	g := &guest{e: e}
	steps := []struct {
		name string
		want bool
		do   func() error
	}{
		{"TPM_TakeOwnership", true, func() error { return tpm12.New(g).TakeOwnership(tpm12.WellKnown, tpm12.WellKnown) }},
		{"TPM_NV_DefineSpace", true, func() error {
			return tpm12.New(g).NVDefine(tpm12.WellKnown, tpm12.NVArea{Index: 0x1000, Permissions: tpm12.PermOwnerWrite, Size: 8}, tpm12.WellKnown)
		}},
		{"TPM_NV_WriteValue", true, func() error {
			return tpm12.New(g).NVWriteOwner(0x1000, 0, []byte("12345678"), tpm12.WellKnown)
		}},
		{"TPM_Extend", false, func() error { return tpm12.New(g).Extend(10, digests(tpm.V12, "an event")) }},
		{"TPM_GetRandom", false, func() error { _, err := g.Send(random(tpm.V12)); return err }},
	}
	for _, s := range steps {
		g.changed = false
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if g.changed != s.want {
			t.Errorf("%s: changed is %v, want %v", s.name, g.changed, s.want)
		}
	}
}

// protect makes an object with a password that the TPM defends against guessing, and returns how to use it once.
func protect(t *testing.T, e *emulator.Emulator) func(*emulator.Emulator) {
	t.Helper()
	public := gotpm.New2B(gotpm.TPMSNVPublic{NVIndex: 0x01800001, NameAlg: gotpm.TPMAlgSHA256, DataSize: 8,
		Attributes: gotpm.TPMANV{AuthWrite: true, AuthRead: true, OwnerWrite: true, NT: gotpm.TPMNTOrdinary}})
	owner := gotpm.AuthHandle{Handle: gotpm.TPMRHOwner, Auth: gotpm.PasswordAuth(nil)}
	if _, err := (gotpm.NVDefineSpace{AuthHandle: owner, Auth: gotpm.TPM2BAuth{Buffer: []byte("PIN")}, PublicInfo: public}).Execute(&guest{e: e}); err != nil {
		t.Fatal(err)
	}
	return func(e *emulator.Emulator) {
		t.Helper()
		g := &guest{e: e}
		rsp, err := gotpm.NVReadPublic{NVIndex: gotpm.TPMHandle(0x01800001)}.Execute(g)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			_, err = gotpm.NVWrite{
				AuthHandle: gotpm.AuthHandle{Handle: 0x01800001, Name: rsp.NVName, Auth: gotpm.PasswordAuth([]byte("PIN"))},
				NVIndex:    gotpm.NamedHandle{Handle: 0x01800001, Name: rsp.NVName},
				Data:       gotpm.TPM2BMaxNVBuffer{Buffer: []byte("12345678")},
			}.Execute(g)
			if !errors.Is(err, gotpm.TPMRCRetry) {
				break
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func failed(t *testing.T, e *emulator.Emulator) uint32 {
	t.Helper()
	l, err := tpm2.New(&guest{e: e}).Lockout()
	if err != nil {
		t.Fatal(err)
	}
	return l.Failed
}

// Ten stops and starts with a protected object in use leave no try counted. Without the shutdown, each does.
func TestOrderlyStopsCostNoTries(t *testing.T) {
	h := newHost(t)
	cfg := create(t, h, tpm.V20)
	e := run(t, h, cfg, emulator.Inheritance{})
	use := protect(t, e)
	for range 10 {
		use(e)
		cfg.State = stop(t, e)
		e = run(t, h, cfg, emulator.Inheritance{})
	}
	use(e)
	if err := e.Reset(context.Background(), emulator.Inheritance{}); err != nil {
		t.Fatal(err)
	}
	if n := failed(t, e); n != 0 {
		t.Errorf("%d tries are counted after orderly stops", n)
	}
	for range 2 {
		use(e)
		cfg.State = e.State()
		e.Kill()
		e = run(t, h, cfg, emulator.Inheritance{})
	}
	if n := failed(t, e); n != 2 {
		t.Errorf("%d tries are counted after two power cuts: the test would not have seen a lost shutdown", n)
	}
}

func TestCreateMakesNothingOfAnExistingState(t *testing.T) {
	h := newHost(t)
	if _, err := h.Create(context.Background(), create(t, h, tpm.V20)); err == nil {
		t.Error("a vTPM was created over a state")
	}
}
