package totp_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/totp"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

// The whole way: a key goes into a TPM and, by a picture of the screen, to a
// phone; then both show the same code.
func TestAMachineAndAPhoneAgree(t *testing.T) {
	testbed.Need(t, "oathtool", "zbarimg")
	c, _ := testbed.NewTPM(t, tpm.V20)
	if err := c.Launch([]byte("image")); err != nil {
		t.Fatal(err)
	}
	chip := tpm2.New(c)
	storage, err := chip.MakeStorageKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	values, err := chip.ReadPCRs(tpm.PCRSet(17, 18))
	if err != nil {
		t.Fatal(err)
	}
	state, err := tpm2.StateOf(values, []tpm.Alg{tpm.SHA256}, tpm.PCRSet(17, 18))
	if err != nil {
		t.Fatal(err)
	}
	policy := &tpm2.Policy{States: []tpm2.State{state}}
	for _, p := range []totp.Params{
		{Digits: 6, Period: 30 * time.Second, Alg: tpm.SHA1, Issuer: "AEM", Account: "laptop"},
		{Digits: 8, Period: 30 * time.Second, Alg: tpm.SHA256, Issuer: "AEM", Account: "laptop"},
	} {
		key := totp.NewKey(p.Alg)
		object, err := chip.MakeHMACKey(storage, policy, nil, p.Alg, key)
		if err != nil {
			t.Fatal(err)
		}
		d := totp.Drawing{Columns: 80, Rows: 23}
		drawing, err := code(t, uri(t, key, p)).Draw(d)
		if err != nil {
			t.Fatal(err)
		}
		clear(key)

		scanned, err := url.Parse(scan(t, photograph(t, drawing, d)))
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(1785312345, 0)
		phone := oathtool(t, scanned.Query().Get("secret"), now, p)
		mac := func(counter []byte) ([]byte, error) { return chip.HMAC(storage, object, policy, 0, nil, counter) }
		machine, _, err := totp.Code(mac, now, p)
		if err != nil || machine != phone {
			t.Errorf("%s: the machine shows %s, %v, and the phone %s", p.Alg, machine, err, phone)
		}
		if steps, err := totp.Verify(mac, phone, now.Add(40*time.Second), 2, p); err != nil || steps != -1 {
			t.Errorf("%s: the code of a phone that is behind: %d periods, %v", p.Alg, steps, err)
		}
	}
}
