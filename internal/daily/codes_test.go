//go:build debian

package daily_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/testbed"
)

// phone is what oathtool makes of the key at a time.
func (l *laptop) phone(key string, at time.Time) string {
	l.t.Helper()
	out, err := exec.Command("oathtool", "--totp", "--base32", "--now", at.UTC().Format("2006-01-02 15:04:05 UTC"), key).Output()
	l.must(err)
	return strings.TrimSpace(string(out))
}

// A one-time code in place of the sentence: the phone's test code is demanded, and the
// code on the screen of the next boot is the one that oathtool shows.
func TestOneTimeCodes(t *testing.T) {
	testbed.Need(t, "oathtool")
	l := installed(t, plain)
	l.on()
	l.proof()
	l.must(l.m.Start("aem-setup secret set totp"))
	g, err := l.m.Expect(l.ctx, `Key: ([A-Z2-7 ]+)\r?\n`)
	l.must(err)
	key := strings.ReplaceAll(strings.TrimSpace(g[1]), " ", "")
	l.expect("Code on the phone")
	l.typed("000000")
	l.expect("Not agreed")
	l.expect("Code on the phone")
	l.typed(l.phone(key, time.Now()))
	out, exit, err := l.m.Finish(l.ctx)
	l.must(err)
	if exit != 0 {
		t.Fatalf("the phone's code was not taken: %s", out)
	}
	l.run("aem-setup seal --label codes")
	l.off()

	l.on()
	g, err = l.m.Expect(l.ctx, `(\d{6})   valid for`)
	l.must(err)
	now := time.Now()
	// The code may be of the period that ended while the screen was written.
	if g[1] != l.phone(key, now) && g[1] != l.phone(key, now.Add(-30*time.Second)) {
		t.Errorf("the screen shows %s, oathtool %s", g[1], l.phone(key, now))
	}
	l.expect("this is not mine")
	l.typed("")
	l.login()
	l.nothingIsLeft(regexp.QuoteMeta(key))
}

// nothingIsLeft demands that a text is not in the places where a boot leaves things, nor in
// the kernel's log, nor in clear on the disk that is not encrypted.
func (l *laptop) nothingIsLeft(pattern string) {
	l.t.Helper()
	// The pattern goes in as a file, so that no list of processes holds it.
	l.must(l.m.CopyIn(l.ctx, "/root/pattern", 0o600, []byte(pattern)))
	if out := l.run(`grep -rlE -f /root/pattern /run /tmp /var/log /boot /var/lib/aem 2>/dev/null | grep -v ^/run/share; ls -d /run/aem* /tmp/aem* 2>/dev/null; dmesg | grep -E -f /root/pattern; true`); out != "" {
		l.t.Errorf("after the proof there is still %s", out)
	}
}
