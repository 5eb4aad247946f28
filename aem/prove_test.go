package aem_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// answering gives one PIN after the other, and then no more.
func answering(pins []string) aem.AskPIN {
	return func(context.Context, *aem.Guesses) ([]byte, error) {
		if len(pins) == 0 {
			return nil, aem.ErrCancelled
		}
		pin := pins[0]
		pins = pins[1:]
		return []byte(pin), nil
	}
}

func TestTheStory(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.boot()
		l.wantRefusal(aem.CauseFirstBoot, aem.ExitOK)
		l.must(l.Cap(aem.Outcome{Result: aem.ResultFirstBoot})) // the boot goes on, and sealing works after the cap
		l.setUp("")
		l.boot()
		p := l.wantProof()
		if p.Boot.Launch.Platform != l.Platform || p.State != "first" {
			t.Errorf("proved as %s, state %q", p.Boot.Launch.Platform, p.State)
		}
		l.wantRefusal(aem.CauseAlready, aem.ExitMeasurements)

		good := *l
		for name, c := range map[string]struct {
			tamper func()
			what   []string
		}{
			"initramfs":           {func() { l.Initrd = []byte("an jnitramfs") }, []string{"initramfs"}},
			"kernel command line": {func() { l.CommandLine += " init=/bin/sh" }, []string{"kernel command line"}},
			"launched image":      {func() { l.Loader = bytes.Clone(l.Loader); l.Loader[8] ^= 1 }, nil},
			"kernel":              {func() { l.Kernel = testbed.BzImage("kernal") }, []string{"kernel"}},
		} {
			c.tamper()
			l.boot()
			r := l.wantRefusal(aem.CauseChanged, aem.ExitMeasurements)
			var what []string
			for _, ch := range r.Changes {
				what = append(what, ch.What)
				if ch.Before == "" || ch.After == "" || ch.Before == ch.After {
					t.Errorf("%s: the change of the %s has digests %q and %q", name, ch.What, ch.Before, ch.After)
				}
			}
			if c.what != nil && !slices.Equal(what, c.what) {
				t.Errorf("with another %s, the refusal names %q", name, what)
			}
			if len(what) == 0 {
				t.Errorf("with another %s, the refusal names nothing", name)
			}
			l.Loader, l.Kernel, l.Initrd, l.CommandLine = good.Loader, good.Kernel, good.Initrd, good.CommandLine
		}
		l.restart()
		l.wantRefusal(aem.CauseNotLaunched, aem.ExitMeasurements)
		l.boot()
		l.wantProof()
	})
}

// The commands from start to proof, on a TPM with four banks: what costs a slow
// chip its time.
func TestAProofTakesTwelveCommandsAtMost(t *testing.T) {
	for _, pin := range []string{"", "2718"} {
		l := newLaptop(t, tpm.V20, drtm.SKINIT)
		l.boot()
		l.setUp(pin)
		l.boot()
		p, err := l.prove(pin)
		l.must(err)
		// Each session and object left open would fill the TPM within a few boots.
		if l.counter.Commands > 12 || len(p.Secret) == 0 {
			t.Errorf("with PIN %q the proof took %d commands", pin, l.counter.Commands)
		}
	}
}

func TestTheNextBootIsSealedToBeforeItTakesPlace(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.boot()
		l.setUp("")
		boot, err := l.Boot()
		l.must(err)
		state, err := l.Next(boot, &drtm.Boot{Kind: drtm.Linux, Image: testbed.BzImage("new"), Initrd: []byte("new"), Line: "new"}, t.TempDir(), "update")
		l.must(err)
		present, err := boot.Present("today")
		l.must(err)
		_, err = l.Seal(l.home, []seal.State{*present, *state}, nil)
		l.must(err)
		l.boot()
		l.wantProof()
		l.Kernel, l.Initrd, l.CommandLine = testbed.BzImage("new"), []byte("new"), "new"
		l.boot()
		if p := l.wantProof(); p.State != "update" {
			t.Errorf("the updated boot is in state %q", p.State)
		}
	})
}

func TestLaunchesThatAreNone(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.boot()
		l.setUp("")

		l.boot()
		l.log.Events = nil
		l.wantRefusal(aem.CauseLogEmpty, aem.ExitMeasurements)
		l.boot()
		l.log = nil
		l.wantRefusal(aem.CauseLogEmpty, aem.ExitMeasurements)

		l.boot()
		l.log.Events = l.log.Events[:len(l.log.Events)-1]
		l.log.Events[len(l.log.Events)-1].Digests = tpm.SumAll(l.Algs, []byte("forged"))
		l.wantRefusal(aem.CauseLogUnproven, aem.ExitMeasurements)

		// The forger has locality 2 and the good launch's log, but no launch.
		l.boot()
		log := l.log
		l.restart()
		l.log = log
		for i := range log.Events {
			if e := &log.Events[i]; e.Extended() {
				l.must(testbed.Extend(l.conn, l.Version, 2, e.PCR, present(e, l.Algs)))
			}
		}
		l.wantRefusal(aem.CauseNotLaunched, aem.ExitMeasurements)
	})
}

// present keeps the digests of banks that the TPM has.
func present(e *eventlog.Event, algs []tpm.Alg) []tpm.TaggedDigest {
	var list []tpm.TaggedDigest
	for _, d := range e.Digests {
		if slices.Contains(algs, d.Alg) {
			list = append(list, d)
		}
	}
	return list
}

func TestAnOldCopyOfTheMediumIsStale(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.boot()
		l.setUp("")
		old, err := os.ReadFile(l.recordFile())
		l.must(err)
		name := filepath.Base(l.recordFile())
		l.sealNow("")
		l.must(os.Remove(l.recordFile()))
		writeFile(t, filepath.Join(l.medium, aem.RecordsFolder, name), old)
		l.boot()
		l.wantRefusal(aem.CauseStale, aem.ExitStale)
	})
}

func TestADamagedOrMissingRecord(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.boot()
		l.setUp("")
		file := l.recordFile()
		good, err := os.ReadFile(file)
		l.must(err)
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 1
		writeFile(t, file, bad)
		l.boot()
		l.wantRefusal(aem.CauseDamaged, aem.ExitDamaged)
		l.must(os.Remove(file))
		l.wantRefusal(aem.CauseRecordGone, aem.ExitDamaged)
		writeFile(t, file, good)
		l.wantProof()
	})
}

func TestPINs(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.boot()
		l.setUp("2718")
		l.boot()
		l.wantProof("3141", "2718")
		l.boot()
		if r := l.wantRefusal(aem.CausePIN, aem.ExitAuth, "3141"); r.Guesses == nil {
			t.Error("after a wrong PIN nothing is said of the tries left")
		}
		r := l.wantRefusal(aem.CauseLocked, aem.ExitLocked, strings.Split(strings.Repeat("x ", 100), " ")...)
		if r.Guesses == nil || !r.Guesses.Lock {
			t.Error("a locked TPM does not say when it takes the next try")
		}
	})
}

func TestThePINIsNotAskedForInVain(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.boot()
		l.setUp("2718")
		l.Initrd = []byte("evil")
		l.boot()
		_, err := l.Prove(t.Context(), l.records(), func(context.Context, *aem.Guesses) ([]byte, error) {
			t.Error("a changed machine asks for the PIN")
			return nil, aem.ErrCancelled
		})
		if aem.ExitOf(err) != aem.ExitMeasurements {
			t.Errorf("refused with %v", err)
		}
	})
}

func TestAnotherTPM(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.boot()
		l.setUp("")
		chip, _ := testbed.NewForeignTPM(t, l.Version)
		other := laptopWith(t, chip, l.Version, l.Platform)
		other.medium = l.medium
		other.boot()
		other.wantRefusal(aem.CauseOtherTPM, aem.ExitOtherTPM)
	})
}

// Firmware that takes the TPM for broken switches it off for a boot. It is the owner's
// all the same, also where somebody took the record away.
func TestATPMThatIsSwitchedOffIsToldFromAnother(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.boot()
		l.setUp("")
		l.boot()
		l.switchOffTPM()
		l.wantRefusal(aem.CauseSwitchedOff, aem.ExitNotPossible)
		l.must(os.RemoveAll(filepath.Join(l.medium, aem.RecordsFolder)))
		l.wantRefusal(aem.CauseSwitchedOff, aem.ExitNotPossible)
	})
}

func TestARecordForTheOtherFamily(t *testing.T) {
	l := newLaptop(t, tpm.V20, drtm.TXT)
	l.boot()
	l.setUp("")
	other := newLaptop(t, tpm.V12, drtm.TXT)
	other.medium = l.medium
	other.boot()
	other.wantRefusal(aem.CauseOtherFamily, aem.ExitOtherTPM)
}

func TestAClearedTPMIsToldFromAnother(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.boot()
		l.setUp("")
		l.clearTPM()
		l.boot()
		l.wantRefusal(aem.CauseCleared, aem.ExitOtherTPM)
	})
}

func TestARecordWithoutConditionsProvesNothing(t *testing.T) {
	l := newLaptop(t, tpm.V20, drtm.SKINIT)
	l.boot()
	l.setUp("")
	// The kept secret is sealed to this TPM in any state; an attacker with the disk
	// could put it on the medium.
	kept, err := os.ReadFile(filepath.Join(l.homeDir, "secret.aem"))
	l.must(err)
	writeFile(t, l.recordFile(), kept)
	l.boot()
	l.wantRefusal(aem.CauseDamaged, aem.ExitDamaged)
}

func TestErrorsKeepTheirExitCodes(t *testing.T) {
	if got := aem.ExitOf(errors.New("anything")); got != aem.ExitError {
		t.Errorf("an unknown error exits %d", got)
	}
	if got := aem.ExitOf(nil); got != aem.ExitOK {
		t.Errorf("success exits %d", got)
	}
}

// Neither the home folder, nor the medium, nor any error holds the secret or the PIN.
func TestNothingHoldsTheSecretInClear(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.boot()
		l.setUp("271828")
		l.boot()
		l.wantProof("271828")
		for _, dir := range []string{l.medium, l.homeDir} {
			l.must(filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				b, err := os.ReadFile(path)
				if bytes.Contains(b, []byte(sentence)) || bytes.Contains(b, []byte("271828")) {
					t.Errorf("%s holds the secret or the PIN", filepath.Base(path))
				}
				return err
			}))
		}
	})
}
