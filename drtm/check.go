package drtm

import (
	"fmt"
	"slices"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// State is what is known of a launch.
type State uint8

// The states. The zero State is Unproven: what nobody has checked is not proven.
const (
	// Unproven: something was done to PCR 17, but the log does not prove what.
	Unproven State = iota
	// NotLaunched: the PCRs themselves show that there was no dynamic launch
	// since the TPM started.
	NotLaunched
	// Verified: there was a launch, and the log says truly what was measured
	// into PCRs 17 and 18. Whether that is good is for a policy to say.
	Verified
)

// String is "verified", "not launched" or "unproven".
func (s State) String() string {
	switch s {
	case Unproven:
		return "unproven"
	case NotLaunched:
		return "not launched"
	case Verified:
		return "verified"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Launch is the outcome of a [Check].
type Launch struct {
	State    State
	Platform Platform        // of the log's launch event; set also where the log is not proven
	Report   eventlog.Report // PCRs 17 and 18 in each bank, where it came to that
	Reason   string          // a sentence that says why the state is not Verified
}

// launchPCRs are what a launch's log must explain.
var launchPCRs = tpm.PCRSet(tpm.PCRCode, tpm.PCRData)

// Check judges a launch by its log and by the values that the TPM holds. actual
// must hold PCRs 17 and 18 of every bank that is active; PCRs 19 to 22 help to
// tell a launch from an extend without one, other PCRs are ignored. The log may
// be nil.
//
// "PCR 17 is not all ones" proves nothing: software at locality 2 can extend it
// without a launch. But only a launch sets it to zero. So a log that replays
// from zero to PCRs 17 and 18 in every bank, and has something in PCR 17, is a
// log of a launch, whoever wrote it down; that, and the place of the
// platform's launch event, are what Verified means.
func Check(log *eventlog.Log, actual tpm.Banks) Launch {
	if l, done := checkStart(actual); done {
		return l
	}
	if log == nil || len(log.Events) == 0 {
		return unproven("there is a launched TPM with an empty log: something was measured into PCR 17, and nothing says what")
	}
	if extendedFromOnes(log, actual) {
		return notLaunched("the log replays to the PCRs only when they start as ones: they were extended without a launch")
	}
	platform, reason := launchEvent(log)
	if reason != "" {
		l := unproven(reason)
		l.Platform = platform
		return l
	}
	l := Launch{Platform: platform, Report: log.Verify(actual, launchPCRs, true)}
	if i := slices.IndexFunc(l.Report, func(r eventlog.Result) bool { return r.Verdict != eventlog.Match }); i >= 0 {
		l.Reason = explain(l.Report[i])
		return l
	}
	if len(l.Report) != launchPCRs.Len()*len(actual) {
		l.Reason = "the log was not compared with every bank"
		return l
	}
	l.State = Verified
	return l
}

func unproven(reason string) Launch    { return Launch{State: Unproven, Reason: reason} }
func notLaunched(reason string) Launch { return Launch{State: NotLaunched, Reason: reason} }

// checkStart decides what the values alone decide.
func checkStart(actual tpm.Banks) (Launch, bool) {
	if len(actual) == 0 {
		return unproven("no PCR of the TPM could be read"), true
	}
	ones := 0
	for i := range actual {
		for p := range launchPCRs.All() {
			if actual[i].Values[p] == nil {
				return unproven(fmt.Sprintf("the %s value of PCR %d could not be read", actual[i].Alg, p)), true
			}
		}
		if actual[i].Values[tpm.PCRCode].All(0xff) {
			ones++
		}
	}
	switch {
	case ones == len(actual):
		return notLaunched("PCR 17 holds the ones that it holds after the TPM's start: there was no dynamic launch"), true
	case ones > 0:
		// A launch sets all banks, so one of them lies; don't guess which.
		return unproven("PCR 17 holds ones in some banks and not in others"), true
	}
	// A launch zeroes PCRs 17 to 22 together, and no extend leads back to ones.
	for i := range actual {
		for p := tpm.PCRData; p.Dynamic(); p++ {
			if actual[i].Values[p].All(0xff) {
				return notLaunched(fmt.Sprintf(
					"PCR 17 was extended without a launch: PCR %d still holds the ones that it holds after the TPM's start", p)), true
			}
		}
	}
	return Launch{}, false
}

// extendedFromOnes reports whether the log explains PCR 17 in every bank when
// it starts as ones.
func extendedFromOnes(log *eventlog.Log, actual tpm.Banks) bool {
	replayed := log.Replay(false)
	for i := range actual {
		if !replayed.Value(actual[i].Alg, tpm.PCRCode).Equal(actual[i].Values[tpm.PCRCode]) {
			return false
		}
	}
	return true
}

// launchEvent finds the platform by the first event that went into PCR 17.
func launchEvent(log *eventlog.Log) (p Platform, reason string) {
	i := firstCode(log)
	if i < 0 {
		return 0, "the log has no event for PCR 17"
	}
	e := &log.Events[i]
	switch {
	case isSKL(log) && e.Type == eventlog.Slaunch:
		return SKINIT, ""
	case !isSKL(log) && e.Type == eventlog.TXTHashStart:
		mended := &log.WithoutLoggedResult().Events[i]
		for _, d := range mended.Digests {
			if len(e.Data) > 0 && d.Alg.Available() && !d.Digest.Equal(d.Alg.Sum(e.Data)) {
				return TXT, fmt.Sprintf("the log's launch event contradicts itself: its %s digest is not that of its data", d.Alg)
			}
		}
		return TXT, ""
	}
	return 0, fmt.Sprintf("the log's first event for PCR 17 is %s, which is no platform's launch event", e.Type)
}

func firstCode(log *eventlog.Log) int {
	return slices.IndexFunc(log.Events, func(e eventlog.Event) bool {
		return e.PCR == tpm.PCRCode && e.Type.Extended()
	})
}

// Replay computes what the PCRs hold after the launch if its log is true. It
// differs from the log's own Replay for logs of Intel's older modules, whose
// launch event holds the PCR's value in place of the digest.
func Replay(log *eventlog.Log) tpm.Banks { return log.WithoutLoggedResult().Replay(true) }

func explain(r eventlog.Result) string {
	where := fmt.Sprintf("PCR %d of the %s bank", r.PCR, r.Alg)
	switch r.Verdict {
	case eventlog.Mismatch:
		return "the log does not replay to " + where + ": it holds " + r.Actual.String() + ", the log gives " + r.Replayed.String()
	case eventlog.NoEvents:
		return "the log says nothing of " + where + ", which was extended"
	case eventlog.Incomplete:
		return "the log is incomplete and does not explain " + where
	case eventlog.Unusable:
		return where + " holds a placeholder in place of a measurement and proves nothing; switch that bank off, in the firmware's setup or with tpm2_pcrallocate"
	}
	return where + " is not proven by the log"
}
