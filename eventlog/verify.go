package eventlog

import (
	"bytes"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
)

// Verdict is the outcome of comparing one PCR of one bank with a log.
type Verdict uint8

// The verdicts. Only Match says that the log explains the PCR.
const (
	// Mismatch: the log leads to another value. It is the zero Verdict, so that
	// what nobody compared does not pass.
	Mismatch Verdict = iota
	// Match: the log leads to the value that the TPM holds.
	Match
	// NoEvents: the log says nothing of this PCR or bank, and the TPM holds another
	// value than after its start.
	NoEvents
	// Incomplete: the log leads to another value, and it had no room for all events,
	// lacks digests, or could not be read to its end.
	Incomplete
	// Unusable: placeholders or caps were extended into this bank in place of
	// measurements, so its value proves nothing, whatever the log says.
	Unusable
	// NotLaunched: a launch was claimed, and the TPM holds the ones of a PCR that no
	// launch has touched.
	NotLaunched
)

// String is a word or two for a table.
func (v Verdict) String() string {
	switch v {
	case Mismatch:
		return "MISMATCH"
	case Match:
		return "match"
	case NoEvents:
		return "no events"
	case Incomplete:
		return "incomplete"
	case Unusable:
		return "unusable"
	case NotLaunched:
		return "not launched"
	}
	return fmt.Sprintf("verdict %d", uint8(v))
}

// Result is the verdict on one PCR of one bank.
type Result struct {
	PCR              tpm.PCR
	Alg              tpm.Alg
	Verdict          Verdict
	Replayed, Actual tpm.Digest // Replayed is nil where the bank can't be replayed
	Reason           string     // why the verdict is not Match
	Fault            *Fault     // which the log has, where it matches only without it
}

// Report has a result for each PCR in each bank that was compared.
type Report []Result

// OK reports whether something was compared and all of it matches.
func (r Report) OK() bool {
	for _, x := range r {
		if x.Verdict != Match {
			return false
		}
	}
	return len(r) > 0
}

// Verify compares a log with what a TPM holds: each PCR of the set that actual
// has a value for, in each bank of actual. A bank that the TPM has and the log
// lacks is never a match, and one bank that agrees says nothing for another:
// otherwise an attacker would pick the bank.
//
// launched says whether a dynamic launch is claimed. A PCR without events
// matches only where it holds the value that this implies.
func (l *Log) Verify(actual tpm.Banks, pcrs tpm.PCRs, launched bool) Report {
	replayed := l.Replay(launched)
	unproven := l.unproven(actual)
	var report Report
	for p := range pcrs.All() {
		first := len(report)
		for i := range actual {
			if bank := &actual[i]; bank.Values[p] != nil {
				report = append(report, l.judge(p, bank.Alg, replayed.Value(bank.Alg, p), bank.Values[p], launched))
			}
		}
		l.mendFaults(report[first:], actual, launched)
		for i := range report[first:] {
			if r := &report[first+i]; r.Verdict == Match && unproven.Has(p) {
				r.Verdict, r.Reason = Incomplete, "the log has an event without a digest in any bank that was compared"
			}
		}
	}
	return report
}

// unproven are the PCRs for which the log has an event that no bank could prove:
// somebody may have written it in, and the value would still match.
func (l *Log) unproven(actual tpm.Banks) tpm.PCRs {
	var set tpm.PCRs
	for i := range l.Events {
		e := &l.Events[i]
		proven := !e.Extended()
		for n := range actual {
			proven = proven || tpm.Find(e.Digests, actual[n].Alg) != nil
		}
		if !proven {
			set |= tpm.PCRSet(e.PCR)
		}
	}
	return set
}

func (l *Log) judge(p tpm.PCR, alg tpm.Alg, replayed, actual tpm.Digest, launched bool) Result {
	r := Result{PCR: p, Alg: alg, Replayed: replayed, Actual: actual}
	events, missing, placeholder := l.look(p, alg)
	switch {
	case replayed == nil:
		r.Verdict, r.Reason = NoEvents, "the log has no digests for this bank, or they can't be computed here"
	case launched && p.Dynamic() && actual.All(0xff):
		r.Verdict, r.Reason = NotLaunched, "the PCR holds the ones that it holds after the TPM's start"
	case placeholder:
		r.Verdict, r.Reason = Unusable, "a placeholder or a cap was extended in place of a measurement"
	case replayed.Equal(actual):
		r.Verdict = Match
	case capped(alg, replayed, actual):
		r.Verdict, r.Reason = Unusable, "the bank was capped: zeros or ones were extended after what the log shows"
	case events == 0 && !l.Truncated && !l.Full():
		r.Verdict, r.Reason = NoEvents, "the log says nothing of this PCR, and it was extended"
	case l.Truncated:
		r.Verdict, r.Reason = Incomplete, "the log could not be read to its end"
	case l.Full():
		r.Verdict, r.Reason = Incomplete, "the log's memory is full: what was measured afterwards is not in it"
	case missing:
		r.Verdict, r.Reason = Incomplete, "some events have no digest for this bank"
	default:
		r.Reason = "the log leads to another value"
	}
	return r
}

// look counts a PCR's extended events in a bank, and notes whether some lack that
// bank's digest and whether one is no measurement.
func (l *Log) look(p tpm.PCR, alg tpm.Alg) (events int, missing, placeholder bool) {
	for i := range l.Events {
		e := &l.Events[i]
		if e.PCR != p || !e.Extended() {
			continue
		}
		d := tpm.Find(e.Digests, alg)
		if d == nil {
			missing = true
			continue
		}
		events++
		placeholder = placeholder || IsPlaceholder(d) || e.Type == TXTCapValue || e.Type == TXTRandomValue
	}
	return events, missing, placeholder
}

// IsPlaceholder recognises "OneDigest", a one and then zeros: what launched code
// extends into a bank whose algorithm it does not know.
func IsPlaceholder(d tpm.Digest) bool { return len(d) > 1 && d[0] == 1 && d[1:].All(0) }

// maxCaps is how many caps are looked for.
const maxCaps = 4

// capped reports whether the value follows from the log's by extending digests of
// zeros or of ones. Windows does that to the bank that its log does not serve, and
// a failed launch by AMD's processor to all.
func capped(alg tpm.Alg, replayed, actual tpm.Digest) bool {
	for _, fill := range []byte{0, 0xff} {
		constant := bytes.Repeat([]byte{fill}, alg.Size())
		v := replayed
		for range maxCaps {
			if v = alg.Sum(v, constant); v.Equal(actual) {
				return true
			}
		}
	}
	return false
}
