package tpm12_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
)

var (
	owner  = tpm12.PasswordAuth([]byte("owner"))
	secret = []byte("thirty-two bytes of a sealing key")
	pair   = tpm.PCRSet(17, 18)
)

// owned gives a test a TPM with an owner, launched with image.
func owned(t *testing.T, image string) (*swtpm.TPM, *tpm12.TPM) {
	t.Helper()
	c, _ := testbed.NewTPM(t, tpm.V12)
	chip := tpm12.New(c)
	if err := chip.TakeOwnership(owner, tpm12.WellKnown); err != nil {
		t.Fatal(err)
	}
	if err := c.Launch([]byte(image)); err != nil {
		t.Fatal(err)
	}
	return c, chip
}

// release is the state that a launch of image leads to, computed without the TPM.
func release(t *testing.T, image string) *tpm12.Release {
	t.Helper()
	bank := &tpm.Bank{Alg: tpm.SHA1}
	bank.Reset(pair, true)
	if err := bank.Extend(17, tpm.SHA1.Sum([]byte(image))); err != nil {
		t.Fatal(err)
	}
	digest, err := tpm12.Composite(pair, bank)
	if err != nil {
		t.Fatal(err)
	}
	return &tpm12.Release{PCRs: pair, Digest: digest}
}

func at(t *testing.T, c *swtpm.TPM, l tpm.Locality) {
	t.Helper()
	if err := c.SetLocality(l); err != nil {
		t.Fatal(err)
	}
}

func TestSealedToComputedValuesOpensInThatLaunchOnly(t *testing.T) {
	c, chip := owned(t, "another image")
	blob, err := chip.Seal(tpm12.WellKnown, tpm12.WellKnown, release(t, "image"), secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chip.Unseal(tpm12.WellKnown, tpm12.WellKnown, blob); !errors.Is(err, tpm12.ErrWrongPCR) {
		t.Errorf("in another launch: %v", err)
	}
	if err := c.Launch([]byte("image")); err != nil {
		t.Fatal(err)
	}
	got, err := chip.Unseal(tpm12.WellKnown, tpm12.WellKnown, blob)
	if err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("in the sealed launch: %q, %v", got, err)
	}
	// PCR 17 as sealed, PCR 18 not: one of the two is enough to refuse.
	at(t, c, 2)
	if err := chip.Extend(18, tpm.SumAll([]tpm.Alg{tpm.SHA1}, []byte("evil"))); err != nil {
		t.Fatal(err)
	}
	at(t, c, 0)
	if _, err := chip.Unseal(tpm12.WellKnown, tpm12.WellKnown, blob); !errors.Is(err, tpm12.ErrWrongPCR) {
		t.Errorf("after PCR 18 changed: %v", err)
	}
}

func TestReleaseLocality(t *testing.T) {
	c, chip := owned(t, "image")
	r := release(t, "image")
	r.Localities = 1 << 2
	blob, err := chip.Seal(tpm12.WellKnown, tpm12.WellKnown, r, secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chip.Unseal(tpm12.WellKnown, tpm12.WellKnown, blob); !errors.Is(err, tpm12.ErrBadLocality) {
		t.Errorf("at locality 0: %v", err)
	}
	at(t, c, 2)
	if _, err := chip.Unseal(tpm12.WellKnown, tpm12.WellKnown, blob); err != nil {
		t.Errorf("at locality 2: %v", err)
	}
}

// Premise of the threat model: what runs after the launch can't imitate one.
func TestLocalityZeroCannotTouchTheLaunchPCRs(t *testing.T) {
	_, chip := owned(t, "image")
	for p := tpm.PCR(17); p.Dynamic(); p++ {
		if err := chip.Extend(p, tpm.SumAll([]tpm.Alg{tpm.SHA1}, nil)); !errors.Is(err, tpm12.ErrBadLocality) {
			t.Errorf("extending PCR %d at locality 0: %v", p, err)
		}
	}
}

func TestPCRsAreReadAndExtended(t *testing.T) {
	_, chip := owned(t, "image")
	if err := chip.Extend(13, tpm.SumAll([]tpm.Alg{tpm.SHA256, tpm.SHA1}, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	if err := chip.Extend(13, tpm.SumAll([]tpm.Alg{tpm.SHA256}, []byte("x"))); err == nil {
		t.Error("a PCR was extended without a SHA-1 digest")
	}
	banks, err := chip.ReadPCRs(tpm.PCRSet(13, 17))
	if err != nil || len(banks) != 1 {
		t.Fatalf("%v, %v", banks, err)
	}
	zero := make([]byte, 20)
	if got, want := banks[0].Values[13], tpm.SHA1.Sum(zero, tpm.SHA1.Sum([]byte("x"))); !got.Equal(want) {
		t.Errorf("PCR 13 is %s; want %s", got, want)
	}
	if got, want := banks[0].Values[17], tpm.SHA1.Sum(zero, tpm.SHA1.Sum([]byte("image"))); !got.Equal(want) {
		t.Errorf("PCR 17 is %s; want %s", got, want)
	}
}

func TestWrongPasswordsAndTheLock(t *testing.T) {
	_, chip := owned(t, "image")
	blob, err := chip.Seal(tpm12.WellKnown, tpm12.PasswordAuth([]byte("2718")), nil, secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chip.Unseal(tpm12.WellKnown, tpm12.PasswordAuth([]byte("2718")), blob); err != nil {
		t.Fatalf("with the right password: %v", err)
	}
	if _, err := chip.Unseal(tpm12.WellKnown, tpm12.PasswordAuth([]byte("3141")), blob); !errors.Is(err, tpm12.ErrAuth2Fail) {
		t.Errorf("with a wrong one: %v", err)
	}
	for range 100 {
		if _, err := chip.Unseal(tpm12.WellKnown, tpm12.PasswordAuth([]byte("3141")), blob); !errors.Is(err, tpm12.ErrAuth2Fail) {
			break
		}
	}
	if _, err := chip.Unseal(tpm12.WellKnown, tpm12.PasswordAuth([]byte("2718")), blob); !errors.Is(err, tpm12.ErrDefendLock) {
		t.Errorf("with the right one after too many wrong ones: %v", err)
	}
	if d, err := chip.Defence(); err != nil || !d.Locked {
		t.Errorf("the defence says %+v, %v", d, err)
	}
	if err := chip.ResetLockValue(owner); err != nil {
		t.Fatal(err)
	}
	if _, err := chip.Unseal(tpm12.WellKnown, tpm12.PasswordAuth([]byte("2718")), blob); err != nil {
		t.Errorf("after the owner reset the lock: %v", err)
	}
}

func TestBlobsOfOthersAndDamagedOnes(t *testing.T) {
	_, chip := owned(t, "image")
	blob, err := chip.Seal(tpm12.WellKnown, tpm12.WellKnown, nil, secret)
	if err != nil {
		t.Fatal(err)
	}
	_, other := owned(t, "image")
	if got, err := other.Unseal(tpm12.WellKnown, tpm12.WellKnown, blob); err == nil {
		t.Errorf("another TPM opened it: %q", got)
	}
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		if got, err := chip.Unseal(tpm12.WellKnown, tpm12.WellKnown, bad); err == nil {
			t.Errorf("with a bit of byte %d flipped it opened: %q", i, got)
		}
	}
	for n := range blob {
		if _, err := chip.Unseal(tpm12.WellKnown, tpm12.WellKnown, blob[:n]); err == nil {
			t.Errorf("cut to %d bytes it opened", n)
		}
	}
	if _, err := chip.Unseal(tpm12.WellKnown, tpm12.WellKnown, blob); err != nil {
		t.Errorf("the good one, afterwards: %v", err)
	}
}

func TestOwnership(t *testing.T) {
	c, _ := testbed.NewTPM(t, tpm.V12)
	chip := tpm12.New(c)
	before, err := chip.ReadEK()
	if err != nil {
		t.Fatal(err)
	}
	if is, err := chip.Owned(); err != nil || is {
		t.Errorf("a new TPM is owned: %t, %v", is, err)
	}
	if err := chip.TakeOwnership(owner, tpm12.WellKnown); err != nil {
		t.Fatal(err)
	}
	if is, err := chip.Owned(); err != nil || !is {
		t.Errorf("an owned TPM is owned: %t, %v", is, err)
	}
	if err := chip.TakeOwnership(owner, tpm12.WellKnown); err == nil {
		t.Error("ownership was taken twice")
	}
	if _, err := chip.ReadEK(); err == nil {
		t.Error("an owned TPM tells its endorsement key to anybody")
	}
	if _, err := chip.OwnerReadEK(tpm12.PasswordAuth([]byte("wrong"))); !errors.Is(err, tpm12.ErrAuthFail) {
		t.Errorf("the endorsement key, with a wrong password: %v", err)
	}
	after, err := chip.OwnerReadEK(owner)
	if err != nil || after.Digest() != before.Digest() {
		t.Errorf("the owner reads another endorsement key, %v", err)
	}
	if err := chip.OwnerClear(owner); err != nil {
		t.Fatal(err)
	}
	if is, err := chip.Owned(); err != nil || is {
		t.Errorf("a cleared TPM is owned: %t, %v", is, err)
	}
}

func TestNVMemory(t *testing.T) {
	c, chip := owned(t, "image")
	password := tpm12.PasswordAuth([]byte("nv"))
	data := []byte("twenty-four bytes of it.")
	area := tpm12.NVArea{Index: 0xae00, Size: uint32(len(data)), Permissions: tpm12.PermAuthWrite}
	if err := chip.NVDefine(owner, area, password); err != nil {
		t.Fatal(err)
	}
	if err := chip.NVDefine(owner, area, password); !errors.Is(err, tpm12.ErrDefined) {
		t.Errorf("defined again: %v", err)
	}
	if err := chip.NVWriteAuth(area.Index, 0, data, tpm12.WellKnown); !errors.Is(err, tpm12.ErrAuthFail) {
		t.Errorf("written with a wrong password: %v", err)
	}
	if err := chip.NVWriteAuth(area.Index, 0, data, password); err != nil {
		t.Fatal(err)
	}
	if err := testbed.PowerOn(c, tpm.V12); err != nil {
		t.Fatal(err)
	}
	if got, err := chip.NVRead(area.Index, 0, area.Size); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after a restart anyone reads %q, %v", got, err)
	}
	if list, err := chip.NVIndices(); err != nil || !bytes.Contains(indexBytes(list), indexBytes([]uint32{area.Index})) {
		t.Errorf("the areas are %#x, %v", list, err)
	}
	if err := chip.NVUndefine(owner, area.Index); err != nil {
		t.Fatal(err)
	}
	if _, err := chip.NVRead(area.Index, 0, area.Size); !errors.Is(err, tpm12.ErrBadIndex) {
		t.Errorf("after it was removed: %v", err)
	}
}

func TestNVMemoryThatIsReadWithAPassword(t *testing.T) {
	_, chip := owned(t, "image")
	password := tpm12.PasswordAuth([]byte("nv"))
	area := tpm12.NVArea{Index: 0xae01, Size: 4, Permissions: tpm12.PermAuthWrite | tpm12.PermAuthRead}
	if err := chip.NVDefine(owner, area, password); err != nil {
		t.Fatal(err)
	}
	if err := chip.NVWriteAuth(area.Index, 0, []byte("data"), password); err != nil {
		t.Fatal(err)
	}
	if got, err := chip.NVReadAuth(area.Index, 0, 4, password); err != nil || string(got) != "data" {
		t.Errorf("with the password: %q, %v", got, err)
	}
	if _, err := chip.NVReadAuth(area.Index, 0, 4, tpm12.WellKnown); !errors.Is(err, tpm12.ErrAuthFail) {
		t.Errorf("with a wrong one: %v", err)
	}
	if _, err := chip.NVRead(area.Index, 0, 4); err == nil {
		t.Error("it was read without the password")
	}
}

func indexBytes(list []uint32) []byte {
	var b []byte
	for _, i := range list {
		b = binary.BigEndian.AppendUint32(b, i)
	}
	return b
}

func TestCounters(t *testing.T) {
	_, chip := owned(t, "image")
	password := tpm12.PasswordAuth([]byte("counter"))
	made, err := chip.CreateCounter(owner, password, [4]byte{'a', 'e', 'm', '0'})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chip.IncrementCounter(made.Handle, tpm12.WellKnown); err == nil {
		t.Error("it was incremented with a wrong password")
	}
	if _, err := chip.IncrementCounter(made.Handle, password); err != nil {
		t.Fatal(err)
	}
	if now, err := chip.ReadCounter(made.Handle); err != nil || now.Value != made.Value+1 {
		t.Errorf("after one increment from %d it stands at %d, %v", made.Value, now.Value, err)
	}
	if err := chip.ReleaseCounter(made.Handle, password); err != nil {
		t.Fatal(err)
	}
	if _, err := chip.ReadCounter(made.Handle); !errors.Is(err, tpm12.ErrBadCounter) {
		t.Errorf("after it was released: %v", err)
	}
}

// A TPM has few sessions; a refused command must not leave one behind.
func TestRefusalsLeaveNoSession(t *testing.T) {
	_, chip := owned(t, "image")
	blob, err := chip.Seal(tpm12.WellKnown, tpm12.WellKnown, release(t, "elsewhere"), secret)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, err := chip.Unseal(tpm12.WellKnown, tpm12.WellKnown, blob); !errors.Is(err, tpm12.ErrWrongPCR) {
			t.Fatal(err)
		}
	}
}

func TestATPM20IsNamed(t *testing.T) {
	c, _ := testbed.NewTPM(t, tpm.V20)
	if _, err := tpm12.New(c).Owned(); !errors.Is(err, tpm12.ErrOtherFamily) {
		t.Errorf("a TPM 2.0 was taken for: %v", err)
	}
}

func TestManufacturer(t *testing.T) {
	_, chip := owned(t, "image")
	if maker, err := chip.Manufacturer(); err != nil || maker != "IBM" {
		t.Errorf("the emulator is by %q, %v", maker, err)
	}
}

type constant []byte

func (c constant) Send([]byte) ([]byte, error) { return bytes.Clone(c), nil }

// The bus is hostile: whatever is answered, the program gets an error or a value
// and goes on.
func FuzzResponse(f *testing.F) {
	for _, tag := range []uint16{0xc4, 0xc5, 0xc6, 0x8001} {
		for _, body := range [][]byte{nil, make([]byte, 41), make([]byte, 82), bytes.Repeat([]byte{0xff}, 120), make([]byte, 400)} {
			rsp := binary.BigEndian.AppendUint16(nil, tag)
			rsp = binary.BigEndian.AppendUint32(rsp, uint32(10+len(body)))
			f.Add(append(append(rsp, 0, 0, 0, 0), body...))
		}
	}
	for _, code := range []uint16{0x800, 0x801, 0x802} { // try again, test yourself first, I'm testing myself
		f.Add([]byte{0, 0xc5, 0, 0, 0, 10, 0, 0, byte(code >> 8), byte(code)})
	}
	f.Fuzz(func(t *testing.T, rsp []byte) {
		// A chip that is always busy is waited for, in a bubble's time.
		synctest.Test(t, func(t *testing.T) { answerAll(t, rsp) })
	})
}

// answerAll has a chip give the same answer to everything that is asked of one.
func answerAll(t *testing.T, rsp []byte) {
	fixed := bytes.Clone(rsp)
	if len(fixed) >= 6 {
		binary.BigEndian.PutUint32(fixed[2:], uint32(len(fixed)))
	}
	chip := tpm12.New(constant(fixed))
	chip.ReadPCRs(pair)
	chip.Owned()
	chip.ReadEK()
	chip.OwnerReadEK(owner)
	chip.TakeOwnership(owner, owner)
	if got, err := chip.Unseal(owner, owner, make([]byte, 300)); err == nil {
		t.Errorf("a made-up answer was taken for the secret %x", got)
	}
	chip.Seal(owner, owner, nil, secret)
	chip.NVIndices()
	chip.NVRead(1, 0, 4)
	if _, err := chip.NVReadAuth(1, 0, 4, owner); err == nil {
		t.Error("a made-up answer passed as authenticated NV data")
	}
	chip.CreateCounter(owner, owner, [4]byte{})
	chip.ReadCounter(1)
	chip.Defence()
	chip.Manufacturer()
}

// tap changes a bit of the answers to one command.
type tap struct {
	tpm.Channel
	ordinal uint32
	at      int // from the end
}

func (t tap) Send(cmd []byte) ([]byte, error) {
	rsp, err := t.Channel.Send(cmd)
	if err == nil && binary.BigEndian.Uint32(cmd[6:]) == t.ordinal && len(rsp) >= t.at && binary.BigEndian.Uint32(rsp[6:]) == 0 {
		rsp[len(rsp)-t.at] ^= 1
	}
	return rsp, err
}

// Who sits on the bus and changes an answer has no session's key.
func TestAChangedAnswerIsRefused(t *testing.T) {
	c, chip := owned(t, "image")
	password := tpm12.PasswordAuth([]byte("nv"))
	area := tpm12.NVArea{Index: 0xae01, Size: 4, Permissions: tpm12.PermAuthWrite | tpm12.PermAuthRead}
	if err := chip.NVDefine(owner, area, password); err != nil {
		t.Fatal(err)
	}
	if err := chip.NVWriteAuth(area.Index, 0, []byte("data"), password); err != nil {
		t.Fatal(err)
	}
	blob, err := chip.Seal(tpm12.WellKnown, password, nil, secret)
	if err != nil {
		t.Fatal(err)
	}
	const unseal, nvReadAuth = 0x18, 0xd0
	for name, at := range map[string]int{
		"the last session's HMAC": 1, "its nonce": 41, "the first session's HMAC": 42, "the secret": 83,
	} {
		if got, err := tpm12.New(tap{c, unseal, at}).Unseal(tpm12.WellKnown, password, blob); !errors.Is(err, tpm12.ErrResponse) {
			t.Errorf("with a bit of %s changed: %q, %v", name, got, err)
		}
	}
	for name, at := range map[string]int{"the HMAC": 1, "the data": 42} {
		if got, err := tpm12.New(tap{c, nvReadAuth, at}).NVReadAuth(area.Index, 0, 4, password); !errors.Is(err, tpm12.ErrResponse) {
			t.Errorf("NV data, with a bit of %s changed: %q, %v", name, got, err)
		}
	}
	if got, err := chip.Unseal(tpm12.WellKnown, password, blob); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("unchanged: %q, %v", got, err)
	}
}
