package aem_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// outcome asks for the boot's outcome as the running system does.
func (l *laptop) outcome() *aem.BootOutcome {
	l.t.Helper()
	l.InInitramfs = false
	o, err := l.Outcome(l.home)
	l.must(err)
	if o.Sentence() == "" || o.Advice() == "" && !o.Proved() {
		l.t.Errorf("%s has no sentence or no advice", o.Result)
	}
	return o
}

func (l *laptop) wantOutcome(want aem.BootOutcome) {
	l.t.Helper()
	if diff := cmp.Diff(&want, l.outcome()); diff != "" {
		l.t.Errorf("the outcome is another one (-want +got):\n%s", diff)
	}
}

// begin boots into the initramfs.
func (l *laptop) begin() {
	l.t.Helper()
	l.boot()
	l.InInitramfs = true
}

// mediumID is the ID of the medium, as the set-up has it.
func (l *laptop) mediumID() aem.HexBytes {
	l.t.Helper()
	s, err := l.home.Setup()
	l.must(err)
	return s.Media[0].ID
}

// capRefused ends a run with a refusal, as aem unseal does.
func (l *laptop) capRefused(cause aem.Cause, on bool) {
	l.t.Helper()
	l.must(l.Cap(aem.Outcome{Result: aem.ResultRefused, Cause: cause}))
	if on {
		l.must(l.Cap(aem.Outcome{Result: aem.ResultContinued}))
	}
}

// A laptop with a measured disk, on which the secret is sealed.
func (l *laptop) withDisk() {
	l.t.Helper()
	l.disk("one key slot")
	l.boot()
	l.setUp("")
}

func TestTheRunningSystemLearnsWhatTheProofCameTo(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.withDisk()
		id := l.mediumID()
		opened := aem.BootOutcome{Medium: id, MediumIs: aem.FirstMedium, State: "first"}

		l.begin()
		l.wantOutcome(aem.BootOutcome{Result: aem.ResultNotAsked})
		l.begin()
		_, err := l.prove()
		l.must(err)
		l.wantOutcome(aem.BootOutcome{Result: aem.ResultUnfinished})
		for _, o := range []aem.Outcome{
			{Result: aem.ResultProved},
			{Result: aem.ResultUnanswered},
			{Result: aem.ResultRefused, Cause: aem.CauseRejected},
		} {
			l.begin()
			p, err := l.prove()
			l.must(err)
			o.Medium = p.Record.Medium
			l.must(l.Cap(o))
			want := opened
			want.Result, want.Cause, want.Steps = o.Result, o.Cause, []string{strings.TrimSpace(string(o.Result) + " " + string(o.Cause))}
			l.wantOutcome(want)
		}
		l.must(l.Cap(aem.Outcome{Result: aem.ResultContinued}))
		l.wantOutcome(aem.BootOutcome{Result: aem.ResultRefused, Cause: aem.CauseRejected, Continued: true, Medium: id, MediumIs: aem.FirstMedium,
			State: "first", Steps: []string{"refused secret-not-recognised", "continued"}})

		l.begin()
		l.must(l.Cap(aem.Outcome{Result: aem.ResultFirstBoot}))
		l.wantOutcome(aem.BootOutcome{Result: aem.ResultFirstBoot, Steps: []string{"first-boot"}})
	})
}

// Every cause, with and without the word, and before the disks were measured and after.
func TestEveryCauseOfARefusalIsFoundAgain(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			l := newLaptop(t, v, drtm.TXT)
			l.withDisk()
			for i, cause := range aem.Causes() {
				if v == tpm.V12 && i%5 != 0 {
					continue // which takes half a second for each boot, and knows no causes
				}
				on := i%2 == 0
				l.begin()
				if i%3 != 0 {
					if _, err := l.Boot(); err != nil { // measures
						t.Fatal(err)
					}
				}
				l.capRefused(cause, on)
				want := aem.BootOutcome{Result: aem.ResultRefused, Cause: cause, Continued: on, Steps: []string{"refused " + string(cause)}}
				if on {
					want.Steps = append(want.Steps, "continued")
				}
				l.wantOutcome(want)
			}
		})
	}
}

// The boot's script runs the program again until it may go on; the first run decides.
func TestSeveralRunsInOneBootAreFoundAgain(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.withDisk()
		l.begin()
		l.capRefused(aem.CauseNoMedium, false) // a stick that was not plugged in: nothing was measured
		for i := range 4 {
			r := l.wantRefusal(aem.CauseTried, aem.ExitMeasurements)
			if !strings.Contains(r.Detail, "refused no-medium") {
				t.Errorf("the second run does not say what the first came to: %s", r.Detail)
			}
			l.capRefused(aem.CauseTried, i == 3)
		}
		again := "refused tried-before"
		l.wantOutcome(aem.BootOutcome{Result: aem.ResultRefused, Cause: aem.CauseNoMedium, Continued: true,
			Steps: []string{"refused no-medium", again, again, again, again, "continued"}})
		again = "refused already-proved"

		l.begin()
		p := l.wantProof()
		r := l.wantRefusal(aem.CauseAlready, aem.ExitMeasurements)
		if !strings.Contains(r.Detail, "PCR 13 holds: proved") {
			t.Errorf("it does not say that the machine proved itself: %s", r.Detail)
		}
		l.capRefused(aem.CauseAlready, false)
		l.wantOutcome(aem.BootOutcome{Result: aem.ResultProved, Medium: p.Record.Medium[:], MediumIs: aem.FirstMedium, State: "first",
			Steps: []string{"proved", again}})

		// Killed while the secret was shown: it opens no more, and that is written down.
		l.begin()
		if _, err := l.prove(); err != nil {
			t.Fatal(err)
		}
		if r := l.wantRefusal(aem.CauseAlready, aem.ExitMeasurements); !strings.Contains(r.Detail, "did not come to its end") {
			t.Errorf("after a run that was killed: %s", r.Detail)
		}
		l.wantOutcome(aem.BootOutcome{Result: aem.ResultUnfinished})
		l.InInitramfs = true
		l.capRefused(aem.CauseAlready, true)
		l.wantOutcome(aem.BootOutcome{Result: aem.ResultRefused, Cause: aem.CauseAlready, Continued: true, Steps: []string{again, "continued"}})
	})
}

// The evil maid adds a key slot: the running system still learns why it was refused, and
// also where the header was changed once more since.
func TestAChangedDiskIsARefusalThatIsFoundAgain(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.withDisk()
		l.begin()
		l.disk("the evil maid's key slot")
		l.wantRefusal(aem.CauseChanged, aem.ExitMeasurements)
		l.capRefused(aem.CauseChanged, true)
		l.wantOutcome(aem.BootOutcome{Result: aem.ResultRefused, Cause: aem.CauseChanged, Continued: true, Steps: []string{"refused changed", "continued"}})

		// A key slot that its owner adds after the proof does not hide the proof.
		l.disk("one key slot")
		l.begin()
		l.wantProof()
		l.disk("two key slots")
		if o := l.outcome(); !o.Proved() {
			t.Errorf("with another key slot since the proof: %+v", o)
		}
		l.Disks = func([]tpm.Alg) ([]seal.Measurement, error) { return nil, aem.ErrDisk }
		if o := l.outcome(); !o.Proved() {
			t.Errorf("with the disk taken out since the proof: %+v", o)
		}
		l.begin()
		l.wantRefusal(aem.CauseNoDisk, aem.ExitMeasurements)
		l.capRefused(aem.CauseNoDisk, false)
		if o := l.outcome(); o.Cause != aem.CauseNoDisk {
			t.Errorf("without the disk: %+v", o)
		}
	})
}

// What a program can do that runs later, or that was launched in place of the approved one.
func TestAProofCannotBeForged(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.withDisk()
		id := [16]byte(l.mediumID())
		proved := aem.Outcome{Result: aem.ResultProved, Medium: id}

		l.begin()
		l.disk("another")
		l.wantRefusal(aem.CauseChanged, aem.ExitMeasurements)
		l.capRefused(aem.CauseChanged, true)
		l.must(l.Cap(proved)) // root, later in this boot
		l.wantOutcome(aem.BootOutcome{Result: aem.ResultUnknown})

		l.disk("one key slot")
		l.begin()
		l.wantProof()
		l.must(l.Cap(aem.Outcome{Result: aem.ResultContinued})) // nor the other way round
		l.wantOutcome(aem.BootOutcome{Result: aem.ResultUnknown})

		// An evil initramfs knows what to extend, but not how to be the approved one.
		good := l.Initrd
		l.Initrd = []byte("evil")
		l.begin()
		_, err := l.Boot() // measures the disk
		l.must(err)
		l.must(l.Cap(proved))
		if o := l.outcome(); o.Result != aem.ResultClaimed || o.Proved() {
			t.Errorf("what an evil initramfs says is believed: %+v", o)
		}
		// Nor may it leave the disk out.
		l.Initrd = good
		l.begin()
		l.must(l.Cap(proved))
		if o := l.outcome(); o.Result != aem.ResultClaimed {
			t.Errorf("a proof without the disk is believed: %+v", o)
		}
		// A medium that is none, and a text that is none.
		l.begin()
		l.must(l.Cap(aem.Outcome{Result: aem.ResultProved, Medium: seal.MediumID{1}}))
		l.wantOutcome(aem.BootOutcome{Result: aem.ResultUnknown})
		l.begin()
		l.must(l.Cap(aem.Outcome{Result: "proven"}))
		l.wantOutcome(aem.BootOutcome{Result: aem.ResultUnknown})
	})
}

// All banks must tell the same.
func TestAnOutcomeInOneBankIsNone(t *testing.T) {
	l := newLaptop(t, tpm.V20, drtm.SKINIT)
	l.boot()
	l.setUp("")
	for _, alg := range l.Algs {
		l.begin()
		l.must(l.Cap(aem.Outcome{Result: aem.ResultFirstBoot}))
		l.must(testbed.Extend(l.conn, l.Version, 0, tpm.PCRHost, []tpm.TaggedDigest{{Alg: alg, Digest: alg.Sum([]byte("x"))}}))
		l.wantOutcome(aem.BootOutcome{Result: aem.ResultUnknown})
	}
	if len(l.Algs) < 2 || !slices.Contains(l.Algs, tpm.SHA256) {
		t.Errorf("the TPM has the banks %v", l.Algs)
	}
}

// The digests are what docs/measurements.md says.
func TestTheCapsTextsAreThoseOfTheDocuments(t *testing.T) {
	l := newLaptop(t, tpm.V12, drtm.SKINIT)
	for _, c := range []struct {
		outcome aem.Outcome
		text    string
	}{
		{aem.Outcome{Result: aem.ResultProved, Medium: seal.MediumID{0: 1, 15: 0xfe}}, "aem: proved - 010000000000000000000000000000fe"},
		{aem.Outcome{Result: aem.ResultRefused, Cause: aem.CauseStale}, "aem: refused stale-medium -"},
		{aem.Outcome{Result: aem.ResultContinued}, "aem: continued - -"},
		{aem.Outcome{Result: aem.ResultFirstBoot}, "aem: first-boot - -"},
	} {
		l.restart()
		l.must(l.Cap(c.outcome))
		pcrs, err := l.Chip.ReadPCRs(tpm.PCRSet(tpm.PCRHost))
		l.must(err)
		if want := tpm.SHA1.Sum(make([]byte, 20), tpm.SHA1.Sum([]byte(c.text))); !want.Equal(pcrs.Value(tpm.SHA1, tpm.PCRHost)) {
			t.Errorf("%q is not what was extended", c.text)
		}
	}
}
