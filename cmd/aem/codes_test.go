package main

import (
	"encoding/base32"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/pty"
	"github.com/antievilmaid/aem/internal/totp"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// sealCodes pairs the machine with a phone and seals to the present boot. from is what
// the machine's clock says meanwhile.
func (l *laptop) sealCodes(from time.Time) (phone totp.MAC) {
	l.t.Helper()
	m, closer, err := aem.Open(aem.Where{TPM: "swtpm:" + l.emulator.Socket(), Log: l.log()}, nil)
	l.must(err)
	defer closer.Close()
	m.Now = func() time.Time { return from }
	_, err = m.Init(l.home, l.dir, nil)
	l.must(err)
	x, err := m.Pair(l.home, totp.Params{Issuer: "AEM", Account: "laptop"})
	l.must(err)
	defer x.Wipe()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(string(x.Key))
	l.must(err)
	phone = totp.InMemory(key, tpm.SHA1)
	code, _, err := totp.Code(phone, from, totp.Params{})
	l.must(err)
	_, err = x.Test(code)
	l.must(err)
	l.must(x.Keep())
	boot, err := m.Boot()
	l.must(err)
	state, err := boot.Present("first")
	l.must(err)
	_, err = m.Seal(l.home, []seal.State{*state}, nil)
	l.must(err)
	return phone
}

var shownCode = regexp.MustCompile(`\b(\d{6})   valid for \d+ seconds?`)

func TestUnsealByOneTimeCodes(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		for name, c := range map[string]struct {
			set   time.Duration // by how much the clock is set back after the sealing
			doubt string
		}{
			"a clock that is right":     {0, ""},
			"a clock that was set back": {24 * time.Hour, "The machine's clock was set back, or its battery is empty"},
		} {
			t.Run(fmt.Sprintf("%s with %s", v, name), func(t *testing.T) {
				l := newLaptop(t, v)
				phone := l.sealCodes(time.Now().Add(c.set))
				l.boot()
				before := time.Now()
				x := pty.Open(t)
				done := make(chan aem.Exit, 1)
				var out string
				go func() {
					exit, stdout, _ := capture(t, l.args("unseal", "--medium", l.dir, "--tty", x.Path, "--plain", "--json"))
					out = stdout
					done <- exit
				}()
				x.Expect(proofShown)
				after := time.Now()
				seen := strings.Join(strings.Fields(x.Seen()), " ")
				if !strings.Contains(seen, "IS THIS THE CODE ON YOUR PHONE?") || !strings.Contains(seen, "Phone AEM, laptop") ||
					strings.Contains(seen, "Clock ") != (c.doubt != "") || !strings.Contains(seen, c.doubt) {
					t.Errorf("the screen says %q", seen)
				}
				shown := shownCode.FindStringSubmatch(x.Seen())
				matches := false
				for _, at := range []time.Time{before, after} { // a period may have ended in between
					code, _, err := totp.Code(phone, at, totp.Params{})
					l.must(err)
					matches = matches || len(shown) == 2 && shown[1] == code
				}
				if !matches {
					t.Errorf("the screen shows %q, which the phone does not", shown)
				}
				x.Send("\n")
				if exit := <-done; exit != aem.ExitOK || !strings.Contains(out, `"result":"proved"`) || strings.Contains(out, "clock_doubt") != (c.doubt != "") {
					t.Errorf("exit %d, outcome %s", exit, out)
				}
			})
		}
	}
}
