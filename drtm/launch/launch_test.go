package launch_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
)

// world is a machine with an emulated TPM on which everything can be made to fail.
type world struct {
	t       *testing.T
	chip    *swtpm.TPM
	first   drtm.LinuxLaunch
	log     []byte // of the launch
	stage   drtm.Stage
	machine launch.Machine
	// sent counts the extends, and broken says at which of them the TPM answers no more.
	sent, broken int
	loaded       *drtm.Stage
	handed       []byte
	executed     bool
}

var dynamic = tpm.PCRSet(17, 18, 19, 20, 21, 22)

var errBroken = errors.New("the bus is cut")

// Send stands in the TPM's way: it counts the commands that extend.
func (w *world) Send(cmd []byte) ([]byte, error) {
	extend := slices.Contains([]string{"\x00\x00\x01\x82", "\x00\x00\x01\x3c", "\x00\x00\x00\x14"}, string(cmd[6:10]))
	if extend {
		w.sent++
	}
	if extend && w.sent == w.broken {
		return nil, errBroken
	}
	return w.chip.Send(cmd)
}

type closing struct{ w *world }

func (c closing) Close() error { return c.w.chip.SetLocality(0) }

func xenStage() drtm.Stage {
	return drtm.Stage{Kind: drtm.Xen, Image: []byte("xen"), Line: "dom0_mem=1G", Modules: []drtm.Module{
		{Content: []byte("dom0's kernel"), Line: "root=/dev/vg/root"}, {Content: []byte("dom0's initramfs"), Line: ""},
	}}
}

func linuxStage() drtm.Stage {
	return drtm.Stage{Kind: drtm.Linux, Image: testbed.BzImage("real"), Line: "root=/dev/vg/root", Initrd: []byte("initramfs")}
}

// newWorld is a machine after a launch.
func newWorld(t *testing.T, p drtm.Platform, v tpm.Version, s drtm.Stage) *world {
	w := notLaunched(t, p, v, s)
	log, err := testbed.LaunchLinux(w.chip, w.first)
	if err != nil {
		t.Fatal(err)
	}
	w.log = log
	return w
}

func notLaunched(t *testing.T, p drtm.Platform, v tpm.Version, s drtm.Stage) *world {
	chip, _ := testbed.NewTPM(t, v)
	w := &world{t: t, chip: chip, first: testbed.SampleLaunch(p, v), stage: s}
	w.machine = launch.Machine{
		Open: func() (*launch.TPM, error) {
			return &launch.TPM{Channel: w, Version: v, Closer: closing{w}}, chip.SetLocality(2)
		},
		Log:     func() (*eventlog.Log, error) { return eventlog.Parse(w.log) },
		Stage:   func() (*drtm.Stage, error) { return &w.stage, nil },
		Load:    func(s *drtm.Stage, log []byte) error { w.loaded, w.handed = s, log; return nil },
		Execute: func() error { w.executed = true; return nil },
	}
	return w
}

func (w *world) pcrs() tpm.Banks {
	w.t.Helper()
	read := tpm2.New(w.chip).ReadPCRs
	if w.first.Version == tpm.V12 {
		read = tpm12.New(w.chip).ReadPCRs
	}
	banks, err := read(dynamic)
	if err != nil {
		w.t.Fatal(err)
	}
	return banks
}

// values are banks as they can be compared: an unknown digest equals no other.
func values(banks tpm.Banks) map[string]string {
	m := map[string]string{}
	for i := range banks {
		for p := range dynamic.All() {
			m[fmt.Sprintf("%s PCR %d", banks[i].Alg, p)] = banks[i].Values[p].String()
		}
	}
	return m
}

// each runs a test for every way in which a stage can be measured.
func each(t *testing.T, test func(t *testing.T, p drtm.Platform, v tpm.Version, s drtm.Stage)) {
	for _, p := range []drtm.Platform{drtm.TXT, drtm.SKINIT} {
		for _, v := range []tpm.Version{tpm.V12, tpm.V20} {
			for _, s := range []drtm.Stage{linuxStage(), xenStage()} {
				t.Run(fmt.Sprintf("%s/%s/%s", p.Name(), v, s.Kind), func(t *testing.T) { test(t, p, v, s) })
			}
		}
	}
}

// What the TPM holds in the end is what the files alone say.
func TestPCRsAreThoseOfTheFiles(t *testing.T) {
	each(t, func(t *testing.T, p drtm.Platform, v tpm.Version, s drtm.Stage) {
		w := newWorld(t, p, v, s)
		var started tpm.Banks
		w.machine.Execute = func() error { started = w.pcrs(); return nil }
		_ = w.machine.Launch() // comes back, because nothing was started
		ms, err := drtm.ChainLaunch{First: w.first, Algs: w.first.Algs, Stage: &s}.Measurements()
		if err != nil {
			t.Fatal(err)
		}
		want, err := drtm.Predict(w.first.Algs, ms)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(values(want), values(started)); diff != "" {
			t.Errorf("PCRs (-want +got)\n%s", diff)
		}
	})
}

// The log that goes on is the one found, with the stage's events behind it, in its
// format, and every event has the role that it was measured for.
func TestLogGoesOn(t *testing.T) {
	each(t, func(t *testing.T, p drtm.Platform, v tpm.Version, s drtm.Stage) {
		w := newWorld(t, p, v, s)
		var started tpm.Banks
		w.machine.Execute = func() error { started = w.pcrs(); return nil }
		_ = w.machine.Launch()
		before, err := eventlog.Parse(w.log)
		if err != nil {
			t.Fatal(err)
		}
		after, err := eventlog.Parse(w.handed)
		if err != nil {
			t.Fatal(err)
		}
		if l := drtm.Check(after, started); l.State != drtm.Verified {
			t.Errorf("the log is %s: %s", l.State, l.Reason)
		}
		if after.Format != before.Format {
			t.Errorf("the log became %s, it was %s", after.Format, before.Format)
		}
		ms, err := s.Measurements(w.first.Algs)
		if err != nil {
			t.Fatal(err)
		}
		if len(after.Events) != len(before.Events)+len(ms) {
			t.Fatalf("the log has %d events, it had %d, and %d were measured", len(after.Events), len(before.Events), len(ms))
		}
		want := drtm.Roles(before)
		for _, m := range ms {
			want = append(want, m.Role)
		}
		if diff := cmp.Diff(want, drtm.Roles(after)); diff != "" {
			t.Errorf("roles (-want +got)\n%s", diff)
		}
	})
}

// refused launches, and demands that nothing was started.
func (w *world) refused() *launch.Failure {
	w.t.Helper()
	var f *launch.Failure
	if err := w.machine.Launch(); !errors.As(err, &f) {
		w.t.Fatalf("no failure but %v", err)
	}
	if w.executed {
		w.t.Error("the stage was started")
	}
	return f
}

// closed demands that neither PCR has a value that a launch of these files passes
// through, in any bank: what is sealed to one of them does not open.
func (w *world) closed(text string) {
	w.t.Helper()
	now := w.pcrs()
	ms, err := drtm.ChainLaunch{First: w.first, Algs: w.first.Algs, Stage: &w.stage}.Measurements()
	if err != nil {
		w.t.Fatal(err)
	}
	for n := range len(ms) + 1 {
		banks, err := drtm.Predict(w.first.Algs, ms[:n])
		if err != nil {
			w.t.Fatal(err)
		}
		for _, a := range w.first.Algs {
			for _, p := range []tpm.PCR{17, 18} {
				if banks.Value(a, p).Equal(now.Value(a, p)) {
					w.t.Errorf("%s PCR %d has the value after %d measurements", a, p, n)
				}
			}
		}
	}
	if text == "" {
		return
	}
	open, err := drtm.Predict(w.first.Algs, ms)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range open {
		for _, p := range []tpm.PCR{17, 18} {
			if err := open[i].Extend(p, open[i].Alg.Sum([]byte(text))); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	if diff := cmp.Diff(values(open), values(now)); diff != "" {
		w.t.Errorf("PCRs (-want +got)\n%s", diff)
	}
}

// Whatever fails at whatever step, nothing is started and nothing opens any more.
func TestEveryFailureCloses(t *testing.T) {
	cause := errors.New("the cause")
	for name, x := range map[string]struct {
		step launch.Step
		make func(*world)
	}{
		"no log":        {launch.FindLog, func(w *world) { w.machine.Log = func() (*eventlog.Log, error) { return nil, cause } }},
		"files missing": {launch.ReadFiles, func(w *world) { w.machine.Stage = func() (*drtm.Stage, error) { return nil, cause } }},
		"a device that can't be read": {launch.Hash, func(w *world) {
			s := w.stage
			s.Facts = []drtm.Fact{{Kind: drtm.FactDevice, Name: "/dev/x", Sum: func([]tpm.Alg) ([]tpm.TaggedDigest, error) { return nil, cause }}}
			w.machine.Stage = func() (*drtm.Stage, error) { return &s, nil }
		}},
		"load":  {launch.LoadKernel, func(w *world) { w.machine.Load = func(*drtm.Stage, []byte) error { return cause } }},
		"start": {launch.Execute, func(w *world) { w.machine.Execute = func() error { return cause } }},
	} {
		for _, v := range []tpm.Version{tpm.V12, tpm.V20} {
			t.Run(fmt.Sprintf("%s/%s", name, v), func(t *testing.T) {
				w := newWorld(t, drtm.TXT, v, xenStage())
				x.make(w)
				f := w.refused()
				if !errors.Is(f, cause) || f.Step != x.step || !f.Capped || f.CapErr != nil {
					t.Errorf("step %s, capped %v (%v): %v", f.Step, f.Capped, f.CapErr, f)
				}
				w.closed("")
			})
		}
	}
}

// A start that comes back although it reports no error is a failure, too.
func TestStartThatComesBack(t *testing.T) {
	w := newWorld(t, drtm.SKINIT, tpm.V20, linuxStage())
	w.machine.Execute = func() error { return nil }
	if f := w.refused(); !errors.Is(f, launch.ErrReturned) || !f.Capped {
		t.Error(f)
	}
	w.closed("aem launch: refused execute")
}

// A mistake in the program must not skip the cap.
func TestPanicCloses(t *testing.T) {
	w := newWorld(t, drtm.SKINIT, tpm.V12, linuxStage())
	w.machine.Load = func(*drtm.Stage, []byte) error { var s *drtm.Stage; s.Line = ""; return nil }
	if f := w.refused(); f.Step != launch.LoadKernel || !f.Capped {
		t.Error(f)
	}
	w.closed("")
}

// The TPM breaks at each of the extends in turn, once.
func TestExtendsThatBreakOff(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V12, tpm.V20} {
		s := xenStage()
		ms, err := s.Measurements([]tpm.Alg{tpm.SHA1})
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= len(ms); n++ {
			t.Run(fmt.Sprintf("%s/%d", v, n), func(t *testing.T) {
				w := newWorld(t, drtm.TXT, v, s)
				w.broken = n
				if f := w.refused(); f.Step != launch.Extend || !errors.Is(f, errBroken) || !f.Capped {
					t.Error(f)
				}
				if w.sent != n+2 {
					t.Errorf("%d commands extended something, want %d and the two of the cap", w.sent, n)
				}
				w.closed("")
			})
		}
	}
}

// One capped PCR is enough, so the second is tried when the first can't be capped; and
// that it could not is said.
func TestCapThatFails(t *testing.T) {
	w := newWorld(t, drtm.TXT, tpm.V20, linuxStage())
	cause := errors.New("the cause")
	w.machine.Stage = func() (*drtm.Stage, error) { return nil, cause }
	w.broken = 1
	before := w.pcrs()
	f := w.refused()
	if f.Capped || !errors.Is(f, errBroken) || !errors.Is(f, cause) || !strings.Contains(f.Error(), "switch the machine off") {
		t.Error(f)
	}
	after := w.pcrs()
	for _, a := range w.first.Algs {
		if after.Value(a, 18).Equal(before.Value(a, 18)) {
			t.Errorf("%s PCR 18 was not capped", a)
		}
	}
}

func TestTPMThatCanNotBeOpened(t *testing.T) {
	w := newWorld(t, drtm.TXT, tpm.V20, linuxStage())
	w.machine.Open = func() (*launch.TPM, error) { return nil, errBroken }
	if f := w.refused(); f.Step != launch.OpenTPM || f.Capped || !errors.Is(f.CapErr, errBroken) {
		t.Error(f)
	}
}

// Locality 2 takes extends also where no launch took place: this refuses them.
func TestWithoutALaunchNothingIsMeasured(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V12, tpm.V20} {
		t.Run(v.String(), func(t *testing.T) {
			w := notLaunched(t, drtm.TXT, v, linuxStage())
			log, err := drtm.BuildLog(w.first.Platform, v, w.first.Algs, nil)
			if err != nil {
				t.Fatal(err)
			}
			if w.log, err = log.AppendTo(nil); err != nil {
				t.Fatal(err)
			}
			before := w.pcrs()
			f := w.refused()
			if f.Step != launch.Check || !errors.Is(f, launch.ErrNotLaunched) || f.Capped || f.CapErr != nil {
				t.Error(f)
			}
			if diff := cmp.Diff(values(before), values(w.pcrs())); diff != "" || w.sent != 0 || w.loaded != nil {
				t.Errorf("%d extends, loaded %v (-before +after)\n%s", w.sent, w.loaded, diff)
			}
		})
	}
}

// A log that leads elsewhere proves nothing, and what is in the PCRs is closed.
func TestUnprovenLaunchIsClosed(t *testing.T) {
	w := newWorld(t, drtm.SKINIT, tpm.V20, linuxStage())
	other := w.first
	other.CommandLine += " init=/bin/sh"
	ms, err := other.Measurements()
	if err != nil {
		t.Fatal(err)
	}
	log, err := drtm.BuildLog(other.Platform, other.Version, other.Algs, ms)
	if err != nil {
		t.Fatal(err)
	}
	if w.log, err = log.AppendTo(nil); err != nil {
		t.Fatal(err)
	}
	f := w.refused()
	if f.Step != launch.Check || !errors.Is(f, launch.ErrUnproven) || !f.Capped || w.loaded != nil {
		t.Error(f)
	}
	w.closed("")
}

// liar answers that an extend was made, and makes it not.
type liar struct {
	*world
	at int
}

func (l *liar) Send(cmd []byte) ([]byte, error) {
	if string(cmd[6:10]) == "\x00\x00\x01\x82" {
		if l.at--; l.at == 0 {
			return []byte{0x80, 2, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}, nil
		}
	}
	return l.world.Send(cmd)
}

// Who sits on the bus and swallows an extend does not get the stage started.
func TestSwallowedExtend(t *testing.T) {
	w := newWorld(t, drtm.TXT, tpm.V20, linuxStage())
	open := w.machine.Open
	bus := &liar{w, 2}
	w.machine.Open = func() (*launch.TPM, error) {
		x, err := open()
		x.Channel = bus
		return x, err
	}
	if f := w.refused(); f.Step != launch.Confirm || !errors.Is(f, launch.ErrLost) || !f.Capped {
		t.Error(f)
	}
	w.closed("")
}

// A log whose memory is full can't go on, so nothing is measured that it would not say.
func TestFullLog(t *testing.T) {
	w := newWorld(t, drtm.TXT, tpm.V12, linuxStage())
	for i := range 600 {
		w.stage.Facts = append(w.stage.Facts, drtm.Fact{Kind: drtm.FactFile, Name: fmt.Sprintf("/%d", i), Sum: func(a []tpm.Alg) ([]tpm.TaggedDigest, error) { return tpm.SumAll(a, nil), nil }})
	}
	if f := w.refused(); f.Step != launch.ExtendLog || !errors.Is(f, eventlog.ErrFull) || !f.Capped {
		t.Error(f)
	}
	w.closed("")
}

// A plan changes nothing, and says what a launch then does.
func TestPlan(t *testing.T) {
	each(t, func(t *testing.T, p drtm.Platform, v tpm.Version, s drtm.Stage) {
		w := newWorld(t, p, v, s)
		before := w.pcrs()
		plan, err := w.machine.Plan()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(values(before), values(w.pcrs())); diff != "" || w.sent != 0 || w.loaded != nil {
			t.Errorf("the plan changed something: %s", diff)
		}
		var started tpm.Banks
		w.machine.Execute = func() error { started = w.pcrs(); return nil }
		_ = w.machine.Launch()
		for i := range started {
			for _, r := range []tpm.PCR{17, 18} {
				if got := plan.PCRs.Value(started[i].Alg, r); !got.Equal(started[i].Values[r]) {
					t.Errorf("%s PCR %d was planned as %s, and is %s", started[i].Alg, r, got, started[i].Values[r])
				}
			}
		}
	})
}

func TestPlanWithoutALaunch(t *testing.T) {
	w := notLaunched(t, drtm.TXT, tpm.V20, linuxStage())
	w.machine.Log = func() (*eventlog.Log, error) { return nil, nil }
	plan, err := w.machine.Plan()
	if err != nil {
		t.Fatal(err)
	}
	if plan.Launch.State != drtm.NotLaunched || plan.PCRs != nil || len(plan.Measurements) != 4 {
		t.Errorf("%+v", plan)
	}
}
