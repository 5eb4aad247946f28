package drtm_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

func fact(kind drtm.FactKind, name, content string) drtm.Fact {
	return drtm.Fact{Kind: kind, Name: name, Sum: func(a []tpm.Alg) ([]tpm.TaggedDigest, error) { return tpm.SumAll(a, []byte(content)), nil }}
}

func wholeStage() *drtm.Stage {
	return &drtm.Stage{
		Kind: drtm.Xen, Image: []byte("xen"), Line: "xen's",
		Modules: []drtm.Module{{Content: []byte("kernel"), Line: "kernel's"}, {Content: []byte("initrd")}, {Content: []byte("policy"), Line: "policy's"}},
		Facts:   []drtm.Fact{fact(drtm.FactFile, "/etc/x", "file"), fact(drtm.FactCPU, "", "cpu")},
	}
}

// The table of docs/measurements.md.
func TestStageIsMeasuredAsDocumented(t *testing.T) {
	linux := &drtm.Stage{Kind: drtm.Linux, Image: []byte("kernel"), Line: "quiet", Initrd: []byte("initrd")}
	for _, x := range []struct {
		stage *drtm.Stage
		want  []string
	}{
		{linux, []string{
			"18 next stage's outline: aem launch\nlinux\ninitrd = aem launch\nlinux\ninitrd",
			"17 kernel: Measured Kernel = kernel",
			"18 kernel command line: Measured Kernel command line = quiet",
			"17 initramfs: Measured Kernel initrd = initrd",
		}},
		{wholeStage(), []string{
			"18 next stage's outline: aem launch\nxen\nmodule\nmodule\nmodule\nfile /etc/x\ncpu = aem launch\nxen\nmodule\nmodule\nmodule\nfile /etc/x\ncpu",
			"17 hypervisor: Measured Xen = xen",
			"18 kernel command line: Xen's command line = xen's",
			"18 boot module's command line: MB module string = kernel's",
			"17 kernel: MB module = kernel",
			"18 boot module's command line: MB module string = ",
			"17 initramfs: MB module = initrd",
			"18 boot module's command line: MB module string = policy's",
			"17 boot module: MB module = policy",
			"18 fact about the machine: Measured file /etc/x = file",
			"18 fact about the machine: Measured cpu = cpu",
		}},
	} {
		algs := []tpm.Alg{tpm.SHA1, tpm.SHA256}
		ms, err := x.stage.Measurements(algs)
		if err != nil {
			t.Fatal(err)
		}
		if len(ms) != len(x.want) {
			t.Fatalf("%d measurements, want %d", len(ms), len(x.want))
		}
		for i, m := range ms {
			head, content, _ := strings.Cut(x.want[i], " = ")
			if got := fmt.Sprintf("%d %s: %s", m.PCR, m.Role, m.Data); got != head || m.Type != eventlog.Slaunch || m.Locality != 2 {
				t.Errorf("%q, type %s at locality %d; want %q", got, m.Type, m.Locality, head)
			}
			if diff := cmp.Diff(tpm.SumAll(algs, []byte(content)), m.Digests); diff != "" {
				t.Errorf("%s: digests (-want +got)\n%s", head, diff)
			}
		}
	}
}

// Two stages that start or measure something else never leave the same PCRs, although
// their bytes are the same.
func TestStagesAreToldApart(t *testing.T) {
	k, i := []byte("one"), []byte("two")
	stages := map[string]*drtm.Stage{
		"linux with an initramfs": {Kind: drtm.Linux, Image: k, Initrd: i},
		"linux without":           {Kind: drtm.Linux, Image: k},
		"xen with a module":       {Kind: drtm.Xen, Image: k, Modules: []drtm.Module{{Content: i}}},
		"a file":                  {Kind: drtm.Linux, Image: k, Facts: []drtm.Fact{fact(drtm.FactFile, "/a", "x")}},
		"another file":            {Kind: drtm.Linux, Image: k, Facts: []drtm.Fact{fact(drtm.FactFile, "/b", "x")}},
		"a device":                {Kind: drtm.Linux, Image: k, Facts: []drtm.Fact{fact(drtm.FactDevice, "/a", "x")}},
		"the tables":              {Kind: drtm.Linux, Image: k, Facts: []drtm.Fact{fact(drtm.FactSMBIOS, "", "x")}},
	}
	seen := map[string]string{}
	for name, s := range stages {
		ms, err := s.Measurements([]tpm.Alg{tpm.SHA256})
		if err != nil {
			t.Fatal(err)
		}
		banks, err := drtm.Predict([]tpm.Alg{tpm.SHA256}, ms)
		if err != nil {
			t.Fatal(err)
		}
		// PCR 18 alone tells them apart: what opens for one must not open for the other by any choice of PCRs.
		v := banks.Value(tpm.SHA256, 18).String()
		if other, ok := seen[v]; ok {
			t.Errorf("%s and %s have the same PCR 18", name, other)
		}
		seen[v] = name
	}
}

func TestStagesThatAreRefused(t *testing.T) {
	unread := errors.New("unread")
	for name, x := range map[string]struct {
		change func(*drtm.Stage)
		want   error
	}{
		"tboot":             {func(s *drtm.Stage) { s.Kind = drtm.Tboot }, drtm.ErrTarget},
		"empty":             {func(s *drtm.Stage) { s.Image = nil }, drtm.ErrTarget},
		"linux's modules":   {func(s *drtm.Stage) { s.Kind = drtm.Linux }, drtm.ErrTarget},
		"xen's initrd":      {func(s *drtm.Stage) { s.Initrd = []byte("x") }, drtm.ErrTarget},
		"zero in a line":    {func(s *drtm.Stage) { s.Line = "a\x00b" }, drtm.ErrTarget},
		"zero in module's":  {func(s *drtm.Stage) { s.Modules[1].Line = "a\x00b" }, drtm.ErrTarget},
		"a fact of no kind": {func(s *drtm.Stage) { s.Facts[0].Kind = "initrd" }, drtm.ErrTarget},
		"a nameless file":   {func(s *drtm.Stage) { s.Facts[0].Name = "" }, drtm.ErrTarget},
		"a named CPU":       {func(s *drtm.Stage) { s.Facts[1].Name = "x" }, drtm.ErrTarget},
		"two lines":         {func(s *drtm.Stage) { s.Facts[0].Name = "/a\ncpu" }, drtm.ErrTarget},
		"an unread fact": {func(s *drtm.Stage) {
			s.Facts[1].Sum = func([]tpm.Alg) ([]tpm.TaggedDigest, error) { return nil, unread }
		}, unread},
	} {
		t.Run(name, func(t *testing.T) {
			s := wholeStage()
			x.change(s)
			if ms, err := s.Measurements([]tpm.Alg{tpm.SHA256}); ms != nil || !errors.Is(err, x.want) {
				t.Errorf("%v, %v", ms, err)
			}
		})
	}
	for _, algs := range [][]tpm.Alg{nil, {tpm.SHA256, tpm.SM3}} {
		if _, err := wholeStage().Measurements(algs); !errors.Is(err, drtm.ErrBanks) {
			t.Errorf("%v: %v", algs, err)
		}
	}
}

// A log's text is believed only where it is what was measured, and what follows fits it.
func TestStageThatALogOnlyClaims(t *testing.T) {
	algs := []tpm.Alg{tpm.SHA256}
	ms, err := wholeStage().Measurements(algs)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(l *eventlog.Log){
		"another text":       func(l *eventlog.Log) { l.Events[0].Data = []byte("aem launch\nlinux\ninitrd") },
		"an event less":      func(l *eventlog.Log) { l.Events = l.Events[:len(l.Events)-1] },
		"an event more":      func(l *eventlog.Log) { l.Events = append(l.Events, l.Events[len(l.Events)-1]) },
		"too little in code": func(l *eventlog.Log) { l.Events = slices.Delete(l.Events, 1, 2) },
		"cut off":            func(l *eventlog.Log) { l.Events[0].Data = []byte("aem launch") },
		"no kind":            func(l *eventlog.Log) { l.Events[0] = measured("aem launch\ntboot") },
	} {
		log, err := drtm.BuildLog(drtm.TXT, tpm.V20, algs, ms)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(drtm.Roles(log), drtm.RoleStage) {
			t.Fatal("the stage is not recognised")
		}
		change(log)
		roles := drtm.Roles(log)
		if slices.Contains(roles, drtm.RoleStage) || slices.Contains(roles, drtm.RoleFact) {
			t.Errorf("%s: %v", name, roles)
		}
	}
}

func measured(text string) eventlog.Event {
	return eventlog.Event{PCR: 18, Type: eventlog.Slaunch, Data: []byte(text), Digests: tpm.SumAll([]tpm.Alg{tpm.SHA256}, []byte(text))}
}

// Nobody computes a stage from a good log yet, and none of its events may be taken for
// the machine's own, which stay as they are.
func TestStageIsNotForecast(t *testing.T) {
	l := launch(drtm.SKINIT, tpm.V20)
	algs := l.Algs
	ms := measurements(t, l)
	boot := &drtm.Boot{Kind: drtm.Linux, Loader: l.Loader, Image: l.Kernel, Initrd: l.Initrd, Line: l.CommandLine}
	things, err := drtm.Things(boot, boot, nil)
	if err != nil {
		t.Fatal(err)
	}
	log, err := drtm.BuildLog(drtm.SKINIT, tpm.V20, algs, ms)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drtm.Next(log, things); err != nil {
		t.Fatal(err)
	}
	stage, err := (&drtm.Stage{Kind: drtm.Linux, Image: l.Kernel}).Measurements(algs)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range stage {
		if err := log.Append(m.Event()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := drtm.Next(log, things); !errors.Is(err, drtm.ErrUnexplained) || !strings.Contains(err.Error(), "outline") {
		t.Error(err)
	}
}
