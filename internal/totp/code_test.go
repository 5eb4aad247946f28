package totp_test

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/totp"
	"github.com/antievilmaid/aem/tpm"
)

// The RFCs' keys.
var (
	key20 = []byte("12345678901234567890")
	key32 = []byte("12345678901234567890123456789012")
)

func keyFor(alg tpm.Alg) []byte {
	if alg == tpm.SHA256 {
		return key32
	}
	return key20
}

// RFC 4226, appendix D: the counter is the time in periods.
func TestCodesOfRFC4226(t *testing.T) {
	want := []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"}
	for counter, code := range want {
		got, _, err := totp.Code(totp.InMemory(key20, tpm.SHA1), time.Unix(int64(30*counter), 0), totp.Params{})
		if err != nil || got != code {
			t.Errorf("counter %d: %s, %v; want %s", counter, got, err, code)
		}
	}
}

// RFC 6238, appendix B.
func TestCodesOfRFC6238(t *testing.T) {
	for _, v := range []struct {
		seconds      int64
		sha1, sha256 string
	}{
		{59, "94287082", "46119246"},
		{1111111109, "07081804", "68084774"},
		{1111111111, "14050471", "67062674"},
		{1234567890, "89005924", "91819424"},
		{2000000000, "69279037", "90698825"},
		{20000000000, "65353130", "77737706"},
	} {
		for alg, want := range map[tpm.Alg]string{tpm.SHA1: v.sha1, tpm.SHA256: v.sha256} {
			got, _, err := totp.Code(totp.InMemory(keyFor(alg), alg), time.Unix(v.seconds, 0), totp.Params{Digits: 8, Alg: alg})
			if err != nil || got != want {
				t.Errorf("%s at %d: %s, %v; want %s", alg, v.seconds, got, err, want)
			}
		}
	}
}

// oathtool computes a code as a phone would.
func oathtool(t *testing.T, secret string, at time.Time, p totp.Params) string {
	t.Helper()
	out, err := exec.Command("oathtool", "--totp="+p.Alg.String(), "--digits", fmt.Sprint(p.Digits),
		"--time-step-size", p.Period.String(), "--now", at.UTC().Format("2006-01-02 15:04:05 UTC"), "--base32", secret).CombinedOutput()
	if err != nil {
		t.Fatalf("oathtool: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestCodesAgreeWithOathtool(t *testing.T) {
	testbed.Need(t, "oathtool")
	for _, alg := range []tpm.Alg{tpm.SHA1, tpm.SHA256} {
		for digits := 6; digits <= 8; digits++ {
			for _, period := range []time.Duration{30 * time.Second, time.Minute} {
				p := totp.Params{Digits: digits, Period: period, Alg: alg}
				at := time.Unix(1785312345+int64(digits)*777, 0)
				got, _, err := totp.Code(totp.InMemory(keyFor(alg), alg), at, p)
				if want := oathtool(t, string(totp.Base32(keyFor(alg))), at, p); err != nil || got != want {
					t.Errorf("%+v: %s, %v; oathtool says %s", p, got, err, want)
				}
			}
		}
	}
}

func TestACodeSaysHowLongItIsValid(t *testing.T) {
	mac := totp.InMemory(key20, tpm.SHA1)
	start := time.Unix(1111111110, 0) // a period begins
	first, left, err := totp.Code(mac, start, totp.Params{})
	if err != nil || left != 30*time.Second {
		t.Errorf("at the beginning: %s left, %v", left, err)
	}
	last, left, err := totp.Code(mac, start.Add(30*time.Second-time.Millisecond), totp.Params{})
	if err != nil || left != time.Millisecond || last != first {
		t.Errorf("at the end: %s, %s left, %v; at the beginning it was %s", last, left, err, first)
	}
	if next, _, err := totp.Code(mac, start.Add(30*time.Second), totp.Params{}); err != nil || next == first {
		t.Errorf("in the next period: %s, %v", next, err)
	}
}

func TestTheTimeZoneDoesNotMatter(t *testing.T) {
	mac := totp.InMemory(key20, tpm.SHA1)
	at := time.Unix(1111111110, 0)
	here, _, err := totp.Code(mac, at.UTC(), totp.Params{})
	if err != nil {
		t.Fatal(err)
	}
	if there, _, err := totp.Code(mac, at.In(time.FixedZone("", 9*3600)), totp.Params{}); err != nil || there != here {
		t.Errorf("%s, %v; in UTC it is %s", there, err, here)
	}
}

func TestCodeRefuses(t *testing.T) {
	now := time.Unix(1111111110, 0)
	for name, p := range map[string]totp.Params{
		"five digits":                 {Digits: 5},
		"nine digits":                 {Digits: 9},
		"a period of 10 seconds":      {Period: 10 * time.Second},
		"a period of three minutes":   {Period: 3 * time.Minute},
		"a period of half seconds":    {Period: 30*time.Second + time.Second/2},
		"a hash that no app computes": {Alg: tpm.SHA384},
	} {
		if code, _, err := totp.Code(totp.InMemory(key20, tpm.SHA1), now, p); err == nil {
			t.Errorf("%s: %s", name, code)
		}
		if _, err := totp.Verify(totp.InMemory(key20, tpm.SHA1), "755224", now, 1, p); err == nil || errors.Is(err, totp.ErrWrongCode) {
			t.Errorf("verifying, %s: %v", name, err)
		}
	}
	if code, _, err := totp.Code(totp.InMemory(key20, tpm.SHA1), time.Unix(-1, 0), totp.Params{}); err == nil {
		t.Errorf("before 1970: %s", code)
	}
	if code, _, err := totp.Code(totp.InMemory(key32, tpm.SHA256), now, totp.Params{Alg: tpm.SHA1}); err == nil {
		t.Errorf("with an HMAC of another hash: %s", code)
	}
	if code, _, err := totp.Code(totp.InMemory(key20, tpm.SM3), now, totp.Params{}); err == nil {
		t.Errorf("with a hash that can't be computed: %s", code)
	}
	broken := errors.New("broken")
	if code, _, err := totp.Code(func([]byte) ([]byte, error) { return nil, broken }, now, totp.Params{}); !errors.Is(err, broken) || code != "" {
		t.Errorf("when the TPM refuses: %q, %v", code, err)
	}
}

func TestCodeWipesTheHMAC(t *testing.T) {
	var sum []byte
	mac := func(counter []byte) (_ []byte, err error) {
		sum, err = totp.InMemory(key20, tpm.SHA1)(counter)
		return sum, err
	}
	if _, _, err := totp.Code(mac, time.Unix(59, 0), totp.Params{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sum, make([]byte, 20)) {
		t.Errorf("the HMAC is left in memory: %x", sum)
	}
}

func TestVerifyFindsThePhonesDrift(t *testing.T) {
	mac := totp.InMemory(key20, tpm.SHA1)
	now := time.Unix(1111111111, 0)
	for drift := -4; drift <= 4; drift++ {
		code, _, err := totp.Code(mac, now.Add(time.Duration(drift)*30*time.Second), totp.Params{})
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		counting := func(c []byte) ([]byte, error) { asked++; return mac(c) }
		got, err := totp.Verify(counting, code[:3]+" "+code[3:], now, 3, totp.Params{})
		if drift < -3 || drift > 3 {
			if !errors.Is(err, totp.ErrWrongCode) || asked != 7 {
				t.Errorf("a phone %d periods before: %d, %v, after %d HMACs", drift, got, err, asked)
			}
			continue
		}
		if err != nil || got != drift {
			t.Errorf("a phone %d periods before: %d, %v", drift, got, err)
		}
		if drift == 0 && asked != 1 {
			t.Errorf("clocks that agree cost %d HMACs", asked)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	mac := totp.InMemory(key20, tpm.SHA1)
	now := time.Unix(1111111111, 0)
	right, _, err := totp.Code(mac, now, totp.Params{})
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{"", " ", right[:5], right + "0", "0" + right, strings.Repeat(" ", 6), "000000", "abcdef"} {
		if steps, err := totp.Verify(mac, code, now, 1, totp.Params{}); !errors.Is(err, totp.ErrWrongCode) {
			t.Errorf("%q: %d, %v", code, steps, err)
		}
	}
	if _, err := totp.Verify(mac, right, now, totp.MaxSkew+1, totp.Params{}); err == nil || errors.Is(err, totp.ErrWrongCode) {
		t.Errorf("with too many periods: %v", err)
	}
	if _, err := totp.Verify(mac, right, now, -1, totp.Params{}); err == nil || errors.Is(err, totp.ErrWrongCode) {
		t.Errorf("with less than none: %v", err)
	}
	broken := errors.New("broken")
	if _, err := totp.Verify(func([]byte) ([]byte, error) { return nil, broken }, right, now, 1, totp.Params{}); !errors.Is(err, broken) {
		t.Errorf("when the TPM refuses: %v", err)
	}
}

func TestNewKeysDiffer(t *testing.T) {
	for alg, size := range map[tpm.Alg]int{tpm.SHA1: 20, tpm.SHA256: 32} {
		a, b := totp.NewKey(alg), totp.NewKey(alg)
		if len(a) != size || len(b) != size || bytes.Equal(a, b) {
			t.Errorf("%s: %d and %d bytes, equal: %v", alg, len(a), len(b), bytes.Equal(a, b))
		}
	}
}
