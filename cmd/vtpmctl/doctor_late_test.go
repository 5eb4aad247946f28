package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/vtpm/admin"
)

// What vtpmd could not do yet, and a store that answers nothing, are rows with advice; neither hides the other.
func TestDoctorTellsWhatHasToWait(t *testing.T) {
	d := &doctor{}
	d.running(t.Context(), admin.NewClient(filepath.Join(t.TempDir(), "none")), admin.Status{Grade: "launched", Late: "the TPM is busy", Store: "the disk did not confirm"})
	for name, want := range map[string]Row{
		"epoch": {State: warning, Text: "the TPM is busy", exit: aem.ExitNotPossible},
		"store": {State: bad, Text: "the disk did not confirm", exit: aem.ExitError},
	} {
		i := slices.IndexFunc(d.rows, func(r Row) bool { return r.Name == name })
		if i < 0 || d.rows[i].State != want.State || d.rows[i].exit != want.exit || d.rows[i].Advice == "" || !strings.Contains(d.rows[i].Text, want.Text) {
			t.Errorf("%s: %+v", name, d.rows)
		}
	}
}
