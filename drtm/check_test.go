package drtm_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// fresh are the values of a TPM that was started and not launched.
func fresh(algs ...tpm.Alg) tpm.Banks {
	bs := make(tpm.Banks, len(algs))
	for i, a := range algs {
		bs[i].Alg = a
		bs[i].Reset(tpm.PCRSet(13, 17, 18, 19, 20, 21, 22), false)
	}
	return bs
}

func extend(t testing.TB, bs tpm.Banks, p tpm.PCR, data string) {
	t.Helper()
	for i := range bs {
		if err := bs[i].Extend(p, bs[i].Alg.Sum([]byte(data))); err != nil {
			t.Fatal(err)
		}
	}
}

// only keeps some PCRs and forgets the others.
func only(bs tpm.Banks, set tpm.PCRs) tpm.Banks {
	bs = bs.Clone()
	for i := range bs {
		for p := range bs[i].Values {
			if !set.Has(tpm.PCR(p)) {
				bs[i].Values[p] = nil
			}
		}
	}
	return bs
}

func TestALaunchThatItsLogProves(t *testing.T) {
	each(t, func(t *testing.T, p drtm.Platform, v tpm.Version) {
		l := launch(p, v)
		log, actual := written(t, l), predict(t, l)
		for name, bs := range map[string]tpm.Banks{"PCRs 17 to 22": actual, "PCRs 17 and 18": only(actual, tpm.PCRSet(17, 18))} {
			got := drtm.Check(log, bs)
			if got.State != drtm.Verified || got.Platform != p || got.Reason != "" {
				t.Errorf("with %s: %s, %s: %s", name, got.State, got.Platform, got.Reason)
			}
			if want := 2 * len(bs); len(got.Report) != want || !got.Report.OK() {
				t.Errorf("with %s: the report has %d results; want %d", name, len(got.Report), want)
			}
		}
	})
}

// Software that runs after the launch extends PCRs 19 and 13; that is not the
// launch's matter.
func TestOtherPCRsDoNotMatter(t *testing.T) {
	l := launch(drtm.TXT, tpm.V20)
	actual := predict(t, l)
	extend(t, actual, 19, "later software")
	if got := drtm.Check(written(t, l), actual); got.State != drtm.Verified {
		t.Errorf("%s: %s", got.State, got.Reason)
	}
}

// Each case is one lie, or one gap, and each has a sentence of its own.
func TestALaunchThatIsNotProven(t *testing.T) {
	l := launch(drtm.TXT, tpm.V20)
	good := predict(t, l)
	sha := tpm.SHA256
	changed := func(f func(bs tpm.Banks)) tpm.Banks { bs := good.Clone(); f(bs); return bs }
	log := func(f func(l *eventlog.Log)) *eventlog.Log {
		c := *written(t, l)
		c.Events = slices.Clone(c.Events)
		f(&c)
		return &c
	}
	same := written(t, l)
	evil := launch(drtm.TXT, tpm.V20)
	evil.Initrd = []byte("an initramfs, evil")
	ones := bytes.Repeat([]byte{0xff}, 32)

	for name, c := range map[string]struct {
		log    *eventlog.Log
		actual tpm.Banks
		state  drtm.State
		reason string
	}{
		"nothing was read":               {same, nil, drtm.Unproven, "no PCR of the TPM could be read"},
		"PCR 17 was not read":            {same, only(good, tpm.PCRSet(18)), drtm.Unproven, "PCR 17 could not be read"},
		"PCR 18 was not read":            {same, only(good, tpm.PCRSet(17)), drtm.Unproven, "PCR 18 could not be read"},
		"no launch":                      {same, fresh(sha), drtm.NotLaunched, "there was no dynamic launch"},
		"no launch, no log":              {nil, fresh(sha), drtm.NotLaunched, "there was no dynamic launch"},
		"ones in one bank":               {same, changed(func(bs tpm.Banks) { bs[1].Values[17] = ones }), drtm.Unproven, "in some banks"},
		"no log":                         {nil, good, drtm.Unproven, "launched TPM with an empty log"},
		"an empty log":                   {log(func(l *eventlog.Log) { l.Events = nil }), good, drtm.Unproven, "launched TPM with an empty log"},
		"PCR 18 still ones":              {same, changed(func(bs tpm.Banks) { bs[1].Values[18] = ones }), drtm.NotLaunched, "PCR 18 still holds the ones"},
		"PCR 22 still ones":              {same, changed(func(bs tpm.Banks) { bs[1].Values[22] = ones }), drtm.NotLaunched, "PCR 22 still holds the ones"},
		"another initramfs":              {same, predict(t, evil), drtm.Unproven, "PCR 17 of the sha1 bank"},
		"another PCR 18, SHA-256":        {same, changed(func(bs tpm.Banks) { bs[1].Values[18] = sha.Sum(nil) }), drtm.Unproven, "PCR 18 of the sha256 bank"},
		"a bank that the log lacks":      {same, append(good.Clone(), only(predictIn(t, l, tpm.SHA384), tpm.PCRSet(17, 18))...), drtm.Unproven, "sha384 bank"},
		"an event more than measured":    {log(func(l *eventlog.Log) { l.Events = append(l.Events, l.Events[len(l.Events)-2]) }), good, drtm.Unproven, "PCR 17 of the sha1 bank"},
		"a last event that was cut off":  {log(func(l *eventlog.Log) { l.Events = l.Events[:len(l.Events)-2] }), good, drtm.Unproven, "PCR 17 of the sha1 bank"},
		"a launch event that is missing": {log(func(l *eventlog.Log) { l.Events = l.Events[1:] }), good, drtm.Unproven, "no platform's launch event"},
		"nothing in PCR 17":              {log(func(l *eventlog.Log) { l.Events = l.Events[9:15] }), good, drtm.Unproven, "no event for PCR 17"},
		"a bank with a placeholder": {log(func(l *eventlog.Log) { l.Events[1].Digests[0].Digest = append(tpm.Digest{1}, make(tpm.Digest, 19)...) }), good,
			drtm.Unproven, "proves nothing"},
		"another type for the launch": {log(func(l *eventlog.Log) { l.Events[0].Type = eventlog.Slaunch }), good, drtm.Unproven,
			"no platform's launch event"},
		"a launch event of other data": {log(func(l *eventlog.Log) { l.Events[0].Data = []byte("another SINIT") }), good, drtm.Unproven,
			"contradicts itself"},
	} {
		got := drtm.Check(c.log, c.actual)
		if got.State != c.state || !strings.Contains(got.Reason, c.reason) {
			t.Errorf("%s: %s: %s", name, got.State, got.Reason)
		}
	}
}

func predictIn(t testing.TB, l drtm.LinuxLaunch, algs ...tpm.Alg) tpm.Banks {
	l.Algs = algs
	return predict(t, l)
}

// Whoever reaches locality 2 on a machine without a launch can extend PCRs 17
// and 18 with all the right digests, and bring the right log. The values then
// start from ones.
func TestExtendsWithoutALaunch(t *testing.T) {
	each(t, func(t *testing.T, p drtm.Platform, v tpm.Version) {
		l := launch(p, v)
		forged := fresh(l.Algs...)
		for _, m := range measurements(t, l) {
			for i := range forged {
				if !m.Extended() {
					continue
				}
				if err := forged[i].Extend(m.PCR, tpm.Find(m.Digests, forged[i].Alg)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for name, bs := range map[string]tpm.Banks{"all PCRs": forged, "PCRs 17 and 18": only(forged, tpm.PCRSet(17, 18))} {
			got := drtm.Check(written(t, l), bs)
			if got.State != drtm.NotLaunched || !strings.Contains(got.Reason, "extended without a launch") {
				t.Errorf("%s: %s: %s", name, got.State, got.Reason)
			}
		}
	})
}

// Some of Intel's older modules log the PCR's value in place of the digest.
func TestALaunchEventThatHoldsTheResult(t *testing.T) {
	l := launch(drtm.TXT, tpm.V20)
	log := written(t, l)
	e := &log.Events[0]
	for i, d := range e.Digests {
		e.Digests[i].Digest = d.Alg.Sum(make([]byte, d.Alg.Size()), d.Digest)
	}
	if got := drtm.Check(log, predict(t, l)); got.State != drtm.Verified {
		t.Errorf("%s: %s", got.State, got.Reason)
	}
	if diff := cmp.Diff(values(predict(t, l)), values(drtm.Replay(log))); diff != "" {
		t.Errorf("the replay is another one (-launch +replay)\n%s", diff)
	}
	// Where the log is as it should be, nothing is mended.
	log = written(t, l)
	if diff := cmp.Diff(values(log.Replay(true)), values(drtm.Replay(log))); diff != "" {
		t.Errorf("(-log +launch)\n%s", diff)
	}
}

// Logs of real machines, with the values that their TPMs held.
func TestLogsOfRealLaunches(t *testing.T) {
	for name, want := range map[string]drtm.Platform{
		"drtm/drtmtests-linux-v0.5.3-rc1.bin":                          drtm.SKINIT,
		"drtm-reconstructed/suhho1993-intelsecl-RHELHostManifest.bin":  drtm.TXT,
		"drtm-reconstructed/lsubash-esxi-host_manifest.bin":            drtm.TXT,
		"drtm-reconstructed/3mdeb-aem3-hp-elitedesk-800g2-txt-xen.bin": drtm.TXT,
		"drtm-synthetic/linux-slaunch-eventlog-txt.bin":                drtm.TXT,
		"drtm-synthetic/txt-tpm12-container-da.bin":                    drtm.TXT,
		"drtm-synthetic/txt-tpm12-container-lg.bin":                    drtm.TXT,
		"drtm-synthetic/skl-tpm12.bin":                                 drtm.SKINIT,
	} {
		log, actual := corpusLog(t, name)
		got := drtm.Check(log, actual)
		if got.State != drtm.Verified || got.Platform != want {
			t.Errorf("%s: %s, %s: %s", name, got.State, got.Platform, got.Reason)
		}
		// The same log with one bit of one digest changed proves nothing.
		last := slices.IndexFunc(log.Events, func(e eventlog.Event) bool { return e.PCR == 18 && e.Type.Extended() })
		log.Events[last].Digests[0].Digest = append(tpm.Digest{log.Events[last].Digests[0].Digest[0] ^ 1}, log.Events[last].Digests[0].Digest[1:]...)
		if got := drtm.Check(log, actual); got.State != drtm.Unproven {
			t.Errorf("%s, changed: %s", name, got.State)
		}
	}
}

// What Check believes must follow from the values, whatever the log says.
func FuzzCheck(f *testing.F) {
	for _, p := range []drtm.Platform{drtm.TXT, drtm.SKINIT} {
		for _, v := range []tpm.Version{tpm.V12, tpm.V20} {
			l := launch(p, v)
			stage, err := wholeStage().Measurements(l.Algs)
			if err != nil {
				f.Fatal(err)
			}
			ms := measurements(f, l)
			for _, ms := range [][]drtm.Measurement{ms, append(slices.Clone(ms), stage...)} {
				log, err := drtm.BuildLog(p, v, l.Algs, ms)
				if err != nil {
					f.Fatal(err)
				}
				b, err := log.AppendTo(nil)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(b[:min(len(b), 8192)])
			}
		}
	}
	l := launch(drtm.TXT, tpm.V20)
	actual := predict(f, l)
	things, err := drtm.Things(nil, &drtm.Boot{Kind: drtm.Linux, Image: bzImage()}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		log, _ := eventlog.Parse(b)
		if log == nil {
			return
		}
		if n := len(drtm.Roles(log)); n != len(log.Events) {
			t.Errorf("%d roles for %d events", n, len(log.Events))
		}
		drtm.Next(log, things)
		got := drtm.Check(log, actual)
		if got.State != drtm.Verified {
			return
		}
		replayed := log.Replay(true)
		for _, a := range actual.Algs() {
			for _, p := range []tpm.PCR{17, 18} {
				if !replayed.Value(a, p).Equal(actual.Value(a, p)) && log.Events[0].Type != eventlog.TXTHashStart {
					t.Errorf("verified, although PCR %d of the %s bank does not replay", p, a)
				}
			}
		}
	})
}
