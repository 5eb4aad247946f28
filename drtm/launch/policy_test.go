package launch_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

var (
	issued  = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	expires = issued.AddDate(1, 0, 0)
)

// key is made from a word, so that runs are the same.
func key(word string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(word))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// policyFor approves of stages.
func policyFor(t testing.TB, a tpm.Alg, stages ...drtm.Stage) *launch.Policy {
	t.Helper()
	p := &launch.Policy{Version: 3, Issued: issued, Expires: expires, Hash: a.String()}
	for i, s := range stages {
		l, err := launch.Approve(fmt.Sprintf("launch %d", i), &s, a)
		if err != nil {
			t.Fatal(err)
		}
		p.Approved = append(p.Approved, l)
	}
	return p
}

func signed(t testing.TB, p *launch.Policy, k ed25519.PrivateKey) []byte {
	t.Helper()
	b, err := p.Sign(k)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// demanded makes a policy necessary for the world's machine.
func (w *world) demanded(policy []byte) *launch.Demand {
	w.machine.Demand = &launch.Demand{
		Key:    func() (ed25519.PublicKey, error) { return public(key("owner")), nil },
		Policy: func() ([]byte, error) { return policy, nil },
		Now:    func() time.Time { return issued.Add(time.Hour) },
	}
	return w.machine.Demand
}

// What is approved is launched, and what the TPM then holds is what the files, the key
// and the answer say, in every bank. The log says so, too, with the right roles.
func TestApprovedLaunch(t *testing.T) {
	each(t, func(t *testing.T, p drtm.Platform, v tpm.Version, s drtm.Stage) {
		for _, a := range []tpm.Alg{tpm.SHA256, tpm.SHA512} {
			w := newWorld(t, p, v, s)
			w.demanded(signed(t, policyFor(t, a, xenStage(), linuxStage()), key("owner")))
			w.startsAs(drtm.Approval{Key: public(key("owner")), Approved: true})
		}
	})
}

// startsAs demands that the stage is started, with the PCRs and the log of an approval.
func (w *world) startsAs(a drtm.Approval) {
	w.t.Helper()
	var started tpm.Banks
	w.machine.Execute = func() error { started = w.pcrs(); return nil }
	if err := w.machine.Launch(); !errors.Is(err, launch.ErrReturned) {
		w.t.Fatal(err)
	}
	ms, err := drtm.ChainLaunch{First: w.first, Algs: w.first.Algs, Approval: &a, Stage: &w.stage}.Measurements()
	if err != nil {
		w.t.Fatal(err)
	}
	want, err := drtm.Predict(w.first.Algs, ms)
	if err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(values(want), values(started)); diff != "" {
		w.t.Errorf("PCRs (-want +got)\n%s", diff)
	}
	log, err := eventlog.Parse(w.handed)
	if err != nil {
		w.t.Fatal(err)
	}
	if l := drtm.Check(log, started); l.State != drtm.Verified {
		w.t.Errorf("the log is %s: %s", l.State, l.Reason)
	}
	before, err := eventlog.Parse(w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	roles := append(drtm.Roles(before), drtm.RolePolicyKey, drtm.RoleApproval)
	ms, err = w.stage.Measurements(w.first.Algs)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range ms {
		roles = append(roles, m.Role)
	}
	if diff := cmp.Diff(roles, drtm.Roles(log)); diff != "" {
		w.t.Errorf("roles (-want +got)\n%s", diff)
	}
}

// Whatever stands in the way of an approval, nothing is started, the cause is told, and
// PCRs 17 and 18 are closed. By explicit choice it is started, and measured as what no
// policy approves of; what is sealed to an approved launch does not open then.
func TestNotApproved(t *testing.T) {
	good := policyFor(t, tpm.SHA256, linuxStage())
	file := signed(t, good, key("owner"))
	old, empty := *good, *good
	old.Version, empty.Approved = 2, nil
	changed := bytes.Replace(file, []byte(`"version": 3`), []byte(`"version": 4`), 1)
	bare := file[bytes.IndexByte(file, '{'):]
	policy := func(b []byte) func(*world) { return func(w *world) { w.demanded(b) } }
	stage := func(change func(*drtm.Stage)) func(*world) {
		return func(w *world) { w.demanded(file); change(&w.stage) }
	}
	clock := func(now time.Time) func(*world) {
		return func(w *world) { w.demanded(file).Now = func() time.Time { return now } }
	}
	for name, x := range map[string]struct {
		make func(*world)
		want error
		says string
	}{
		"missing":             {func(w *world) { w.demanded(nil).Policy = func() ([]byte, error) { return nil, os.ErrNotExist } }, os.ErrNotExist, ""},
		"empty":               {policy(nil), launch.ErrPolicy, ""},
		"unsigned":            {policy(bare), launch.ErrUnsigned, ""},
		"without a signature": {policy(bytes.Replace(file, []byte("signature "), []byte("signed "), 1)), launch.ErrUnsigned, ""},
		"signed by another":   {policy(signed(t, good, key("maid"))), launch.ErrWrongKey, ""},
		"another's as ours": {policy(bytes.Replace(signed(t, good, key("maid")), fmt.Appendf(nil, "key %x", public(key("maid"))), fmt.Appendf(nil, "key %x", public(key("owner"))), 1)),
			launch.ErrSignature, ""},
		"changed":               {policy(changed), launch.ErrSignature, ""},
		"cut off":               {policy(file[:len(file)-2]), launch.ErrSignature, ""},
		"older":                 {func(w *world) { w.demanded(signed(t, &old, key("owner"))).Oldest = 3 }, launch.ErrOldPolicy, ""},
		"expired":               {clock(expires), launch.ErrExpired, ""},
		"a clock that is reset": {clock(time.Unix(0, 0)), launch.ErrNotYet, ""},
		"names nothing":         {policy(signed(t, &empty, key("owner"))), launch.ErrNotListed, "names none"},
		"another kernel":        {stage(func(s *drtm.Stage) { s.Image = append([]byte(nil), append(s.Image, 0)...) }), launch.ErrNotListed, "differs in: kernel"},
		"a truncated kernel":    {stage(func(s *drtm.Stage) { s.Image = s.Image[:len(s.Image)-1] }), launch.ErrNotListed, "differs in: kernel"},
		"another line":          {stage(func(s *drtm.Stage) { s.Line += " init=/bin/sh" }), launch.ErrNotListed, "differs in: kernel command line"},
		"another initramfs":     {stage(func(s *drtm.Stage) { s.Initrd = []byte("hers") }), launch.ErrNotListed, "differs in: initramfs"},
		"a fact more":           {stage(func(s *drtm.Stage) { s.Facts = []drtm.Fact{{Kind: drtm.FactCPU, Sum: sum("x")}} }), launch.ErrNotListed, "outline, fact"},
		"another kind":          {stage(func(s *drtm.Stage) { *s = xenStage() }), launch.ErrNotListed, "hypervisor"},
	} {
		for _, v := range []tpm.Version{tpm.V12, tpm.V20} {
			t.Run(fmt.Sprintf("%s/%s", name, v), func(t *testing.T) {
				w := newWorld(t, drtm.SKINIT, v, linuxStage())
				x.make(w)
				f := w.refused()
				if !errors.Is(f, launch.ErrNotApproved) || !errors.Is(f, x.want) || !strings.Contains(f.Error(), x.says) || f.Step != launch.Approval || !f.Capped || w.loaded != nil {
					t.Errorf("step %s, capped %v, loaded %v: %v", f.Step, f.Capped, w.loaded != nil, f)
				}
				w.closed("")
			})
		}
		t.Run(name+"/anyway", func(t *testing.T) {
			w := newWorld(t, drtm.TXT, tpm.V20, linuxStage())
			x.make(w)
			var told error
			w.machine.Demand.Anyway = func(err error) { told = err }
			w.startsAs(drtm.Approval{Key: public(key("owner"))})
			if !errors.Is(told, x.want) || !errors.Is(told, launch.ErrNotApproved) {
				t.Errorf("told: %v", told)
			}
		})
	}
}

func sum(content string) func([]tpm.Alg) ([]tpm.TaggedDigest, error) {
	return func(a []tpm.Alg) ([]tpm.TaggedDigest, error) { return tpm.SumAll(a, []byte(content)), nil }
}

// Where the key that has to sign is not known, nothing is launched, by no choice.
func TestDemandWithoutAKey(t *testing.T) {
	w := newWorld(t, drtm.TXT, tpm.V20, linuxStage())
	d := w.demanded(signed(t, policyFor(t, tpm.SHA256, linuxStage()), key("owner")))
	d.Key = func() (ed25519.PublicKey, error) { return nil, os.ErrNotExist }
	d.Anyway = func(error) {}
	if f := w.refused(); f.Step != launch.Authority || !errors.Is(f, os.ErrNotExist) || !f.Capped {
		t.Error(f)
	}
	w.closed("")
}

// The key is in the TPM before the policy is read.
func TestKeyIsMeasuredFirst(t *testing.T) {
	w := newWorld(t, drtm.TXT, tpm.V20, linuxStage())
	want := w.pcrs()
	for i := range want {
		if err := want[i].Extend(18, want[i].Alg.Sum(public(key("owner")))); err != nil {
			t.Fatal(err)
		}
	}
	var got tpm.Banks
	w.demanded(nil).Policy = func() ([]byte, error) { got = w.pcrs(); return nil, os.ErrNotExist }
	w.refused()
	if diff := cmp.Diff(values(want), values(got)); diff != "" {
		t.Errorf("PCRs when the policy is read (-want +got)\n%s", diff)
	}
}

// The TPM breaks at each extend of an approved launch in turn.
func TestApprovedExtendsThatBreakOff(t *testing.T) {
	policy := signed(t, policyFor(t, tpm.SHA256, linuxStage()), key("owner"))
	for _, v := range []tpm.Version{tpm.V12, tpm.V20} {
		for n := 1; n <= 6; n++ {
			w := newWorld(t, drtm.TXT, v, linuxStage())
			w.demanded(policy)
			w.broken = n
			step := launch.Extend
			if n == 1 {
				step = launch.Authority
			}
			if f := w.refused(); f.Step != step || !errors.Is(f, errBroken) || !f.Capped || w.sent != n+2 {
				t.Errorf("%s, extend %d, %d sent: %v", v, n, w.sent, f)
			}
			w.closed("")
		}
	}
}

// A plan asks the policy and changes nothing; a prediction has its answer.
func TestPlanAndPredictionAskThePolicy(t *testing.T) {
	for name, approved := range map[string]bool{"listed": true, "not listed": false} {
		w := newWorld(t, drtm.SKINIT, tpm.V12, linuxStage())
		listed := linuxStage()
		if !approved {
			listed.Line += " other"
		}
		d := w.demanded(signed(t, policyFor(t, tpm.SHA384, listed), key("owner")))
		p, err := w.machine.Plan()
		if err != nil {
			t.Fatal(err)
		}
		if p.Approval.Approved != approved || errors.Is(p.Refusal, launch.ErrNotListed) == approved || w.sent != 0 || len(p.Measurements) != 6 {
			t.Errorf("%s: %+v, %v, %d extends", name, p.Approval, p.Refusal, w.sent)
		}
		a, err := d.Approval(&w.stage)
		if approved != (err == nil) || approved && !a.Approved || !approved && !errors.Is(err, launch.ErrNotApproved) {
			t.Errorf("%s: predicted %+v, %v", name, a, err)
		}
		d.Anyway = func(error) {}
		if a, err := d.Approval(&w.stage); err != nil || a.Approved != approved || !bytes.Equal(a.Key, public(key("owner"))) {
			t.Errorf("%s, anyway: predicted %+v, %v", name, a, err)
		}
		d.Policy = func() ([]byte, error) { return nil, os.ErrNotExist }
		if a, err := d.Approval(&w.stage); err != nil || a.Approved {
			t.Errorf("%s, without the policy: predicted %+v, %v", name, a, err)
		}
	}
}

// One byte changed anywhere in a policy's file is noticed.
func TestEveryByteOfAPolicyCounts(t *testing.T) {
	file := signed(t, policyFor(t, tpm.SHA256, linuxStage()), key("owner"))
	for i := range file {
		b := bytes.Clone(file)
		b[i] ^= 1
		if _, err := launch.ReadPolicy(b, public(key("owner"))); err == nil {
			t.Errorf("byte %d can be changed", i)
		}
	}
}

// A signed file is a policy only if it says all that a policy says.
func TestPoliciesThatAreRefused(t *testing.T) {
	digest := strings.Repeat("0a", 32)
	for name, change := range map[string]func(*launch.Policy){
		"no version":       func(p *launch.Policy) { p.Version = 0 },
		"no date":          func(p *launch.Policy) { p.Issued = time.Time{} },
		"no expiry":        func(p *launch.Policy) { p.Expires = time.Time{} },
		"backwards":        func(p *launch.Policy) { p.Expires = p.Issued },
		"a weak hash":      func(p *launch.Policy) { p.Hash = "sha1" },
		"an unknown hash":  func(p *launch.Policy) { p.Hash = "sha3" },
		"capitals":         func(p *launch.Policy) { p.Hash = "SHA256" },
		"no label":         func(p *launch.Policy) { p.Approved[0].Label = "" },
		"a label of codes": func(p *launch.Policy) { p.Approved[0].Label = "\x1b[2J" },
		"no parts":         func(p *launch.Policy) { p.Approved[0].Parts = nil },
		"another PCR":      func(p *launch.Policy) { p.Approved[0].Parts[0].PCR = 16 },
		"a short digest":   func(p *launch.Policy) { p.Approved[0].Parts[0].Digest = digest[2:] },
		"capital digits":   func(p *launch.Policy) { p.Approved[0].Parts[0].Digest = strings.ToUpper(digest) },
		"no digest":        func(p *launch.Policy) { p.Approved[0].Parts[0].Digest = "" },
	} {
		p := policyFor(t, tpm.SHA256, linuxStage())
		change(p)
		if b, err := p.Sign(key("owner")); b != nil || !errors.Is(err, launch.ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, body := range map[string]string{"null": "null", "twice": `{"version":1,"version":2}`, "unknown": `{"x":1}`, "more": `{} {}`} {
		if _, err := launch.ReadPolicy(signedBody(body), public(key("owner"))); !errors.Is(err, launch.ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := launch.ReadPolicy(signedBody("{}"), nil); !errors.Is(err, launch.ErrKey) {
		t.Errorf("without a key: %v", err)
	}
	if _, err := launch.ReadPolicy(make([]byte, launch.MaxPolicy+1), public(key("owner"))); !errors.Is(err, launch.ErrPolicy) {
		t.Errorf("too long: %v", err)
	}
}

// signedBody signs anything, by the format's document alone.
func signedBody(body string) []byte {
	title := "aem launch policy 1\n"
	return fmt.Appendf(nil, "%skey %x\nsignature %x\n%s", title, public(key("owner")), ed25519.Sign(key("owner"), []byte(title+body)), body)
}

func TestKeyFiles(t *testing.T) {
	k := key("owner")
	secret, pub := launch.SecretKeyFile(k), launch.PublicKeyFile(public(k))
	if got, err := launch.ParseSecretKey(secret); err != nil || !got.Equal(k) {
		t.Errorf("the secret key: %v", err)
	}
	if got, err := launch.ParsePublicKey(pub); err != nil || !got.Equal(public(k)) {
		t.Errorf("the public key: %v", err)
	}
	if want := fmt.Sprintf("aem launch policy public key 1 %x\n", public(k)); string(pub) != want {
		t.Errorf("%q, want %q", pub, want)
	}
	for name, b := range map[string][]byte{
		"the other half": secret, "nothing": nil, "a line more": append(bytes.Clone(pub), '\n'), "no end": pub[:len(pub)-1],
		"cut off": append(bytes.Clone(pub[:len(pub)-3]), '\n'), "no digits": append(bytes.Clone(pub[:len(pub)-3]), "zz\n"...), "capitals": bytes.ToUpper(pub),
	} {
		if _, err := launch.ParsePublicKey(b); !errors.Is(err, launch.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := launch.ParseSecretKey(pub); !errors.Is(err, launch.ErrKey) {
		t.Errorf("the public key as the secret one: %v", err)
	}
}

// A signed file is never more than what it says, and one that can be read can be
// signed again as it is.
func FuzzReadPolicy(f *testing.F) {
	seeds := []string{"{}", "null", `{"version":1,"issued":"2026-11-21T12:00:00Z","expires":"2027-11-21T12:00:00Z","hash":"sha256","approved":[]}`}
	for _, s := range []drtm.Stage{linuxStage(), xenStage()} {
		b := signed(f, policyFor(f, tpm.SHA384, s), key("owner"))
		seeds = append(seeds, string(b[bytes.IndexByte(b, '{'):]))
	}
	for _, s := range seeds {
		f.Add([]byte(s), true)
		f.Add(signedBody(s), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, sign bool) {
		if sign {
			b = signedBody(string(b))
		}
		p, err := launch.ReadPolicy(b, public(key("owner")))
		if err != nil {
			for _, known := range []error{launch.ErrPolicy, launch.ErrUnsigned, launch.ErrWrongKey, launch.ErrSignature} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Fatalf("no known cause: %v", err)
		}
		again, err := launch.ReadPolicy(signed(t, p, key("owner")), public(key("owner")))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, again); diff != "" {
			t.Error(diff)
		}
		_ = p.Holds(issued, 1)
		if label, err := p.Lists(nil); err == nil {
			t.Errorf("%q approves of nothing at all", label)
		}
	})
}
