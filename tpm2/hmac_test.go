package tpm2_test

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

var (
	hmacSecret = []byte("12345678901234567890")
	hmacAlgs   = []tpm.Alg{tpm.SHA1, tpm.SHA256}
)

// counter is a message as one-time codes have it.
func counter(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func hmacOf(alg tpm.Alg, key, message []byte) []byte {
	h := hmac.New(alg.New, key)
	h.Write(message)
	return h.Sum(nil)
}

func makeHMACKey(t *testing.T, chip *tpm2.TPM, key *tpm2.Key, policy *tpm2.Policy, pin []byte, alg tpm.Alg) *tpm2.Object {
	t.Helper()
	object, err := chip.MakeHMACKey(key, policy, pin, alg, hmacSecret)
	if err != nil {
		t.Fatal(err)
	}
	return object
}

// full is a policy that demands all that a policy can, with the PIN "1234".
func full(t *testing.T, chip *tpm2.TPM, values tpm.Banks) *tpm2.Policy {
	t.Helper()
	c, err := chip.MakeCounter(nil)
	if err != nil {
		t.Fatal(err)
	}
	value, err := chip.ReadCounter(c)
	if err != nil {
		t.Fatal(err)
	}
	return &tpm2.Policy{States: []tpm2.State{state(t, expected(t, "other")), state(t, values)}, Counter: c, Value: value, PIN: true}
}

func TestTheTPMsHMACIsTheHMAC(t *testing.T) {
	_, chip, key, values := launched(t, "image")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}}
	for _, alg := range hmacAlgs {
		for _, secret := range [][]byte{bytes.Repeat([]byte{7}, tpm2.MinHMACKey), hmacSecret, bytes.Repeat([]byte{9}, tpm2.MaxHMACKey)} {
			object, err := chip.MakeHMACKey(key, policy, nil, alg, secret)
			if err != nil {
				t.Fatalf("%s, a key of %d bytes: %v", alg, len(secret), err)
			}
			for _, message := range [][]byte{nil, counter(1), make([]byte, tpm2.MaxMessage)} {
				got, err := chip.HMAC(key, object, policy, 0, nil, message)
				if err != nil {
					t.Fatalf("%s, a message of %d bytes: %v", alg, len(message), err)
				}
				if want := hmacOf(alg, secret, message); !bytes.Equal(got, want) {
					t.Errorf("%s, a key of %d bytes, a message of %d: %x; want %x", alg, len(secret), len(message), got, want)
				}
			}
		}
	}
}

func TestAnHMACKeyUnderAFullPolicy(t *testing.T) {
	_, chip, key, values := launched(t, "image")
	policy := full(t, chip, values)
	object := makeHMACKey(t, chip, key, policy, []byte("1234"), tpm.SHA1)
	if err := chip.Rehearse(key, object, policy, 1); err != nil {
		t.Errorf("its rehearsal: %v", err)
	}
	got, err := chip.HMAC(key, object, policy, 1, []byte("1234"), counter(1))
	if err != nil || !bytes.Equal(got, hmacOf(tpm.SHA1, hmacSecret, counter(1))) {
		t.Fatalf("in the approved state: %x, %v", got, err)
	}
	refused := func(when string, want error, state int, pin string) {
		t.Helper()
		if got, err := chip.HMAC(key, object, policy, state, []byte(pin), counter(1)); !errors.Is(err, want) || got != nil {
			t.Errorf("%s: %x, %v; want %v", when, got, err, want)
		}
	}
	// Often, because a TPM has few sessions and one that is left behind with every refusal is soon the last.
	for range 10 {
		refused("claiming another state", tpm2.ErrPolicy, 0, "1234")
	}
	before, err := chip.Lockout()
	if err != nil {
		t.Fatal(err)
	}
	refused("with a wrong PIN", tpm2.ErrAuth, 1, "4321")
	if after, err := chip.Lockout(); err != nil || after.Left() != before.Left()-1 {
		t.Errorf("a wrong PIN took the tries from %d to %d, %v", before.Left(), after.Left(), err)
	}
	if err := chip.Increment(policy.Counter.Index, nil); err != nil {
		t.Fatal(err)
	}
	refused("after the counter moved", tpm2.ErrStale, 1, "1234")
	if err := chip.RemoveCounter(policy.Counter, nil); err != nil {
		t.Fatal(err)
	}
	refused("without the counter", tpm2.ErrNoCounter, 1, "1234")
}

func TestAnHMACKeyIsRefusedInOtherLaunchesAndOnOtherTPMs(t *testing.T) {
	c, chip, key, values := launched(t, "image")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}}
	object := makeHMACKey(t, chip, key, policy, nil, tpm.SHA1)
	before, err := chip.Lockout()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Launch([]byte("evil")); err != nil {
		t.Fatal(err)
	}
	if got, err := chip.HMAC(key, object, policy, 0, nil, counter(1)); !errors.Is(err, tpm2.ErrPolicy) {
		t.Errorf("in another launch: %x, %v", got, err)
	}
	if after, err := chip.Lockout(); err != nil || after.Left() != before.Left() {
		t.Errorf("a refused boot cost a try: %d, then %d, %v", before.Left(), after.Left(), err)
	}
	_, other, otherKey, _ := launched(t, "image")
	if got, err := other.HMAC(otherKey, object, policy, 0, nil, counter(1)); !errors.Is(err, tpm2.ErrIntegrity) {
		t.Errorf("on another TPM: %x, %v", got, err)
	}
}

// An object is brought to its TPM in a session with the TPM's own commands: what
// is refused here is refused by the chip, and not by this package's good manners.
func TestAnHMACKeyGivesItsSecretToNobody(t *testing.T) {
	c, chip, key, values := launched(t, "image")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}}
	object := makeHMACKey(t, chip, key, policy, nil, tpm.SHA256)
	public := gotpm.BytesAs2B[gotpm.TPMTPublic](object.Public)
	area, err := public.Contents()
	if err != nil {
		t.Fatal(err)
	}
	want := gotpm.TPMAObject{FixedTPM: true, FixedParent: true, AdminWithPolicy: true, NoDA: true, SignEncrypt: true}
	if area.ObjectAttributes != want {
		t.Errorf("the key's attributes are %+v; want %+v", area.ObjectAttributes, want)
	}
	if digest, err := policy.Digest(); err != nil || !bytes.Equal(area.AuthPolicy.Buffer, digest) {
		t.Errorf("the key's policy is %x; want %x, %v", area.AuthPolicy.Buffer, digest, err)
	}
	if got, err := chip.Unseal(key, object, policy, 0, nil); !errors.Is(err, gotpm.TPMRCAttributes) {
		t.Errorf("TPM2_Unseal: %q, %v", got, err)
	}
	parent := gotpm.AuthHandle{Handle: gotpm.TPMHandle(key.Handle), Name: gotpm.TPM2BName{Buffer: key.Name}, Auth: gotpm.PasswordAuth(nil)}
	loaded, err := gotpm.Load{ParentHandle: parent, InPrivate: gotpm.TPM2BPrivate{Buffer: object.Private}, InPublic: public}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	defer gotpm.FlushContext{FlushHandle: loaded.ObjectHandle}.Execute(c)
	item := gotpm.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: gotpm.PasswordAuth(nil)}
	_, err = gotpm.Hmac{Handle: item, Buffer: gotpm.TPM2BMaxBuffer{Buffer: counter(1)}, HashAlg: gotpm.TPMAlgSHA256}.Execute(c)
	if !errors.Is(err, gotpm.TPMRCAuthUnavailable) {
		t.Errorf("TPM2_HMAC with a password in place of the policy: %v", err)
	}
	item.Auth = gotpm.Policy(gotpm.TPMAlgSHA256, 16, func(_ transport.TPM, session gotpm.TPMISHPolicy, _ gotpm.TPM2BNonce) error {
		bitmap := []byte{0, 1 << 5, 1<<1 | 1<<2}
		_, err := gotpm.PolicyPCR{PolicySession: session, Pcrs: gotpm.TPMLPCRSelection{PCRSelections: []gotpm.TPMSPCRSelection{
			{Hash: gotpm.TPMAlgSHA256, PCRSelect: bitmap}, {Hash: gotpm.TPMAlgSHA384, PCRSelect: bitmap}}}}.Execute(c)
		return err
	})
	_, err = gotpm.ObjectChangeAuth{ObjectHandle: item, ParentHandle: parent, NewAuth: gotpm.TPM2BAuth{Buffer: []byte("x")}}.Execute(c)
	if !errors.Is(err, gotpm.TPMRCPolicyFail) {
		t.Errorf("TPM2_ObjectChangeAuth with the policy fulfilled: %v", err)
	}
}

// A stranger's tries at a value that can't be guessed must not lock the PINs of persons.
func TestWrongTriesAtARandomValueDoNotLock(t *testing.T) {
	_, chip, key, _ := launched(t, "image")
	policy := &tpm2.Policy{PIN: true}
	auth := bytes.Repeat([]byte{7}, tpm2.LongPIN)
	object := makeHMACKey(t, chip, key, policy, auth, tpm.SHA1)
	lockout := func() tpm2.Lockout {
		t.Helper()
		l, err := chip.Lockout()
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	before := lockout()
	for range before.Allowed + 3 {
		if got, err := chip.HMAC(key, object, policy, 0, []byte("wrong"), counter(1)); !errors.Is(err, tpm2.ErrAuth) {
			t.Fatalf("a wrong value: %x, %v", got, err)
		}
	}
	if after := lockout(); after != before {
		t.Errorf("after wrong values the defence is %+v; it was %+v", after, before)
	}
	if got, err := chip.HMAC(key, object, policy, 0, auth, counter(1)); err != nil || !bytes.Equal(got, hmacOf(tpm.SHA1, hmacSecret, counter(1))) {
		t.Errorf("the right value: %x, %v", got, err)
	}
	// What is short enough to be a person's is counted.
	short := makeHMACKey(t, chip, key, policy, auth[1:], tpm.SHA1)
	if got, err := chip.HMAC(key, short, policy, 0, []byte("wrong"), counter(1)); !errors.Is(err, tpm2.ErrAuth) {
		t.Fatalf("a wrong PIN: %x, %v", got, err)
	}
	if after := lockout(); after.Failed != before.Failed+1 {
		t.Errorf("after a wrong PIN the defence is %+v; it was %+v", after, before)
	}
}

func TestSealedAndHMACObjectsDoNotPassForEachOther(t *testing.T) {
	_, chip, key, values := launched(t, "image")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}}
	sealed, err := chip.Seal(key, policy, nil, hmacSecret)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := chip.HMAC(key, sealed, policy, 0, nil, counter(1)); !errors.Is(err, tpm2.ErrIntegrity) {
		t.Errorf("with a sealed object: %x, %v", got, err)
	}
	object := makeHMACKey(t, chip, key, policy, nil, tpm.SHA1)
	for n := range len(object.Public) {
		cut := &tpm2.Object{Public: object.Public[:n], Private: object.Private}
		if got, err := chip.HMAC(key, cut, policy, 0, nil, counter(1)); !errors.Is(err, tpm2.ErrIntegrity) {
			t.Errorf("with its public area cut to %d bytes: %x, %v", n, got, err)
		}
	}
	// Who writes to the medium would like a key for SHA-256 computed with SHA-1, and the like.
	for i := range object.Public {
		object.Public[i] ^= 1
		if got, err := chip.HMAC(key, object, policy, 0, nil, counter(1)); !errors.Is(err, tpm2.ErrIntegrity) {
			t.Errorf("with a bit of byte %d of its public area flipped: %x, %v", i, got, err)
		}
		object.Public[i] ^= 1
	}
}

func TestMakeHMACKeyRefuses(t *testing.T) {
	_, chip, key, values := launched(t, "image")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}}
	for name, attempt := range map[string]struct {
		policy *tpm2.Policy
		alg    tpm.Alg
		length int
	}{
		"a key that can be guessed":       {policy, tpm.SHA1, tpm2.MinHMACKey - 1},
		"a key longer than the block":     {policy, tpm.SHA1, tpm2.MaxHMACKey + 1},
		"a hash that no phone knows":      {policy, tpm.SHA384, 48},
		"a policy that demands nothing":   {&tpm2.Policy{}, tpm.SHA1, 20},
		"more states than a policy holds": {&tpm2.Policy{States: make([]tpm2.State, tpm2.MaxStates+1)}, tpm.SHA1, 20},
	} {
		if _, err := chip.MakeHMACKey(key, attempt.policy, nil, attempt.alg, make([]byte, attempt.length)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	object := makeHMACKey(t, chip, key, policy, nil, tpm.SHA1)
	if _, err := chip.HMAC(key, object, policy, 0, nil, make([]byte, tpm2.MaxMessage+1)); err == nil {
		t.Error("a message that is too long was taken")
	}
	if _, err := chip.HMAC(key, object, &tpm2.Policy{}, 0, nil, counter(1)); err == nil {
		t.Error("no policy was taken for the key's")
	}
}

func TestAnHMACTakesAsManyCommandsAsAnOpening(t *testing.T) {
	c, plain, key, values := launched(t, "image")
	all := full(t, plain, values)
	for want, policy := range map[int]*tpm2.Policy{
		5: {States: all.States[1:]},
		6: {States: all.States},
		7: {States: all.States, Counter: all.Counter, Value: all.Value},
		8: all,
	} {
		pin := []byte("1234")
		at := len(policy.States) - 1
		count := &tpm.Counter{Channel: c}
		chip := tpm2.New(count)
		object := makeHMACKey(t, chip, key, policy, pin, tpm.SHA1)
		if count.Commands != 2 {
			t.Errorf("the key was made in %d commands", count.Commands)
		}
		count.Commands = 0
		if _, err := chip.HMAC(key, object, policy, at, pin, counter(1)); err != nil {
			t.Fatal(err)
		}
		used := count.Commands
		sealed, err := chip.Seal(key, policy, pin, hmacSecret)
		if err != nil {
			t.Fatal(err)
		}
		count.Commands = 0
		if _, err := chip.Unseal(key, sealed, policy, at, pin); err != nil {
			t.Fatal(err)
		}
		if used != want || count.Commands != want {
			t.Errorf("the HMAC took %d commands and the opening %d; want %d", used, count.Commands, want)
		}
	}
}

// lacking answers some commands as a TPM does that does not have them.
type lacking struct {
	tpm.Channel
	commands []uint32
}

func (l lacking) Send(cmd []byte) ([]byte, error) {
	if slices.Contains(l.commands, commandCode(cmd)) {
		return refusal(0x143), nil // TPM_RC_COMMAND_CODE
	}
	return l.Channel.Send(cmd)
}

func refusal(rc uint16) []byte { return []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, byte(rc >> 8), byte(rc)} }

// refusing answers every TPM2_Create with a return code.
type refusing struct {
	tpm.Channel
	rc uint16
}

func (r refusing) Send(cmd []byte) ([]byte, error) {
	if commandCode(cmd) == 0x153 {
		return refusal(r.rc), nil
	}
	return r.Channel.Send(cmd)
}

func TestATPMWithoutTheHash(t *testing.T) {
	c, _, key, values := launched(t, "image")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}}
	// TPM_RC_HASH, TPM_RC_SCHEME and TPM_RC_MEMORY; the first two of the second parameter.
	for rc, isHash := range map[uint16]bool{0x2c3: true, 0x2d2: true, 0x904: false} {
		_, err := tpm2.New(refusing{c, rc}).MakeHMACKey(key, policy, nil, tpm.SHA1, hmacSecret)
		if err == nil || errors.Is(err, tpm2.ErrNoHMAC) != isHash {
			t.Errorf("when TPM2_Create answers %#x: %v", rc, err)
		}
	}
}

const ccHMAC, ccHMACStart, ccSequenceComplete = 0x155, 0x15b, 0x13e

func TestATPMWithoutTheHMACCommand(t *testing.T) {
	c, plain, key, values := launched(t, "image")
	policy := full(t, plain, values)
	chip := tpm2.New(lacking{c, []uint32{ccHMAC}})
	for _, alg := range hmacAlgs {
		object := makeHMACKey(t, chip, key, policy, []byte("1234"), alg)
		got, err := chip.HMAC(key, object, policy, 1, []byte("1234"), counter(1))
		if err != nil || !bytes.Equal(got, hmacOf(alg, hmacSecret, counter(1))) {
			t.Errorf("%s, by a sequence: %x, %v", alg, got, err)
		}
	}
	object := makeHMACKey(t, chip, key, policy, []byte("1234"), tpm.SHA1)
	if got, err := chip.HMAC(key, object, policy, 0, []byte("1234"), counter(1)); !errors.Is(err, tpm2.ErrPolicy) {
		t.Errorf("by a sequence, claiming another state: %x, %v", got, err)
	}
	if got, err := chip.HMAC(key, object, policy, 1, []byte("4321"), counter(1)); !errors.Is(err, tpm2.ErrAuth) {
		t.Errorf("by a sequence, with a wrong PIN: %x, %v", got, err)
	}
	none := tpm2.New(lacking{c, []uint32{ccHMAC, ccHMACStart}})
	if got, err := none.HMAC(key, object, policy, 1, []byte("1234"), counter(1)); !errors.Is(err, tpm2.ErrNoHMAC) {
		t.Errorf("without either command: %x, %v", got, err)
	}
	// A TPM has few slots; one that is lost with every refusal is soon the last.
	failing := tpm2.New(lacking{c, []uint32{ccHMAC, ccSequenceComplete}})
	for range 10 {
		if got, err := failing.HMAC(key, object, policy, 1, []byte("1234"), counter(1)); err == nil {
			t.Errorf("with a sequence that can't be completed: %x", got)
		}
		if got, err := none.HMAC(key, object, policy, 1, []byte("1234"), counter(1)); err == nil {
			t.Errorf("without either command: %x", got)
		}
	}
	if _, err := plain.HMAC(key, object, policy, 1, []byte("1234"), counter(1)); err != nil {
		t.Errorf("after many refusals: %v", err)
	}
}

func TestAnInterposerLearnsAndChangesNothingOfAnHMAC(t *testing.T) {
	c, _, key, values := launched(t, "image")
	pin := []byte("a PIN of some length")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}, PIN: true}
	message := []byte("a message that is easy to find")
	for _, without := range [][]uint32{nil, {ccHMAC}} {
		bus := &tap{Channel: lacking{c, without}}
		chip := tpm2.New(bus)
		object := makeHMACKey(t, chip, key, policy, pin, tpm.SHA256)
		mac, err := chip.HMAC(key, object, policy, 0, pin, message)
		if err != nil {
			t.Fatal(err)
		}
		for i, packet := range bus.traffic {
			for _, hidden := range [][]byte{hmacSecret, pin, message, mac} {
				if bytes.Contains(packet, hidden) {
					t.Errorf("without %x: packet %d carries %x in clear", without, i, hidden)
				}
			}
		}
		// Commands and answers of the use are changed, one byte at a time, in the middle of what
		// is encrypted: the size fields in front decide elsewhere whether there is a packet at all.
		for _, cc := range []uint32{ccHMAC, ccHMACStart, ccSequenceComplete} {
			if slices.Contains(without, cc) || without == nil && cc != ccHMAC {
				continue
			}
			for _, back := range []int{1, 8} {
				for _, answer := range []bool{false, true} {
					changed := tpm2.New(flip{lacking{c, without}, cc, back, answer})
					if got, err := changed.HMAC(key, object, policy, 0, pin, message); err == nil {
						t.Errorf("command %#x, byte %d from the end changed (in its answer: %v): %x was believed", cc, back, answer, got)
					}
				}
			}
		}
	}
}

// intruder tries, as soon as a sequence begins, to put a message of its own in.
type intruder struct {
	lacking
	tried bool
	err   error
}

func (i *intruder) Send(cmd []byte) ([]byte, error) {
	rsp, err := i.lacking.Send(cmd)
	if err == nil && commandCode(cmd) == ccHMACStart {
		i.tried = true
		sequence := gotpm.AuthHandle{Handle: gotpm.TPMHandle(binary.BigEndian.Uint32(rsp[10:])), Auth: gotpm.PasswordAuth(nil)}
		_, i.err = gotpm.SequenceUpdate{SequenceHandle: sequence, Buffer: gotpm.TPM2BMaxBuffer{Buffer: counter(2)}}.Execute(i.Channel)
	}
	return rsp, err
}

func TestNobodyElsePutsAMessageIntoTheSequence(t *testing.T) {
	c, _, key, values := launched(t, "image")
	policy := &tpm2.Policy{States: []tpm2.State{state(t, values)}}
	bus := &intruder{lacking: lacking{c, []uint32{ccHMAC}}}
	chip := tpm2.New(bus)
	object := makeHMACKey(t, chip, key, policy, nil, tpm.SHA1)
	got, err := chip.HMAC(key, object, policy, 0, nil, counter(1))
	if err != nil || !bytes.Equal(got, hmacOf(tpm.SHA1, hmacSecret, counter(1))) {
		t.Errorf("%x, %v", got, err)
	}
	if !bus.tried || !errors.Is(bus.err, gotpm.TPMRCBadAuth) {
		t.Errorf("the intruder tried (%v) and got: %v", bus.tried, bus.err)
	}
}

// flip changes a bit, so many bytes before the end, of one command or of its answer.
type flip struct {
	tpm.Channel
	command uint32
	back    int
	answer  bool
}

func (f flip) Send(cmd []byte) ([]byte, error) {
	match := commandCode(cmd) == f.command
	if match && !f.answer {
		cmd = bytes.Clone(cmd)
		cmd[len(cmd)-f.back] ^= 1
	}
	rsp, err := f.Channel.Send(cmd)
	if match && f.answer && err == nil {
		rsp[len(rsp)-f.back] ^= 1
	}
	return rsp, err
}

func TestTheTPMsClockAdvances(t *testing.T) {
	c, chip, _, _ := launched(t, "image")
	first, err := chip.ReadClock()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Launch([]byte("image")); err != nil {
		t.Fatal(err)
	}
	second, err := chip.ReadClock()
	if err != nil {
		t.Fatal(err)
	}
	if second.Milliseconds < first.Milliseconds || second.Resets != first.Resets || second.Restarts <= first.Restarts {
		t.Errorf("after another launch %+v came after %+v", second, first)
	}
	if err := testbed.PowerOff(c, tpm.V20); err != nil {
		t.Fatal(err)
	}
	if err := testbed.PowerOn(c, tpm.V20); err != nil {
		t.Fatal(err)
	}
	third, err := chip.ReadClock()
	if err != nil {
		t.Fatal(err)
	}
	if third.Milliseconds < second.Milliseconds || third.Resets != second.Resets+1 || !third.Safe {
		t.Errorf("after an orderly restart %+v came after %+v", third, second)
	}
	if err := testbed.PowerOn(c, tpm.V20); err != nil { // without the shutdown
		t.Fatal(err)
	}
	if fourth, err := chip.ReadClock(); err != nil || fourth.Safe {
		t.Errorf("after a power cut the clock says %+v, %v", fourth, err)
	}
}

// The bus is hostile here as everywhere.
func FuzzHMACResponse(f *testing.F) {
	for _, seed := range [][]byte{
		{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0},
		{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x43},
		{0x80, 0x02, 0, 0, 0, 14, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
		append([]byte{0x80, 0x01, 0, 0, 0, 35, 0, 0, 0, 0}, make([]byte, 25)...),
	} {
		f.Add(seed)
	}
	public := gotpm.Marshal(gotpm.TPMTPublic{
		Type: gotpm.TPMAlgKeyedHash, NameAlg: gotpm.TPMAlgSHA256, ObjectAttributes: gotpm.TPMAObject{SignEncrypt: true},
		Parameters: gotpm.NewTPMUPublicParms(gotpm.TPMAlgKeyedHash, &gotpm.TPMSKeyedHashParms{Scheme: gotpm.TPMTKeyedHashScheme{
			Scheme: gotpm.TPMAlgHMAC, Details: gotpm.NewTPMUSchemeKeyedHash(gotpm.TPMAlgHMAC, &gotpm.TPMSSchemeHMAC{HashAlg: gotpm.TPMAlgSHA1})}}),
	})
	f.Add(public)
	policy := &tpm2.Policy{States: make([]tpm2.State, 2), Counter: &tpm2.Counter{Index: 0x0180ae00, Name: make([]byte, 34)}, PIN: true}
	f.Fuzz(func(t *testing.T, rsp []byte) {
		fixed := bytes.Clone(rsp)
		if len(fixed) >= 6 {
			binary.BigEndian.PutUint32(fixed[2:], uint32(len(fixed)))
		}
		chip := tpm2.New(constant(fixed))
		chip.ReadClock()
		chip.HMAC(&tpm2.Key{}, &tpm2.Object{Public: public, Private: []byte{0}}, policy, 0, nil, counter(1))
		chip.HMAC(&tpm2.Key{}, &tpm2.Object{Public: rsp, Private: rsp}, policy, 0, nil, counter(1))
		chip.MakeHMACKey(&tpm2.Key{}, policy, nil, tpm.SHA1, hmacSecret)
	})
}
