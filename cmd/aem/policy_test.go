package main

import (
	"crypto/ed25519"
	"encoding/json"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/tpm"
)

// approve signs a policy for what is in the target now, and returns the flags that
// demand it.
func (x *target) approve(l *laptop) []string {
	l.t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	stage, err := stage1.ReadDescribed(x.description, x.root)
	l.must(err)
	approved, err := launch.Approve("the real system", stage, tpm.SHA256)
	l.must(err)
	now := time.Now()
	p := &launch.Policy{Version: 1, Issued: now.Add(-time.Hour).UTC(), Expires: now.Add(time.Hour).UTC(), Hash: "sha256", Approved: []launch.Approved{approved}}
	b, err := p.Sign(key)
	l.must(err)
	policy, keyFile := filepath.Join(x.root, "policy"), filepath.Join(x.root, "key")
	l.must(os.WriteFile(policy, b, 0o600))
	l.must(os.WriteFile(keyFile, launch.PublicKeyFile(key.Public().(ed25519.PublicKey)), 0o600))
	return []string{"--policy", policy, "--policy-key", keyFile}
}

// What is approved, or launched all the same, leads to the PCRs that aem predict says
// beforehand, in every bank of both families.
func TestPredictionWithAPolicy(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		for _, approved := range []bool{true, false} {
			l := newLaptop(t, v)
			x := newTarget(l)
			policy := x.approve(l)
			if !approved {
				l.must(os.WriteFile(filepath.Join(x.root, "boot/initrd"), []byte("another"), 0o600))
				policy = append(policy, "--launch-unapproved")
			}
			args := append([]string{"predict", "--home", l.dir, "--simulated", "skinit", "--family", strings.TrimPrefix(v.String(), "TPM "), "--banks", "sha1,sha256,sha384,sha512",
				"--then", x.description, "--then-root", x.root, "--json"}, append(l.flags(""), policy...)...)
			exit, out, stderr := capture(t, args)
			var p prediction
			if exit != aem.ExitOK || json.Unmarshal([]byte(out), &p) != nil || strings.Contains(stderr, "all the same") == approved {
				t.Fatalf("approved %t: exit %d, %s", approved, exit, stderr)
			}
			start := x.starter()
			compared := 0
			start.execute = func() error {
				for _, b := range l.pcrs() {
					for _, r := range []tpm.PCR{17, 18} {
						compared++
						if got, want := p.PCRs[b.Alg.String()][uint32(r)], b.Values[r].String(); got != want {
							t.Errorf("approved %t, %s PCR %d: predicted %s, the TPM holds %s", approved, b.Alg, r, got, want)
						}
					}
				}
				return nil
			}
			captureOf(t, commands(start), l.args(append([]string{"launch", "--describe", x.description, "--root", x.root}, policy...)...))
			if compared != 2*len(l.launch.Algs) {
				t.Errorf("%s, approved %t: %d values were compared", v, approved, compared)
			}
		}
	}
}

// What is not approved is not started, whatever stands in the way, and the PCRs close.
func TestLaunchRefusesWhatNoPolicyApproves(t *testing.T) {
	for name, x := range map[string]struct {
		change func(*laptop, *target)
		exit   aem.Exit
		says   string
	}{
		"another kernel": {func(l *laptop, x *target) {
			l.must(os.WriteFile(filepath.Join(x.root, "boot/vmlinuz"), []byte("hers"), 0o600))
		}, aem.ExitMeasurements, "differs in: kernel"},
		"no policy":       {func(l *laptop, x *target) { l.must(os.Remove(filepath.Join(x.root, "policy"))) }, aem.ExitMeasurements, "no such file"},
		"no key":          {func(l *laptop, x *target) { l.must(os.Remove(filepath.Join(x.root, "key"))) }, aem.ExitError, "authority"},
		"a policy of air": {func(l *laptop, x *target) { l.must(os.WriteFile(filepath.Join(x.root, "policy"), []byte("{}"), 0o600)) }, aem.ExitMeasurements, "not signed"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLaptop(t, tpm.V20)
			target := newTarget(l)
			policy := target.approve(l)
			x.change(l, target)
			args := l.args(append([]string{"launch", "--describe", target.description, "--root", target.root}, policy...)...)
			exit, out, _ := captureOf(t, commands(target.starter()), append(args, "--dry-run"))
			if exit != x.exit || x.exit == aem.ExitMeasurements && !strings.Contains(out, "Nothing would be started: ") {
				t.Errorf("dry run: exit %d: %s", exit, out)
			}
			before := l.pcrs()
			exit, _, stderr := captureOf(t, commands(target.starter()), args)
			if exit != x.exit || !strings.Contains(stderr, x.says) || !strings.Contains(stderr, "were capped") || target.executed || target.loaded != nil {
				t.Errorf("exit %d, want %d: %s", exit, x.exit, stderr)
			}
			after := l.pcrs()
			for _, a := range before.Algs() {
				for _, p := range []tpm.PCR{17, 18} {
					if after.Value(a, p).Equal(before.Value(a, p)) {
						t.Errorf("%s PCR %d was not capped", a, p)
					}
				}
			}
		})
	}
}

// A flag without a value, as from a script's empty variable, is not taken for no policy.
func TestPolicyUsage(t *testing.T) {
	for _, args := range [][]string{{"--policy", "x"}, {"--policy-key", "x"}, {"--policy", "", "--policy-key", ""}, {"--launch-unapproved"}, {"--policy-oldest", "3"}} {
		for _, command := range [][]string{{"launch", "--describe", "x"}, {"predict", "--simulated", "txt", "--then", "x"}} {
			if exit, _, stderr := captureOf(t, commands(starter{}), append(command, args...)); exit != aem.ExitUsage {
				t.Errorf("%q %q: exit %d, %s", command, args, exit, stderr)
			}
		}
	}
	if exit, _, _ := capture(t, []string{"predict", "--simulated", "txt", "--policy", "x", "--policy-key", "y"}); exit != aem.ExitUsage {
		t.Errorf("a policy without what it is for: exit %d", exit)
	}
}

// Nobody at the console ends the program between the last extend and the start.
func TestLaunchIsNotDisturbed(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	x := newTarget(l)
	start := x.starter()
	start.execute = func() error {
		for _, s := range []unix.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGTSTP} {
			if !signal.Ignored(s) {
				t.Errorf("%s would end or stop the program", s)
			}
		}
		return nil
	}
	captureOf(t, commands(start), l.args("launch", "--describe", x.description, "--root", x.root))
}
