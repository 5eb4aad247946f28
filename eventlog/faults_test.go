package eventlog_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/corpus"
	"github.com/antievilmaid/aem/tpm"
)

// firmware is a static log in two banks: some events in PCRs 0, 4 and 5.
func firmware(t testing.TB) *eventlog.Log {
	t.Helper()
	log, err := eventlog.New(eventlog.Header{Format: eventlog.CryptoAgile, Algs: twoBanks})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []eventlog.Event{
		event(0, eventlog.SCRTMVersion, "v1", twoBanks...), event(4, eventlog.EFIAction, "Calling EFI Application from Boot Option", twoBanks...),
		event(5, eventlog.EFIGPTEvent, "a table", twoBanks...), event(17, eventlog.Slaunch, "launched", twoBanks...),
	} {
		if err := log.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	return log
}

func with(t testing.TB, log *eventlog.Log, events ...eventlog.Event) *eventlog.Log {
	t.Helper()
	again, err := eventlog.New(eventlog.Header{Format: eventlog.CryptoAgile, Algs: twoBanks})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range append(slices.Clone(log.Events), events...) {
		if err := again.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	return again
}

func TestFaultsAreNamedWhereTheyExplainTheTPM(t *testing.T) {
	log := firmware(t)
	locality := event(0, eventlog.NoAction, "StartupLocality\x00\x03", twoBanks...)
	action := func(text string) eventlog.Event { return event(5, eventlog.EFIAction, text, twoBanks...) }
	measured := with(t, log, locality, action("Exit Boot Services Invocation"), action("Exit Boot Services Returned with Success"))
	for name, c := range map[string]struct {
		log    *eventlog.Log
		actual tpm.Banks
		pcr    tpm.PCR
		fault  string
	}{
		"none":               {log, log.Replay(false), 4, ""},
		"a locality":         {log, measured.Replay(false), 0, "startup-locality"},
		"a final event":      {log, measured.Replay(false), 5, "exit-boot-services"},
		"events that repeat": {with(t, log, log.Events[1:3]...), log.Replay(false), 4, "events-twice"},
		"another repetition": {with(t, log, log.Events...), log.Replay(false), 5, "events-twice"},
	} {
		r := c.log.Verify(c.actual, tpm.PCRSet(c.pcr), false)
		if len(r) != 2 || !r.OK() {
			t.Errorf("%s: %+v", name, r)
			continue
		}
		for _, x := range r {
			if got := x.Fault; (got == nil) != (c.fault == "") || got != nil && got.ID != c.fault {
				t.Errorf("%s, %s: fault %+v; want %q", name, x.Alg, got, c.fault)
			}
		}
	}
}

// What a fault does not explain in every bank stays a mismatch, and a launch's log
// is not excused by the faults of firmware.
func TestFaultsExcuseNothingElse(t *testing.T) {
	log := firmware(t)
	measured := with(t, log, event(5, eventlog.EFIAction, "Exit Boot Services Invocation", twoBanks...))
	half := measured.Replay(false)
	half.Bank(tpm.SHA256).Values[5] = tpm.SHA256.Sum([]byte("something else"))
	for name, c := range map[string]struct {
		log    *eventlog.Log
		actual tpm.Banks
		pcr    tpm.PCR
	}{
		"one bank alone":                 {log, half, 5},
		"an unknown event":               {log, with(t, log, event(5, eventlog.EFIAction, "evil", twoBanks...)).Replay(false), 5},
		"an event left out":              {with(t, log, event(4, eventlog.EFIAction, "evil", twoBanks...)), log.Replay(false), 4},
		"a launch's event twice":         {with(t, log, log.Events[3]), log.Replay(true), 17},
		"a launch without the log's end": {log, with(t, log, event(17, eventlog.Slaunch, "more", twoBanks...)).Replay(true), 17},
	} {
		r := c.log.Verify(c.actual, tpm.PCRSet(c.pcr), c.pcr.Dynamic())
		for _, x := range r {
			if x.Fault != nil {
				t.Errorf("%s, %s: excused by %s", name, x.Alg, x.Fault.ID)
			}
		}
		if len(r) != 2 || r.OK() {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestALoggedResultIsMended(t *testing.T) {
	log, err := eventlog.New(eventlog.Header{Format: eventlog.CryptoAgile, Algs: twoBanks})
	if err != nil {
		t.Fatal(err)
	}
	good := event(17, eventlog.TXTHashStart, strings.Repeat("s", 36), twoBanks...)
	bad := good
	bad.Digests = slices.Clone(good.Digests)
	for i, d := range bad.Digests {
		bad.Digests[i].Digest = d.Alg.Sum(make([]byte, d.Alg.Size()), d.Digest)
	}
	actual := with(t, log, good).Replay(true)
	r := with(t, log, bad).Verify(actual, tpm.PCRSet(17), true)
	if !r.OK() || r[0].Fault == nil || r[0].Fault.ID != "logged-result" {
		t.Errorf("%+v", r)
	}
	if same := with(t, log, good); same.WithoutLoggedResult() != same {
		t.Error("a log without the fault was changed")
	}
}

// A bank that was capped proves nothing, even where all that was extended is known.
func TestCappedBanksAreUnusable(t *testing.T) {
	log := firmware(t)
	for name, fill := range map[string]byte{"zeros": 0, "ones": 0xff} {
		actual := log.Replay(false)
		bank := actual.Bank(tpm.SHA1)
		if err := bank.Extend(4, slices.Repeat([]byte{fill}, 20)); err != nil {
			t.Fatal(err)
		}
		r := log.Verify(actual, tpm.PCRSet(4), false)
		if r[0].Verdict != eventlog.Unusable || r[1].Verdict != eventlog.Match || r.OK() {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// On real machines whose PCRs are known, and where nothing was spoilt on purpose,
// every PCR has a verdict that is right. What is not a match is listed.
func TestVerdictsOnRealMachines(t *testing.T) {
	expected := map[string]int{ // results that are no match, by file
		"srtm/goeventlog-linux_tpm12.bin":                  1,  // PCR 10, which IMA extends
		"srtm/guard-IMN-SUPERMICRO-WBCL-Quote-AIKs.bin":    14, // the SHA-1 bank, capped by Windows
		"srtm/guard-t480s.bin":                             14,
		"srtm/guard-dl160-fwupd-report.bin":                4,  // PCR 0: firmware logs less than it extends; PCR 10
		"srtm/guard-failed-1.bin":                          1,  // spoilt on purpose
		"srtm/guard-hahuri-invalid-eventlog.bin":           4,  // PCRs 10 and 11
		"srtm/guard-ludmilla.bin":                          26, // a bank that the log lacks; PCR 10
		"srtm/guard-test-HP-EliteBook-830-G6-baseline.bin": 1,
		"srtm/guard-test-before.bin":                       1,
	}
	seen := 0
	for _, name := range corpus.Files(t, "srtm", "drtm", "drtm-reconstructed", "drtm-synthetic") {
		actual := corpus.Banks(t, name, "pcrs")
		log, err := eventlog.Parse(corpus.Read(t, name))
		if actual == nil || err != nil {
			continue
		}
		seen++
		var odd []string
		for _, r := range log.Verify(actual, 1<<tpm.NumPCRs-1, strings.HasPrefix(name, "drtm")) {
			if r.Verdict != eventlog.Match {
				odd = append(odd, r.Alg.String()+" "+strconv.Itoa(int(r.PCR))+" "+r.Verdict.String())
			}
		}
		if len(odd) != expected[name] {
			t.Errorf("%s: %d results are no match (%s); want %d", name, len(odd), strings.Join(odd, ", "), expected[name])
		}
	}
	if seen == 0 {
		t.Error("no log was compared")
	}
}
