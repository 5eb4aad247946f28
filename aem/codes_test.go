package aem_test

import (
	"bytes"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/totp"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// set-up takes place at this time, twelve seconds into a period of thirty.
var setUpAt = time.Unix(1785312342, 0)

// eachChip is eachFamily with one platform: codes have nothing to do with it.
func eachChip(t *testing.T, test func(t *testing.T, l *laptop)) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) { test(t, newLaptop(t, v, drtm.SKINIT)) })
	}
}

// at sets the machine's clock.
func (l *laptop) at(now time.Time) { l.Now = func() time.Time { return now } }

// pair sets the machine up with one-time codes, and returns the phone.
func (l *laptop) pair() totp.MAC {
	l.t.Helper()
	l.at(setUpAt)
	_, err := l.Init(l.home, l.medium, nil)
	l.must(err)
	x, err := l.Pair(l.home, totp.Params{Issuer: "AEM", Account: "laptop"})
	l.must(err)
	defer x.Wipe()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(string(x.Key))
	l.must(err)
	phone := totp.InMemory(key, tpm.SHA1)
	_, err = x.Test(codeAt(l.t, phone, setUpAt))
	l.must(err)
	l.must(x.Keep())
	return phone
}

// codeAt is what the phone shows.
func codeAt(t *testing.T, phone totp.MAC, at time.Time) string {
	t.Helper()
	code, _, err := totp.Code(phone, at, totp.Params{})
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// proveCodes proves at a time, with the given PIN.
func (l *laptop) proveCodes(at time.Time, pins ...string) *aem.Proof {
	l.t.Helper()
	l.at(at)
	p, err := l.prove(pins...)
	if err != nil || p.Codes == nil || p.Secret != nil {
		l.t.Fatalf("no proof by codes: %+v, %v", p, err)
	}
	return p
}

func TestCodesAreMadeOnceForEachPeriod(t *testing.T) {
	eachChip(t, func(t *testing.T, l *laptop) {
		l.boot()
		phone := l.pair()
		l.sealNow("2718")
		l.boot()
		p := l.proveCodes(setUpAt, "2718")
		commands := l.counter.Commands
		// A sentence takes twelve at most; a code five, and the clock one.
		if l.Version == tpm.V20 && commands > 18 {
			t.Errorf("the proof took %d commands", commands)
		}
		each := map[tpm.Version]int{tpm.V20: 5, tpm.V12: 0}[l.Version]
		for _, c := range []struct {
			passed, left time.Duration
			periods      int
		}{
			{0, 18 * time.Second, 0}, {time.Second, 17 * time.Second, 0}, {17900 * time.Millisecond, 100 * time.Millisecond, 0},
			{18 * time.Second, 30 * time.Second, 1}, {19 * time.Second, 29 * time.Second, 1}, {40 * time.Second, 8 * time.Second, 1},
			{time.Hour, 18 * time.Second, 2}, {0, 18 * time.Second, 3},
		} {
			at := setUpAt.Add(c.passed)
			code, left, err := p.Codes.At(at)
			if code != codeAt(t, phone, at) || left != c.left || err != nil {
				t.Errorf("after %s it shows %s for %s, %v; the phone %s, and %s are left", c.passed, code, left, err, codeAt(t, phone, at), c.left)
			}
			if got := l.counter.Commands - commands; got != c.periods*each {
				t.Errorf("after %s %d commands were sent; want %d", c.passed, got, c.periods*each)
			}
		}
		if p.Codes.Issuer != "AEM" || p.Codes.Account != "laptop" {
			t.Errorf("the phone's entry is called %q, %q", p.Codes.Issuer, p.Codes.Account)
		}
		// The cap does not matter to a proof that is on the screen.
		l.must(l.Cap(aem.Outcome{}))
		if code, _, err := p.Codes.At(setUpAt.Add(2 * time.Hour)); code != codeAt(t, phone, setUpAt.Add(2*time.Hour)) || err != nil {
			t.Errorf("after the cap it shows %s, %v", code, err)
		}
		p.Wipe()
		if code, _, err := p.Codes.At(setUpAt); err == nil || code != "" {
			t.Errorf("after it was wiped it shows %q", code)
		}
		l.wantRefusal(aem.CauseAlready, aem.ExitMeasurements)
	})
}

func TestAClockThatWasSetBackIsSaid(t *testing.T) {
	eachChip(t, func(t *testing.T, l *laptop) {
		doubt := func(when string, at time.Time, want error) {
			t.Helper()
			l.boot()
			p := l.proveCodes(at)
			if got := p.Codes.Doubt; !errors.Is(got, want) || want == nil && got != nil {
				t.Errorf("%s: %v; want %v", when, got, want)
			}
		}
		l.boot()
		phone := l.pair()
		l.sealNow("")
		doubt("at once", setUpAt, nil)
		doubt("a year later", setUpAt.AddDate(1, 0, 0), nil)
		doubt("three hours back", setUpAt.Add(-3*time.Hour), totp.ErrBehind)
		// The code is shown all the same, and is the one of the wrong time.
		if code, _, err := l.proveCodes(setUpAt.Add(-3 * time.Hour)).Codes.At(setUpAt.Add(-3 * time.Hour)); code != codeAt(t, phone, setUpAt.Add(-3*time.Hour)) || err != nil {
			t.Errorf("with a clock that is behind it shows %s, %v", code, err)
		}
		// A sealing with a clock in doubt keeps the sighting from before.
		l.sealNow("")
		doubt("three hours back, and sealed so", setUpAt.Add(-3*time.Hour), totp.ErrBehind)
		// A sealing with a good one is the sighting from then on.
		l.at(setUpAt.AddDate(0, 0, 10))
		l.sealNow("")
		doubt("before the last sealing", setUpAt.AddDate(0, 0, 9), totp.ErrBehind)
		doubt("after the last sealing", setUpAt.AddDate(0, 0, 11), nil)
	})
}

// breaking is a TPM that stops answering a command.
type breaking struct {
	tpm.Channel
	command uint32
	failed  int
}

func (b *breaking) Send(cmd []byte) ([]byte, error) {
	if binary.BigEndian.Uint32(cmd[6:]) == b.command {
		b.failed++
		return nil, errors.New("the TPM is gone")
	}
	return b.Channel.Send(cmd)
}

const hmacCommand, clockCommand = 0x155, 0x181

func TestACodeThatTheTPMDoesNotMake(t *testing.T) {
	l := newLaptop(t, tpm.V20, drtm.SKINIT)
	l.boot()
	phone := l.pair()
	l.sealNow("")
	l.boot()
	p := l.proveCodes(setUpAt)
	good, broken := l.counter.Channel, &breaking{Channel: l.counter.Channel, command: hmacCommand}
	l.counter.Channel = broken
	next := setUpAt.Add(18 * time.Second)
	for _, passed := range []time.Duration{0, time.Second, 9 * time.Second} {
		code, left, err := p.Codes.At(next.Add(passed))
		if err == nil || !strings.Contains(err.Error(), "the TPM is gone") || code != "" || left != 10*time.Second-passed {
			t.Errorf("%s after the TPM went: %q for %s, %v", passed, code, left, err)
		}
	}
	if broken.failed != 1 {
		t.Errorf("within ten seconds the TPM was asked %d times", broken.failed)
	}
	l.counter.Channel = good
	at := next.Add(10 * time.Second)
	if code, left, err := p.Codes.At(at); code != codeAt(t, phone, at) || left != 20*time.Second || err != nil {
		t.Errorf("when the TPM was back: %q for %s, %v", code, left, err)
	}

	// A machine that can't make the first one proves nothing.
	l.counter.Channel = broken
	l.wantRefusal(aem.CauseNotAvailable, aem.ExitError)
	// A clock that can't be read is said, and hinders nothing.
	l.counter.Channel = &breaking{Channel: good, command: clockCommand}
	if p := l.proveCodes(setUpAt); p.Codes.Doubt == nil || !strings.Contains(p.Codes.Doubt.Error(), "can't be read") {
		t.Errorf("with a clock that can't be read the doubt is %v", p.Codes.Doubt)
	}
}

func TestAKeyIsNotKeptUntested(t *testing.T) {
	eachChip(t, func(t *testing.T, l *laptop) {
		l.boot()
		l.at(setUpAt)
		_, err := l.Init(l.home, l.medium, nil)
		l.must(err)
		x, err := l.Pair(l.home, totp.Params{Issuer: "AEM", Account: "laptop"})
		l.must(err)
		if _, err := x.Test("12345"); !errors.Is(err, totp.ErrWrongCode) {
			t.Errorf("a code of five digits: %v", err)
		}
		if err := x.Keep(); err == nil {
			t.Error("a key was kept untested")
		}
		if _, err := os.Stat(filepath.Join(l.homeDir, "secret.aem")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("something was kept: %v", err)
		}
		x.Wipe()
		if !bytes.Equal(x.Key, make([]byte, len(x.Key))) || x.QR.Dark(0, 0) {
			t.Error("the key is still there after it was wiped")
		}
		if _, err := x.Test("123456"); err == nil {
			t.Error("a key that was wiped agrees with a code")
		}
		if _, err := l.Pair(l.home, totp.Params{Issuer: "AEM", Account: strings.Repeat("x", 100)}); !errors.Is(err, totp.ErrTooLong) {
			t.Errorf("a name that no QR code holds: %v", err)
		}
		if _, err := l.Pair(l.home, totp.Params{Digits: 9, Issuer: "AEM", Account: "laptop"}); err == nil {
			t.Error("nine digits were taken")
		}
	})
}

// What a program of the approved state gets to see is not the key, on a TPM 2.0.
func TestWhatARecordForCodesHolds(t *testing.T) {
	eachChip(t, func(t *testing.T, l *laptop) {
		l.boot()
		l.at(setUpAt)
		s, err := l.Init(l.home, l.medium, nil)
		l.must(err)
		x, err := l.Pair(l.home, totp.Params{Issuer: "AEM", Account: "laptop"})
		l.must(err)
		key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(string(x.Key))
		l.must(err)
		_, err = x.Test(codeAt(t, totp.InMemory(key, tpm.SHA1), setUpAt))
		l.must(err)
		l.must(x.Keep())
		l.sealNow("")
		l.boot()
		b, err := l.Chip.Backend(s.Media[0].Anchor)
		l.must(err)
		boot, err := l.Boot()
		l.must(err)
		record, err := seal.Parse(l.records()[0].Bytes)
		l.must(err)
		content, err := record.Open(b, boot.PCRs, nil)
		l.must(err)
		if record.Kind != seal.KindTOTP {
			t.Errorf("the record's kind is %s", record.Kind)
		}
		if holds := bytes.Contains(content, key); holds != (l.Version == tpm.V12) {
			t.Errorf("the record of a %s holds the key: %t", l.Version, holds)
		}
	})
}

// Root could seal the kept credential to a boot; a screen that shows it would tell it to
// everybody who looks.
func TestOnlyWhatProvesIsShown(t *testing.T) {
	l := newLaptop(t, tpm.V20, drtm.SKINIT)
	l.boot()
	s, err := l.Init(l.home, l.medium, nil)
	l.must(err)
	b, err := l.Chip.Backend(s.Media[0].Anchor)
	l.must(err)
	boot, err := l.Boot()
	l.must(err)
	state, err := boot.Present("first")
	l.must(err)
	now, err := b.Generation()
	l.must(err)
	r := &seal.Record{Kind: seal.KindCredential, Generation: now + 1, Medium: seal.MediumID(s.Media[0].ID), States: []seal.State{*state}}
	l.must(seal.Seal(b, r, []byte("password"), nil))
	l.must(seal.Commit(s.Media[0].Records, b, r, boot.PCRs, nil, nil))
	l.wantRefusal(aem.CauseDamaged, aem.ExitDamaged)
}

// Whoever writes to the disk can exchange the kept files; their kinds are in what the TPM
// vouches for.
func TestAnotherKeptFileIsNotTakenForTheSecret(t *testing.T) {
	l := newLaptop(t, tpm.V20, drtm.SKINIT)
	l.boot()
	l.setUp("2718")
	pin, err := os.ReadFile(filepath.Join(l.homeDir, "pin.aem"))
	l.must(err)
	writeFile(t, filepath.Join(l.homeDir, "secret.aem"), pin)
	boot, err := l.Boot()
	l.must(err)
	state, err := boot.Present("first")
	l.must(err)
	if sealed, err := l.Seal(l.home, []seal.State{*state}, []byte("2718")); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("the PIN was sealed as the secret: %v, %v", sealed, err)
	}
}
