package tpm2_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

var launchPCRs = tpm.PCRSet(13, 17, 18)

// launched gives a test a TPM that was launched with image, with a storage key,
// and the PCR values that this launch leads to, computed without the TPM.
func launched(t *testing.T, image string) (*swtpm.TPM, *tpm2.TPM, *tpm2.Key, tpm.Banks) {
	t.Helper()
	c, _ := testbed.NewTPM(t, tpm.V20)
	if err := c.Launch([]byte(image)); err != nil {
		t.Fatal(err)
	}
	chip := tpm2.New(c)
	key, err := chip.MakeStorageKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, chip, key, expected(t, image)
}

func expected(t *testing.T, image string) tpm.Banks {
	t.Helper()
	banks := tpm.Banks{{Alg: tpm.SHA256}, {Alg: tpm.SHA384}}
	for i := range banks {
		banks[i].Reset(launchPCRs, true)
		if err := banks[i].Extend(17, banks[i].Alg.Sum([]byte(image))); err != nil {
			t.Fatal(err)
		}
	}
	return banks
}

func state(t *testing.T, values tpm.Banks) tpm2.State {
	t.Helper()
	s, err := tpm2.StateOf(values, values.Algs(), launchPCRs)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReadPCRsInEveryBank(t *testing.T) {
	_, chip, _, want := launched(t, "image")
	// Four banks of eight PCRs need more than one command.
	got, err := chip.ReadPCRs(tpm.PCRSet(0, 1, 2, 3, 13, 17, 18, 19))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 {
		t.Fatalf("the emulator keeps four banks, read were %v", got.Algs())
	}
	for _, b := range want {
		for p := range launchPCRs.All() {
			if v := got.Value(b.Alg, p); !v.Equal(b.Values[p]) {
				t.Errorf("%s PCR %d is %s; want %s", b.Alg, p, v, b.Values[p])
			}
		}
	}
}

func TestExtendReachesEveryBankGiven(t *testing.T) {
	_, chip, _, _ := launched(t, "image")
	algs, err := chip.PCRBanks()
	if err != nil {
		t.Fatal(err)
	}
	if err := chip.Extend(13, tpm.SumAll(algs, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	got, err := chip.ReadPCRs(tpm.PCRSet(13))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range algs {
		want := a.Sum(make([]byte, a.Size()), a.Sum([]byte("x")))
		if v := got.Value(a, 13); !v.Equal(want) {
			t.Errorf("%s PCR 13 is %s; want %s", a, v, want)
		}
	}
}

// The TPM itself knows its banks: an event reaches all of them, without their being named.
func TestEventReachesEveryBank(t *testing.T) {
	_, chip, _, _ := launched(t, "image")
	if err := chip.Event(13, []byte("x")); err != nil {
		t.Fatal(err)
	}
	got, err := chip.ReadPCRs(tpm.PCRSet(13))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 {
		t.Fatalf("the emulator keeps four banks, read were %v", got.Algs())
	}
	for _, a := range got.Algs() {
		if want, v := a.Sum(make([]byte, a.Size()), a.Sum([]byte("x"))), got.Value(a, 13); !v.Equal(want) {
			t.Errorf("%s PCR 13 is %s; want %s", a, v, want)
		}
	}
	if err := chip.Event(17, []byte("x")); !errors.Is(err, gotpm.TPMRCLocality) {
		t.Errorf("at locality 0: %v", err)
	}
}

// Premise of the threat model: what runs after the launch can't imitate one.
func TestLocalityZeroCannotTouchTheLaunchPCRs(t *testing.T) {
	_, chip, _, _ := launched(t, "image")
	for _, p := range []tpm.PCR{17, 18, 19, 20, 21, 22} {
		if err := chip.Extend(p, tpm.SumAll([]tpm.Alg{tpm.SHA256}, nil)); !errors.Is(err, gotpm.TPMRCLocality) {
			t.Errorf("extending PCR %d at locality 0: %v", p, err)
		}
	}
}

// Premise: extending one bank leaves the others as they were, so a policy in one
// bank alone says nothing of the others.
func TestBanksAreExtendedEachForItself(t *testing.T) {
	_, chip, _, _ := launched(t, "image")
	if err := chip.Extend(13, tpm.SumAll([]tpm.Alg{tpm.SHA1}, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	got, err := chip.ReadPCRs(tpm.PCRSet(13))
	if err != nil {
		t.Fatal(err)
	}
	if !got.Value(tpm.SHA256, 13).All(0) || got.Value(tpm.SHA1, 13).All(0) {
		t.Errorf("sha1 %s, sha256 %s", got.Value(tpm.SHA1, 13), got.Value(tpm.SHA256, 13))
	}
}

func TestStorageKeyIsFoundAgainAndItsNameChecked(t *testing.T) {
	_, chip, key, _ := launched(t, "image")
	found, err := chip.FindStorageKey()
	if err != nil || !bytes.Equal(found.Name, key.Name) {
		t.Fatalf("found %v, %v", found, err)
	}
	other := bytes.Clone(key.Name)
	other[len(other)-1] ^= 1
	if _, err := chip.OpenKey(key.Handle, other); !errors.Is(err, tpm2.ErrOtherKey) {
		t.Errorf("with another Name: %v", err)
	}
	if _, err := chip.OpenKey(key.Handle+5, nil); !errors.Is(err, tpm2.ErrNoKey) {
		t.Errorf("at an empty handle: %v", err)
	}
	second, err := chip.MakeStorageKey(nil)
	if err != nil || second.Handle != key.Handle+1 {
		t.Errorf("a second key went to %v, %v", second, err)
	}
	if err := chip.RemoveKey(key, nil); err != nil {
		t.Fatal(err)
	}
	if found, err = chip.FindStorageKey(); err != nil || found.Handle != second.Handle {
		t.Errorf("after the first was removed: %v, %v", found, err)
	}
}

func TestAPinnedKeyServesWithoutBeingRead(t *testing.T) {
	c, chip, key, values := launched(t, "image")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}}
	object, err := chip.Seal(key, policy, nil, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := tpm2.PinnedKey(key.Handle, key.Public())
	if err != nil || !bytes.Equal(pinned.Name, key.Name) {
		t.Fatalf("pinned as %v, %v", pinned, err)
	}
	if _, err := chip.Unseal(pinned, object, policy, 0, nil); err != nil {
		t.Errorf("with the pinned key: %v", err)
	}
	// Another TPM's key in its place: the session can't be salted for it.
	_, _, foreign, _ := launched(t, "image")
	wrong, err := tpm2.PinnedKey(key.Handle, foreign.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tpm2.New(c).Unseal(wrong, object, policy, 0, nil); err == nil {
		t.Error("a session salted with another key was accepted")
	}
	for n := range len(key.Public()) {
		if _, err := tpm2.PinnedKey(key.Handle, key.Public()[:n]); err == nil {
			t.Errorf("a public area cut to %d bytes was taken", n)
		}
	}
}

func TestSealedToComputedValuesOpensInThatLaunchOnly(t *testing.T) {
	c, chip, key, values := launched(t, "image")
	secret := []byte("thirty-two bytes of a sealing key")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}}
	object, err := chip.Seal(key, policy, nil, secret)
	if err != nil {
		t.Fatal(err)
	}
	got, err := chip.Unseal(key, object, policy, 0, nil)
	if err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("in the sealed state: %q, %v", got, err)
	}
	// PCR 17 as sealed, PCR 18 not: one of the two is enough to refuse.
	if err := c.SetLocality(2); err != nil {
		t.Fatal(err)
	}
	if err := chip.Extend(18, tpm.SumAll([]tpm.Alg{tpm.SHA256, tpm.SHA384}, []byte("evil"))); err != nil {
		t.Fatal(err)
	}
	if err := c.SetLocality(0); err != nil {
		t.Fatal(err)
	}
	if _, err := chip.Unseal(key, object, policy, 0, nil); !errors.Is(err, tpm2.ErrPolicy) {
		t.Errorf("after PCR 18 changed: %v", err)
	}
}

func TestOneBankThatDiffersRefuses(t *testing.T) {
	_, chip, key, values := launched(t, "image")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}}
	object, err := chip.Seal(key, policy, nil, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if err := chip.Extend(13, tpm.SumAll([]tpm.Alg{tpm.SHA384}, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	if _, err := chip.Unseal(key, object, policy, 0, nil); !errors.Is(err, tpm2.ErrPolicy) {
		t.Errorf("with the SHA-256 bank right and the SHA-384 bank wrong: %v", err)
	}
}

func TestAnyApprovedStateOpens(t *testing.T) {
	_, chip, key, values := launched(t, "second")
	for n := 1; n <= tpm2.MaxStates; n++ {
		policy := &tpm2.Policy{}
		for i := range n {
			other := values
			if i != n-1 {
				other = expected(t, string(rune('a'+i)))
			}
			policy.States = append(policy.States, state(t, other))
		}
		object, err := chip.Seal(key, policy, nil, []byte("secret"))
		if err != nil {
			t.Fatalf("%d states: %v", n, err)
		}
		if _, err := chip.Unseal(key, object, policy, n-1, nil); err != nil {
			t.Errorf("%d states, in the last: %v", n, err)
		}
		if n > 1 {
			if _, err := chip.Unseal(key, object, policy, 0, nil); !errors.Is(err, tpm2.ErrPolicy) {
				t.Errorf("%d states, claiming the first: %v", n, err)
			}
		}
	}
	nine := &tpm2.Policy{States: make([]tpm2.State, tpm2.MaxStates+1)}
	if _, err := chip.Seal(key, nine, nil, []byte("secret")); err == nil {
		t.Error("nine states were sealed to")
	}
}

func TestTheCounterKillsOldRecords(t *testing.T) {
	_, chip, key, values := launched(t, "image")
	counter, err := chip.MakeCounter(nil)
	if err != nil {
		t.Fatal(err)
	}
	value, err := chip.ReadCounter(counter)
	if err != nil {
		t.Fatal(err)
	}
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}, Counter: counter, Value: value}
	object, err := chip.Seal(key, policy, nil, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	next := &tpm2.Policy{States: policy.States, Counter: counter, Value: value + 1}
	successor, err := chip.Seal(key, next, nil, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	opens := func(o *tpm2.Object, p *tpm2.Policy) error {
		_, err := chip.Unseal(key, o, p, 0, nil)
		return err
	}
	if err := opens(object, policy); err != nil {
		t.Errorf("before the increment the old one: %v", err)
	}
	if err := opens(successor, next); !errors.Is(err, tpm2.ErrStale) {
		t.Errorf("before the increment the new one: %v", err)
	}
	if err := chip.Increment(counter.Index, nil); err != nil {
		t.Fatal(err)
	}
	if err := opens(object, policy); !errors.Is(err, tpm2.ErrStale) {
		t.Errorf("after the increment the old one: %v", err)
	}
	if err := opens(successor, next); err != nil {
		t.Errorf("after the increment the new one: %v", err)
	}
	// An attacker with the owner's (empty) password deletes and redefines.
	if err := chip.RemoveCounter(counter, nil); err != nil {
		t.Fatal(err)
	}
	if err := opens(successor, next); !errors.Is(err, tpm2.ErrNoCounter) {
		t.Errorf("without the counter: %v", err)
	}
	again, err := chip.MakeCounter(nil)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := chip.ReadCounter(again); err != nil || again.Index != counter.Index || v <= value+1 {
		t.Errorf("a counter defined again at %#x starts at %d, %v; the old one stood at %d", again.Index, v, err, value+1)
	}
}

// An ordinary index could be written to any value; it must not pass for a counter.
func TestAnOrdinaryIndexIsNoCounter(t *testing.T) {
	c, chip, _, _ := launched(t, "image")
	const index = gotpm.TPMHandle(0x0180ae00)
	_, err := gotpm.NVDefineSpace{
		AuthHandle: gotpm.TPMRHOwner,
		PublicInfo: gotpm.New2B(gotpm.TPMSNVPublic{NVIndex: index, NameAlg: gotpm.TPMAlgSHA256, DataSize: 8,
			Attributes: gotpm.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NoDA: true, NT: gotpm.TPMNTOrdinary}}),
	}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	public, err := gotpm.NVReadPublic{NVIndex: index}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = gotpm.NVWrite{
		AuthHandle: gotpm.AuthHandle{Handle: gotpm.TPMRHOwner, Auth: gotpm.PasswordAuth(nil)},
		NVIndex:    gotpm.NamedHandle{Handle: index, Name: public.NVName},
		Data:       gotpm.TPM2BMaxNVBuffer{Buffer: make([]byte, 8)},
	}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chip.FindCounter(uint32(index)); !errors.Is(err, tpm2.ErrNoCounter) {
		t.Errorf("FindCounter: %v", err)
	}
}

func TestPIN(t *testing.T) {
	_, chip, key, values := launched(t, "image")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}, PIN: true}
	object, err := chip.Seal(key, policy, []byte("1234"), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chip.Unseal(key, object, policy, 0, []byte("1234")); err != nil {
		t.Fatalf("with the right PIN: %v", err)
	}
	before, err := chip.Lockout()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chip.Unseal(key, object, policy, 0, []byte("4321")); !errors.Is(err, tpm2.ErrAuth) {
		t.Fatalf("with a wrong PIN: %v", err)
	}
	after, err := chip.Lockout()
	if err != nil {
		t.Fatal(err)
	}
	if after.Left() != before.Left()-1 || after.Recovery == 0 {
		t.Errorf("tries left went from %d to %d, one is forgiven after %s", before.Left(), after.Left(), after.Recovery)
	}
	for range after.Left() {
		chip.Unseal(key, object, policy, 0, []byte("4321"))
	}
	if _, err := chip.Unseal(key, object, policy, 0, []byte("1234")); !errors.Is(err, tpm2.ErrLockout) {
		t.Errorf("after too many wrong PINs: %v", err)
	}
}

func TestAWrongPINCostsNothingWithoutOne(t *testing.T) {
	_, chip, key, _ := launched(t, "other")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, expected(t, "image"))}}
	object, err := chip.Seal(key, policy, nil, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	before, err := chip.Lockout()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chip.Unseal(key, object, policy, 0, nil); !errors.Is(err, tpm2.ErrPolicy) {
		t.Fatalf("in another launch: %v", err)
	}
	if after, err := chip.Lockout(); err != nil || after.Left() != before.Left() {
		t.Errorf("a refused boot cost a try: %d, then %d, %v", before.Left(), after.Left(), err)
	}
}

func TestBoundToTheTPMAlone(t *testing.T) {
	_, chip, key, _ := launched(t, "image")
	policy := &tpm2.Policy{}
	object, err := chip.Seal(key, policy, nil, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := chip.Unseal(key, object, policy, 0, nil); err != nil || string(got) != "secret" {
		t.Errorf("on its own TPM: %q, %v", got, err)
	}
	_, other, otherKey, _ := launched(t, "image")
	if _, err := other.Unseal(otherKey, object, policy, 0, nil); !errors.Is(err, tpm2.ErrIntegrity) {
		t.Errorf("on another TPM: %v", err)
	}
}

func TestRehearse(t *testing.T) {
	_, chip, key, values := launched(t, "image")
	counter, err := chip.MakeCounter(nil)
	if err != nil {
		t.Fatal(err)
	}
	value, err := chip.ReadCounter(counter)
	if err != nil {
		t.Fatal(err)
	}
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values), state(t, expected(t, "next"))}, Counter: counter, Value: value + 1}
	object, err := chip.Seal(key, policy, nil, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if err := chip.Rehearse(key, object, policy, 0); err != nil {
		t.Errorf("in the present state: %v", err)
	}
	if err := chip.Rehearse(key, object, policy, 1); !errors.Is(err, tpm2.ErrPolicy) {
		t.Errorf("in the state of the next boot: %v", err)
	}
	if err := chip.Rehearse(key, object, policy, -1); err != nil {
		t.Errorf("without a state: %v", err)
	}
	policy.Value++
	if err := chip.Rehearse(key, object, policy, 0); !errors.Is(err, tpm2.ErrIntegrity) {
		t.Errorf("with another policy than the object's: %v", err)
	}
}

// tap records what crosses the bus, and may change it.
type tap struct {
	tpm.Channel
	traffic [][]byte
	change  func(cmd, rsp []byte) []byte
}

func (t *tap) Send(cmd []byte) ([]byte, error) {
	rsp, err := t.Channel.Send(cmd)
	if err == nil && t.change != nil {
		rsp = t.change(cmd, rsp)
	}
	t.traffic = append(t.traffic, bytes.Clone(cmd), bytes.Clone(rsp))
	return rsp, err
}

func TestTheSecretIsNotReadableOnTheBus(t *testing.T) {
	c, _, key, values := launched(t, "image")
	bus := &tap{Channel: c}
	chip := tpm2.New(bus)
	secret, pin := []byte("a secret that no one on the bus may read"), []byte("a PIN likewise")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}, PIN: true}
	object, err := chip.Seal(key, policy, pin, secret)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := chip.Unseal(key, object, policy, 0, pin); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("%q, %v", got, err)
	}
	for i, packet := range bus.traffic {
		if bytes.Contains(packet, secret) || bytes.Contains(packet, pin) {
			t.Errorf("packet %d carries the secret or the PIN in clear", i)
		}
	}
}

func commandCode(cmd []byte) uint32 { return binary.BigEndian.Uint32(cmd[6:]) }

func TestAnInterposerCannotAnswerInTheTPMsPlace(t *testing.T) {
	c, plain, key, values := launched(t, "image")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}}
	object, err := plain.Seal(key, policy, nil, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	const unseal = 0x15e
	forgeries := map[string]func(rsp []byte) []byte{
		"a bit of the secret flipped": func(rsp []byte) []byte { rsp[16] ^= 1; return rsp },
		"a bit of the HMAC flipped":   func(rsp []byte) []byte { rsp[len(rsp)-1] ^= 1; return rsp },
		"an answer without a session": func([]byte) []byte {
			body := append([]byte{0, 6}, "forged"...)
			rsp := append([]byte{0x80, 0x01, 0, 0, 0, byte(10 + len(body)), 0, 0, 0, 0}, body...)
			return rsp
		},
		"an answer with an empty session": func([]byte) []byte {
			body := append([]byte{0, 0, 0, 8, 0, 6}, "forged"...)
			body = append(body, 0, 0, 1, 0, 0)
			return append([]byte{0x80, 0x02, 0, 0, 0, byte(10 + len(body)), 0, 0, 0, 0}, body...)
		},
	}
	for name, forge := range forgeries {
		bus := &tap{Channel: c, change: func(cmd, rsp []byte) []byte {
			if commandCode(cmd) == unseal {
				return forge(rsp)
			}
			return rsp
		}}
		if got, err := tpm2.New(bus).Unseal(key, object, policy, 0, nil); err == nil {
			t.Errorf("%s was accepted as %q", name, got)
		}
	}
}

// The bus is hostile: whatever is answered, the program gets an error or a value
// and goes on.
func FuzzResponse(f *testing.F) {
	f.Add([]byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0})
	f.Add([]byte{0x80, 0x02, 0, 0, 0, 14, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x80, 0x01, 0, 0, 0, 15, 0, 0, 0, 0, 1, 0, 0, 0, 5})
	f.Add([]byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x8e})
	f.Add([]byte{0x00, 0xc4, 0, 0, 0, 10, 0, 0, 0, 0x1e})
	object := &tpm2.Object{Public: []byte{0, 8}, Private: []byte{0}}
	counter := &tpm2.Counter{Index: 0x0180ae00, Name: make([]byte, 34)}
	policy := &tpm2.Policy{States: make([]tpm2.State, 2), Counter: counter, PIN: true}
	f.Fuzz(func(t *testing.T, rsp []byte) {
		fixed := bytes.Clone(rsp)
		if len(fixed) >= 6 {
			binary.BigEndian.PutUint32(fixed[2:], uint32(len(fixed)))
		}
		chip := tpm2.New(constant(fixed))
		chip.ReadPCRs(launchPCRs)
		chip.FindStorageKey()
		chip.EndorsementName()
		chip.FindCounter(1)
		chip.ReadCounter(counter)
		chip.Increment(1, nil)
		chip.Lockout()
		chip.Manufacturer()
		chip.Unseal(&tpm2.Key{}, object, policy, 0, nil)
		chip.Unseal(&tpm2.Key{}, object, &tpm2.Policy{}, 0, nil)
		chip.Rehearse(&tpm2.Key{}, object, policy, 0)
	})
}

type constant []byte

func (c constant) Send([]byte) ([]byte, error) { return bytes.Clone(c), nil }

// The offline computation of a policy and the TPM's own agree. (That of
// a policy with several states or a counter is shown by its objects opening.)
func TestPolicyDigestEqualsATrialSessions(t *testing.T) {
	c, _, _, values := launched(t, "image")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}, PIN: true}
	want, err := policy.Digest()
	if err != nil {
		t.Fatal(err)
	}
	session, done, err := gotpm.PolicySession(c, gotpm.TPMAlgSHA256, 16, gotpm.Trial())
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	bitmap := []byte{0, 1 << 5, 1<<1 | 1<<2}
	_, err = gotpm.PolicyPCR{PolicySession: session.Handle(), Pcrs: gotpm.TPMLPCRSelection{PCRSelections: []gotpm.TPMSPCRSelection{
		{Hash: gotpm.TPMAlgSHA256, PCRSelect: bitmap}, {Hash: gotpm.TPMAlgSHA384, PCRSelect: bitmap}}}}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (gotpm.PolicyAuthValue{PolicySession: session.Handle()}).Execute(c); err != nil {
		t.Fatal(err)
	}
	got, err := gotpm.PolicyGetDigest{PolicySession: session.Handle()}.Execute(c)
	if err != nil || !bytes.Equal(got.PolicyDigest.Buffer, want) {
		t.Errorf("the TPM's policy is %x, %v; computed was %x", got.PolicyDigest.Buffer, err, want)
	}
}

func TestStateOfNeedsEveryValue(t *testing.T) {
	values := expected(t, "image")
	values[1].Values[18] = nil
	if _, err := tpm2.StateOf(values, values.Algs(), launchPCRs); err == nil {
		t.Error("a state was made with a PCR that is not known")
	}
	if _, err := tpm2.StateOf(values, nil, launchPCRs); err == nil {
		t.Error("a state was made of no bank")
	}
	s := state(t, expected(t, "image"))
	h := sha256.New()
	for _, b := range expected(t, "image") {
		for p := range launchPCRs.All() {
			h.Write(b.Values[p])
		}
	}
	if !bytes.Equal(s.Digest[:], h.Sum(nil)) {
		t.Error("the state's digest is not SHA-256 over the values")
	}
}
