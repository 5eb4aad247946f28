package eventlog

import (
	"bytes"
	"slices"

	"github.com/antievilmaid/aem/tpm"
)

// Fault is a way in which logs of real machines are known to be wrong. A fault is
// never assumed: it is applied only where the log as it stands does not lead to the
// TPM's values and the mended log does, in every bank of the PCR. Then the mended
// log is the true one, whoever wrote the other, and the fault is named in the result.
//
// Nothing here adds an event that could say something new about a machine.
type Fault struct {
	ID   string // stable, for --json
	Text string // what is wrong, as a sentence's middle
	Seen string // where it was seen
	// mend returns the logs to try for a PCR; none where the fault can't be there.
	mend func(l *Log, p tpm.PCR) []*Log
}

// Faults are the known faults; docs/formats/faults.md lists them.
var Faults = []Fault{
	{
		ID:   "logged-result",
		Text: "the launch event holds what PCR 17 held afterwards, in place of the digest",
		Seen: "older modules of Intel (Sandy Bridge to Kaby Lake)",
		mend: func(l *Log, p tpm.PCR) []*Log {
			if p != tpm.PCRCode {
				return nil
			}
			return other(l, l.WithoutLoggedResult())
		},
	},
	{
		ID:   "startup-locality",
		Text: "the event that says at which locality the TPM was started is missing or wrong",
		Seen: "firmware that starts the TPM at locality 3, or after a hardware root of trust, and does not log that",
		mend: startLocalities,
	},
	{
		ID:   "events-twice",
		Text: "the log's last events are its earlier ones once more",
		Seen: "firmware whose final events table repeats what the log already has",
		mend: func(l *Log, p tpm.PCR) []*Log {
			if p.Dynamic() {
				return nil // of a launch's log, firmware is not the writer
			}
			return other(l, withoutRepetition(l))
		},
	},
	{
		ID:   "exit-boot-services",
		Text: "the events with which the firmware ends its services are not in the log",
		Seen: "logs that the kernel copied before they were written",
		mend: exitBootServices,
	},
}

func other(l, mended *Log) []*Log {
	if mended == l {
		return nil
	}
	return []*Log{mended}
}

// mendFaults looks for a fault that explains the PCR in all banks that were compared.
func (l *Log) mendFaults(report []Result, actual tpm.Banks, launched bool) {
	wrong := func(r *Result) bool { return r.Verdict == Mismatch || r.Verdict == NoEvents && r.Replayed != nil }
	if !slices.ContainsFunc(report, func(r Result) bool { return wrong(&r) }) {
		return
	}
	for i := range Faults {
		for _, mended := range Faults[i].mend(l, report[0].PCR) {
			replayed := mended.Replay(launched)
			explains := func(r Result) bool {
				return r.Verdict == Unusable || r.Replayed == nil || replayed.Value(r.Alg, r.PCR).Equal(actual.Value(r.Alg, r.PCR))
			}
			if slices.ContainsFunc(report, func(r Result) bool { return !explains(r) }) {
				continue
			}
			for n := range report {
				if r := &report[n]; wrong(r) {
					r.Verdict, r.Fault, r.Reason = Match, &Faults[i], Faults[i].Text
					r.Replayed = replayed.Value(r.Alg, r.PCR)
				}
			}
			return
		}
	}
}

// WithoutLoggedResult returns the log with that fault mended, or the log itself
// where its launch event is as it should be.
func (l *Log) WithoutLoggedResult() *Log {
	i := slices.IndexFunc(l.Events, func(e Event) bool { return e.PCR == tpm.PCRCode && e.Type.Extended() })
	if i < 0 || l.Events[i].Type != TXTHashStart || len(l.Events[i].Data) == 0 {
		return l
	}
	e := l.Events[i]
	e.Digests = slices.Clone(e.Digests)
	found := false
	for n, d := range e.Digests {
		if !d.Alg.Available() {
			continue
		}
		input := d.Alg.Sum(e.Data)
		if d.Digest.Equal(d.Alg.Sum(make([]byte, d.Alg.Size()), input)) {
			e.Digests[n].Digest, found = input, true
		}
	}
	if !found {
		return l
	}
	return l.with(slices.Replace(slices.Clone(l.Events), i, i+1, e))
}

// with returns the log with other events.
func (l *Log) with(events []Event) *Log {
	mended := *l
	mended.Events = events
	return &mended
}

func startLocalities(l *Log, p tpm.PCR) []*Log {
	if p != 0 {
		return nil
	}
	var list []*Log
	for _, locality := range []uint8{0, 3, 4} {
		if locality != l.startLocality() {
			e := Event{Type: NoAction, Data: StartupLocality{locality}.AppendTo(nil)}
			list = append(list, l.with(slices.Insert(slices.Clone(l.Events), 0, e)))
		}
	}
	return list
}

// withoutRepetition cuts off the longest end of the log that stands in it before.
func withoutRepetition(l *Log) *Log {
	equal := func(a, b Event) bool {
		return a.PCR == b.PCR && a.Type == b.Type && bytes.Equal(a.Data, b.Data) &&
			slices.EqualFunc(a.Digests, b.Digests, func(x, y tpm.TaggedDigest) bool { return x.Alg == y.Alg && x.Digest.Equal(y.Digest) })
	}
	const most = 4096 // events; the search is quadratic
	n := len(l.Events)
	if n > most {
		return l
	}
	best := 0
	for end := n - 1; end > 0; end-- { // an earlier run that ends before index end
		k := 0
		for k < end && k < n-end && equal(l.Events[end-1-k], l.Events[n-1-k]) {
			k++
		}
		best = max(best, k)
	}
	if best == 0 {
		return l
	}
	return l.with(l.Events[:n-best])
}

// exitBootServices adds the firmware's own last events, whose digests are known.
func exitBootServices(l *Log, p tpm.PCR) []*Log {
	if p != 5 {
		return nil
	}
	const invocation, succeeded, failed = "Exit Boot Services Invocation", "Exit Boot Services Returned with Success", "Exit Boot Services Returned with Failure"
	var list []*Log
	for _, texts := range [][]string{{invocation}, {invocation, succeeded}, {invocation, failed, invocation, succeeded}, {succeeded}} {
		events := slices.Clone(l.Events)
		for _, text := range texts {
			e := Event{PCR: p, Type: EFIAction, Data: []byte(text)}
			for _, a := range l.Algs {
				if a.available() {
					e.Digests = append(e.Digests, tpm.TaggedDigest{Alg: a.Alg, Digest: a.Alg.Sum(e.Data)})
				}
			}
			events = append(events, e)
		}
		list = append(list, l.with(events))
	}
	return list
}
