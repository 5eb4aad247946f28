package tpm12_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
)

var (
	pin   = tpm12.PasswordAuth([]byte("1234"))
	wrong = tpm12.PasswordAuth([]byte("4321"))
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused asserts that a command was refused for the reason given.
func refused(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v; want %v", what, err, want)
	}
}

func second[T any](_ T, err error) error { return err }

// extendAt extends a PCR as software that a launch started would.
func extendAt(t *testing.T, c tpm.LocalityChannel, l tpm.Locality, p tpm.PCR, data string) {
	t.Helper()
	ok(t, c.SetLocality(l))
	ok(t, tpm12.New(c).Extend(p, tpm.SumAll([]tpm.Alg{tpm.SHA1}, []byte(data))))
	ok(t, c.SetLocality(0))
}

// The values are of a launch and an extend that this TPM never saw before the
// blob was made, and the TPM was off in between.
func TestAStateComputedBeforeItWasEverReachedOpensAfterARestart(t *testing.T) {
	c, chip := owned(t, "installer")
	set := tpm.PCRSet(13, 17, 18)
	values := &tpm.Bank{Alg: tpm.SHA1}
	values.Reset(set, true)
	ok(t, values.Extend(17, tpm.SHA1.Sum([]byte("image"))))
	ok(t, values.Extend(18, tpm.SHA1.Sum([]byte("authority"))))
	digest, err := tpm12.Composite(set, values)
	ok(t, err)
	blob, err := chip.Seal(tpm12.WellKnown, pin, &tpm12.Release{PCRs: set, Digest: digest}, secret)
	ok(t, err)
	unseal := func() ([]byte, error) { return chip.Unseal(tpm12.WellKnown, pin, blob) }

	ok(t, testbed.PowerOn(c, tpm.V12))
	refused(t, "without a launch", second(unseal()), tpm12.ErrWrongPCR)
	ok(t, c.Launch([]byte("image")))
	refused(t, "with PCR 17 right and PCR 18 not yet", second(unseal()), tpm12.ErrWrongPCR)
	extendAt(t, c, 2, 18, "authority")
	if got, err := unseal(); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("in the sealed state: %q, %v", got, err)
	}
	extendAt(t, c, 0, 13, "cap")
	refused(t, "after PCR 13 was capped", second(unseal()), tpm12.ErrWrongPCR)

	ok(t, testbed.PowerOn(c, tpm.V12))
	ok(t, c.Launch([]byte("evil image")))
	extendAt(t, c, 2, 18, "authority")
	refused(t, "with PCR 18 right and PCR 17 another image's", second(unseal()), tpm12.ErrWrongPCR)
}

func TestUnsealNeedsBothAuthorisationValues(t *testing.T) {
	c, _ := testbed.NewTPM(t, tpm.V12)
	chip := tpm12.New(c)
	srk := tpm12.PasswordAuth([]byte("storage"))
	ok(t, chip.TakeOwnership(owner, srk))
	refused(t, "seal with a wrong value of the storage root key",
		second(chip.Seal(wrong, pin, nil, secret)), tpm12.ErrAuthFail)
	blob, err := chip.Seal(srk, pin, nil, secret)
	ok(t, err)
	refused(t, "a wrong value of the data", second(chip.Unseal(srk, wrong, blob)), tpm12.ErrAuth2Fail)
	refused(t, "a wrong value of the storage root key", second(chip.Unseal(wrong, pin, blob)), tpm12.ErrAuthFail)
	if got, err := chip.Unseal(srk, pin, blob); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("with both right: %q, %v", got, err)
	}
}

// What a screen shows before and during a lock must be what the TPM then does.
func TestTheDefenceIsToldBeforeAndDuringALock(t *testing.T) {
	_, chip := owned(t, "image")
	blob, err := chip.Seal(tpm12.WellKnown, pin, nil, secret)
	ok(t, err)
	before, err := chip.Defence()
	if err != nil || before.Locked || before.Failed != 0 || before.Allowed == 0 || before.Wait != 0 {
		t.Fatalf("before any try: %+v, %v", before, err)
	}
	refused(t, "a wrong try", second(chip.Unseal(tpm12.WellKnown, wrong, blob)), tpm12.ErrAuth2Fail)
	if one, err := chip.Defence(); err != nil || one.Failed != 1 || one.Locked {
		t.Errorf("after one wrong try, asked twice: %+v, %v", one, err)
	}
	for range before.Allowed {
		// Refused each time; from some try on because of the lock.
		if got, err := chip.Unseal(tpm12.WellKnown, wrong, blob); err == nil {
			t.Errorf("a wrong password opened %q", got)
		}
	}
	if during, err := chip.Defence(); err != nil || !during.Locked || during.Failed < before.Allowed || during.Wait == 0 {
		t.Errorf("during the lock: %+v, %v", during, err)
	}
	ok(t, chip.ResetLockValue(owner))
	if after, err := chip.Defence(); err != nil || after.Locked || after.Failed != 0 {
		t.Errorf("after the owner ended the lock: %+v, %v", after, err)
	}
}

// What the release demands stands in clear in the blob; rewriting it must not help.
func TestARewrittenReleaseIsRefused(t *testing.T) {
	_, chip := owned(t, "evil")
	good, evil := release(t, "image"), release(t, "evil")
	blob, err := chip.Seal(tpm12.WellKnown, pin, good, secret)
	ok(t, err)
	forged := bytes.Replace(blob, good.Digest, evil.Digest, 1)
	if bytes.Equal(forged, blob) {
		t.Fatal("the blob does not hold the composite")
	}
	refused(t, "the running state in place of the sealed one",
		second(chip.Unseal(tpm12.WellKnown, pin, forged)), tpm12.ErrNotSealedBlob)
}

// A caller tells "damaged" from "wrong password" by these, so the reason counts.
func TestDamageIsNamedAsDamage(t *testing.T) {
	_, chip := owned(t, "image")
	blob, err := chip.Seal(tpm12.WellKnown, pin, nil, secret)
	ok(t, err)
	damage := func(err error) bool {
		return errors.Is(err, tpm12.ErrNotSealedBlob) || errors.Is(err, tpm12.ErrDecrypt)
	}
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 0x80
		if _, err := chip.Unseal(tpm12.WellKnown, pin, bad); !damage(err) {
			t.Errorf("a bit of byte %d flipped: %v", i, err)
		}
	}
	_, other := owned(t, "image")
	if _, err := other.Unseal(tpm12.WellKnown, pin, blob); !damage(err) {
		t.Errorf("another TPM's blob: %v", err)
	}
	refused(t, "something behind the blob",
		second(chip.Unseal(tpm12.WellKnown, pin, append(bytes.Clone(blob), 0))), tpm12.ErrNotSealedBlob)
	if d, err := chip.Defence(); err != nil || d.Failed != 0 {
		t.Errorf("damaged blobs counted as tries: %+v, %v", d, err)
	}
}

func TestSecretSizes(t *testing.T) {
	_, chip := owned(t, "image")
	for _, n := range []int{1, tpm12.MaxSecret} {
		mine := bytes.Repeat([]byte{7}, n)
		blob, err := chip.Seal(tpm12.WellKnown, pin, nil, mine)
		ok(t, err)
		if got, err := chip.Unseal(tpm12.WellKnown, pin, blob); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{7}, n)) {
			t.Errorf("%d bytes: %x, %v", n, got, err)
		}
		if mine[0] != 7 {
			t.Error("the caller's secret was wiped")
		}
	}
	for _, n := range []int{0, tpm12.MaxSecret + 1} {
		if _, err := chip.Seal(tpm12.WellKnown, pin, nil, make([]byte, n)); err == nil {
			t.Errorf("%d bytes were sealed", n)
		}
	}
}

// A release that demands nothing, or something else than was meant, is a defect
// that nobody would see until the wrong machine opened the blob.
func TestReleasesThatDemandNothingAreRefused(t *testing.T) {
	chip := tpm12.New(fake(func([]byte) []byte { t.Error("the TPM was asked"); return nil }))
	digest := make(tpm.Digest, 20)
	for name, r := range map[string]*tpm12.Release{
		"no PCRs":          {Digest: digest},
		"no digest":        {PCRs: pair},
		"a SHA-256 digest": {PCRs: pair, Digest: make(tpm.Digest, 32)},
		"locality 5":       {PCRs: pair, Digest: digest, Localities: 1 << 5},
	} {
		if _, err := chip.Seal(tpm12.WellKnown, pin, r, secret); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
	values := &tpm.Bank{Alg: tpm.SHA1}
	values.Reset(pair, true)
	for name, err := range map[string]error{
		"no PCRs":        second(tpm12.Composite(0, values)),
		"an unread PCR":  second(tpm12.Composite(tpm.PCRSet(17, 19), values)),
		"no bank":        second(tpm12.Composite(pair, nil)),
		"a SHA-256 bank": second(tpm12.Composite(pair, &tpm.Bank{Alg: tpm.SHA256})),
	} {
		if err == nil {
			t.Errorf("%s: there is a composite", name)
		}
	}
}

func TestWhatNeedsAnOwnerSaysSo(t *testing.T) {
	c, _ := testbed.NewTPM(t, tpm.V12)
	chip := tpm12.New(c)
	refused(t, "seal", second(chip.Seal(tpm12.WellKnown, pin, nil, secret)), tpm12.ErrNoSRK)
	ok(t, chip.TakeOwnership(owner, tpm12.WellKnown))
	refused(t, "a second owner", chip.TakeOwnership(wrong, tpm12.WellKnown), tpm12.ErrOwnerSet)
	refused(t, "the endorsement key, for anybody", second(chip.ReadEK()), tpm12.ErrDisabledCommand)
	refused(t, "clear with a wrong password", chip.OwnerClear(wrong), tpm12.ErrAuthFail)
}

// What was sealed for one owner is gone with that owner.
func TestClearingEndsWhatWasSealed(t *testing.T) {
	c, chip := owned(t, "image")
	blob, err := chip.Seal(tpm12.WellKnown, pin, nil, secret)
	ok(t, err)
	ok(t, chip.OwnerClear(owner))
	ok(t, testbed.PowerOn(c, tpm.V12))
	if got, err := chip.Unseal(tpm12.WellKnown, pin, blob); err == nil {
		t.Errorf("a cleared TPM opened %q", got)
	}
}

// A blob tells in the clear what it is sealed to, and fits nothing else.
func TestABlobFitsItsReleaseAndNoOther(t *testing.T) {
	_, chip := owned(t, "installer")
	digest := tpm.SHA1.Sum([]byte("a state"))
	good := &tpm12.Release{PCRs: tpm.PCRSet(13, 17, 18), Digest: digest}
	others := map[string]*tpm12.Release{
		"none":           nil,
		"other PCRs":     {PCRs: tpm.PCRSet(13, 17), Digest: digest},
		"another state":  {PCRs: good.PCRs, Digest: tpm.SHA1.Sum([]byte("another"))},
		"fewer places":   {PCRs: good.PCRs, Digest: digest, Localities: 1},
		"another length": {PCRs: good.PCRs, Digest: digest[:19]},
	}
	blob, err := chip.Seal(tpm12.WellKnown, pin, good, secret)
	ok(t, err)
	if !good.Fits(blob) {
		t.Errorf("the blob does not fit what it was sealed to: %x", blob)
	}
	for name, r := range others {
		if r.Fits(blob) {
			t.Errorf("%s: it fits", name)
		}
	}
	free, err := chip.Seal(tpm12.WellKnown, pin, nil, secret)
	ok(t, err)
	if good.Fits(free) || !others["none"].Fits(free) {
		t.Error("a blob for any state is taken for one with a state, or the other way round")
	}
}
