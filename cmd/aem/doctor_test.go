package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/aem/doctor"
	"github.com/antievilmaid/aem/tpm"
)

// What was seen on a machine is seen again in the folder that was saved there.
func TestDoctorOnAMachineAndOnItsDump(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		l := newLaptop(t, v)
		dump := filepath.Join(t.TempDir(), "dump")
		var live, saved doctor.Report
		exit, out, stderr := capture(t, l.args("doctor", "--json", "--save", dump))
		if json.Unmarshal([]byte(out), &live) != nil || len(live.Records) < 10 {
			t.Fatalf("%s: exit %d, %s %s", v, exit, stderr, out)
		}
		found := false
		for _, r := range live.Records {
			if r.Name == "" || r.Chapter == "" || r.Text == "" {
				t.Errorf("%s: a record says too little: %+v", v, r)
			}
			found = found || r.Name == "TPM" && strings.Contains(r.Text, v.String())
		}
		if !found {
			t.Errorf("%s: no record tells the family", v)
		}
		again, out, stderr := capture(t, []string{"doctor", dump, "--json"})
		if again != exit || json.Unmarshal([]byte(out), &saved) != nil {
			t.Fatalf("%s, saved: exit %d, %s %s", v, again, stderr, out)
		}
		for i, r := range saved.Records {
			if i >= len(live.Records) || live.Records[i] != r {
				t.Errorf("%s: on the machine %+v, in the folder %+v", v, live.Records[i], r)
			}
		}
	}
}

// The table can be read on any terminal.
func TestDoctorsTableHas80Columns(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	_, out, _ := capture(t, l.args("doctor"))
	if !strings.Contains(out, "Needs attention") || !strings.Contains(out, "What to do:") {
		t.Errorf("the table is\n%s", out)
	}
	for line := range strings.Lines(out) {
		if len(strings.TrimRight(line, "\n")) > 80 {
			t.Errorf("a line has %d columns: %s", len(line), line)
		}
	}
	if exit, _, _ := capture(t, []string{"doctor", filepath.Join(t.TempDir(), "absent")}); exit != aem.ExitError {
		t.Errorf("a folder that is not there: exit %d", exit)
	}
}
