package drtm_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

func chainLog(t *testing.T, l drtm.LinuxLaunch, target drtm.Target) *eventlog.Log {
	t.Helper()
	ms, err := target.Measurements()
	if err != nil {
		t.Fatal(err)
	}
	log, err := drtm.BuildLog(l.Platform, l.Version, l.Algs, ms)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func bytesOf(t *testing.T, log *eventlog.Log) []byte {
	t.Helper()
	b, err := log.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The log of a chain without what its stage measured is that of the launch, to the byte;
// and the stage added again makes the chain's, from whichever launch it was computed.
func TestAStageIsTakenAwayAndAddedAgain(t *testing.T) {
	approval := &drtm.Approval{Key: []byte("key"), Approved: true}
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		for _, p := range []drtm.Platform{drtm.SKINIT, drtm.TXT} {
			for _, a := range []*drtm.Approval{nil, approval} {
				l := launch(p, v)
				alone := chainLog(t, l, l)
				chain := chainLog(t, l, drtm.ChainLaunch{First: l, Algs: l.Algs, Approval: a, Stage: wholeStage()})
				if diff := cmp.Diff(bytesOf(t, alone), bytesOf(t, drtm.WithoutStage(chain))); diff != "" {
					t.Errorf("%s on %s: without its stage (-want +got)\n%s", p, v, diff)
				}
				if drtm.WithoutStage(alone) != alone {
					t.Errorf("%s on %s: a log without a stage was changed", p, v)
				}
				boot := &drtm.Boot{Kind: drtm.Linux, Loader: l.Loader, Image: l.Kernel, Initrd: l.Initrd, Line: l.CommandLine}
				things, err := drtm.Things(boot, boot, nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, good := range []*eventlog.Log{alone, chain} {
					f, err := drtm.Next(drtm.WithoutStage(good), things)
					if err != nil {
						t.Fatal(err)
					}
					if err := f.Then(good, a, wholeStage()); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(bytesOf(t, chain), bytesOf(t, f.Log)); diff != "" || f.Launch != len(alone.Events) {
						t.Errorf("%s on %s: with its stage, behind %d events (-want +got)\n%s", p, v, f.Launch, diff)
					}
				}
			}
		}
	}
}

// What differs from the good launch's stage is said of each event; and what a kernel says
// of the machine is the good launch's, or assumed.
func TestStepsOfAStage(t *testing.T) {
	l := launch(drtm.SKINIT, tpm.V20)
	good := chainLog(t, l, drtm.ChainLaunch{First: l, Algs: l.Algs, Stage: wholeStage()})
	for name, x := range map[string]struct {
		good *eventlog.Log
		want []string // of what changed
		cpu  drtm.How
	}{
		"behind a chain":     {good, []string{"kernel", "boot module's command line"}, drtm.Kept},
		"for the first time": {chainLog(t, l, l), nil, drtm.Assumed},
	} {
		s := wholeStage()
		s.Modules[0].Content, s.Modules[2].Line = []byte("newer"), "newer"
		s.Facts[1] = fact(drtm.FactCPU, "", "what dom0 is told")
		s.KeepFacts(x.good)
		f := &drtm.Forecast{Log: chainLog(t, l, l)}
		if err := f.Then(x.good, nil, s); err != nil {
			t.Fatal(err)
		}
		var changed []string
		for _, step := range f.Steps {
			if step.Changed {
				changed = append(changed, step.Role.String())
			}
		}
		if x.want != nil && !slices.Equal(changed, x.want) || x.want == nil && len(changed) != len(f.Steps) {
			t.Errorf("%s: changed are %q of %d", name, changed, len(f.Steps))
		}
		if last := f.Steps[len(f.Steps)-1]; last.How != x.cpu {
			t.Errorf("%s: the CPU is %s, want %s", name, last.How, x.cpu)
		}
		if one := f.Steps[0]; one.How != drtm.Recomputed || one.Role != drtm.RoleStage || one.Event != len(f.Log.Events)-len(f.Steps) {
			t.Errorf("%s: the outline is %+v", name, one)
		}
	}
}
