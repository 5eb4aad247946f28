package aem_test

import (
	"errors"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// disk stands for a LUKS volume whose header has this content.
func (l *laptop) disk(header string) {
	l.Disks = func(algs []tpm.Alg) ([]seal.Measurement, error) {
		return []seal.Measurement{{Name: "disk header 0f3a", PCR: tpm.PCRHost, Digests: tpm.SumAll(algs, []byte(header))}}, nil
	}
}

// The disk's header is part of the state: exchanged, or with another key slot, the
// machine does not prove itself, and the refusal names the disk.
func TestADisksHeaderIsMeasuredBeforeTheProof(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.disk("one key slot")
		l.boot()
		l.setUp("") // in the running system: nothing is extended by this
		l.InInitramfs = true
		l.boot()
		l.wantProof()
		l.boot()
		l.disk("the evil maid's key slot")
		r := l.wantRefusal(aem.CauseChanged, aem.ExitMeasurements)
		if len(r.Changes) != 1 || r.Changes[0].What != "disk header 0f3a" {
			t.Errorf("it names %+v", r.Changes)
		}
		// She may extend the good header herself, but not take hers away.
		l.disk("one key slot")
		l.wantRefusal(aem.CauseAlready, aem.ExitMeasurements)
		l.boot()
		l.Disks = nil
		if r := l.wantRefusal(aem.CauseChanged, aem.ExitMeasurements); len(r.Changes) != 1 {
			t.Errorf("without the disk it names %+v", r.Changes)
		}
	})
}

func TestADiskThatIsMissingIsRefused(t *testing.T) {
	if _, err := aem.ReadDisks("/", []string{"00000000-aaaa-bbbb-cccc-dddddddddddd"}, 0); !errors.Is(err, aem.ErrDisk) {
		t.Errorf("%v", err)
	}
	if r := aem.Refuse(aem.ErrDisk); r.Cause != aem.CauseNoDisk || r.Sentence() == "" || r.Advice() == "" {
		t.Errorf("%+v", r)
	}
}

// One command for each disk, and no more.
func TestADiskCostsOneCommand(t *testing.T) {
	l := newLaptop(t, tpm.V20, 2)
	l.disk("header")
	l.boot()
	l.setUp("")
	l.InInitramfs = true
	l.boot()
	if _, err := l.prove(); err != nil {
		t.Fatal(err)
	}
	if n := l.counter.Commands; n > 12 {
		t.Errorf("from start to proof there were %d commands", n)
	}
}
