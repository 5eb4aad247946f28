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

// The table of docs/measurements.md.
func TestApprovalIsMeasuredAsDocumented(t *testing.T) {
	algs := []tpm.Alg{tpm.SHA1, tpm.SHA256}
	for approved, text := range map[bool]string{true: "aem launch policy: approved", false: "aem launch policy: not approved"} {
		ms := drtm.Approval{Key: []byte("public"), Approved: approved}.Measurements(algs)
		var got []string
		for _, m := range ms {
			got = append(got, fmt.Sprintf("%d %s at %d: %s", m.PCR, m.Type, m.Locality, m.Data))
		}
		if diff := cmp.Diff([]string{"18 EVTYPE_SLAUNCH at 2: Measured policy key", "18 EVTYPE_SLAUNCH at 2: " + text}, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if diff := cmp.Diff([][]tpm.TaggedDigest{tpm.SumAll(algs, []byte("public")), tpm.SumAll(algs, []byte(text))}, [][]tpm.TaggedDigest{ms[0].Digests, ms[1].Digests}); diff != "" {
			t.Errorf("digests (-want +got)\n%s", diff)
		}
	}
}

// An answer of a policy is believed only where its text was measured, directly before
// the stage that it is about.
func TestApprovalThatALogOnlyClaims(t *testing.T) {
	algs := []tpm.Alg{tpm.SHA256}
	stage, err := wholeStage().Measurements(algs)
	if err != nil {
		t.Fatal(err)
	}
	ms := append(drtm.Approval{Key: []byte("public")}.Measurements(algs), stage...)
	for name, change := range map[string]func(l *eventlog.Log){
		"":                      func(*eventlog.Log) {},
		"another text":          func(l *eventlog.Log) { l.Events[1].Data = []byte("aem launch policy: approved") },
		"another type":          func(l *eventlog.Log) { l.Events[1].Type = eventlog.TbootMeasurement },
		"no key":                func(l *eventlog.Log) { l.Events = l.Events[1:] },
		"a key of another type": func(l *eventlog.Log) { l.Events[0].Type = eventlog.TbootMeasurement },
		"something between": func(l *eventlog.Log) {
			l.Events = slices.Insert(l.Events, 2, measured("between"))
		},
	} {
		log, err := drtm.BuildLog(drtm.TXT, tpm.V20, algs, ms)
		if err != nil {
			t.Fatal(err)
		}
		change(log)
		roles := drtm.Roles(log)
		if !slices.Contains(roles, drtm.RoleStage) {
			t.Errorf("%s: the stage is not recognised", name)
		}
		if known := slices.Contains(roles, drtm.RoleApproval) && slices.Contains(roles, drtm.RolePolicyKey); known != (name == "") {
			t.Errorf("%q: %v", name, roles)
		}
	}
}

// What a policy said is not taken for the machine's own.
func TestApprovalIsNotForecast(t *testing.T) {
	l := launch(drtm.SKINIT, tpm.V20)
	boot := &drtm.Boot{Kind: drtm.Linux, Loader: l.Loader, Image: l.Kernel, Initrd: l.Initrd, Line: l.CommandLine}
	things, err := drtm.Things(boot, boot, nil)
	if err != nil {
		t.Fatal(err)
	}
	ms, err := drtm.ChainLaunch{
		First: l, Algs: l.Algs, Approval: &drtm.Approval{Key: []byte("public"), Approved: true}, Stage: &drtm.Stage{Kind: drtm.Linux, Image: l.Kernel},
	}.Measurements()
	if err != nil {
		t.Fatal(err)
	}
	log, err := drtm.BuildLog(drtm.SKINIT, tpm.V20, l.Algs, ms)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drtm.Next(log, things); !errors.Is(err, drtm.ErrUnexplained) || !strings.Contains(err.Error(), "launch policy's key") {
		t.Error(err)
	}
}
