package totp_test

import (
	"bytes"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/totp"
	"github.com/antievilmaid/aem/tpm"
)

func uri(t *testing.T, key []byte, p totp.Params) []byte {
	t.Helper()
	u, err := totp.URI(key, p)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestURILeavesDefaultsOut(t *testing.T) {
	got := uri(t, key20, totp.Params{Issuer: "AEM", Account: "laptop"})
	want := "otpauth://totp/AEM:laptop?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=AEM"
	if string(got) != want {
		t.Errorf("%s; want %s", got, want)
	}
}

func TestURIIsReadAsItWasMeant(t *testing.T) {
	p := totp.Params{Digits: 8, Period: time.Minute, Alg: tpm.SHA256, Issuer: "A&E+M 100%", Account: "Zoë's X230/?#"}
	raw := uri(t, key32, p)
	u, err := url.Parse(string(raw))
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/"+p.Issuer+":"+p.Account {
		t.Errorf("%s is for %s at %s with the label %q", raw, u.Scheme, u.Host, u.Path)
	}
	want := url.Values{"secret": {"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA"}, "issuer": {p.Issuer},
		"algorithm": {"SHA256"}, "digits": {"8"}, "period": {"60"}}
	if diff := cmp.Diff(want, u.Query()); diff != "" {
		t.Error(diff)
	}
	if bytes.ContainsAny(raw, " +") {
		t.Errorf("%s has a space or a plus sign, which apps read differently", raw)
	}
}

func TestURIRefuses(t *testing.T) {
	good := totp.Params{Issuer: "AEM", Account: "laptop"}
	for name, change := range map[string]func(p *totp.Params){
		"no issuer":                   func(p *totp.Params) { p.Issuer = "" },
		"no account":                  func(p *totp.Params) { p.Account = "" },
		"a colon, which ends a label": func(p *totp.Params) { p.Issuer = "AEM:x" },
		"a line feed":                 func(p *totp.Params) { p.Account = "a\nb" },
		"a reversing character":       func(p *totp.Params) { p.Account = "a\u202eb" },
		"bytes that are no text":      func(p *totp.Params) { p.Account = "\xff" },
		"nine digits":                 func(p *totp.Params) { p.Digits = 9 },
	} {
		p := good
		change(&p)
		if u, err := totp.URI(key20, p); err == nil {
			t.Errorf("%s: %s", name, u)
		}
	}
	if u, err := totp.URI(key20[:15], good); err == nil {
		t.Errorf("a key of 15 bytes: %s", u)
	}
	// A name in an error is fine, the key is not.
	_, err := totp.URI(key20, totp.Params{Issuer: ":", Account: "x"})
	if err == nil || strings.Contains(err.Error(), string(key20)) {
		t.Errorf("the error is %v", err)
	}
}
