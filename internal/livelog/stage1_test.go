package livelog_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/livelog"
)

// The log that a stage continued says more than all others, which it begins with.
func TestLogOfTheStageBefore(t *testing.T) {
	for _, path := range []string{"aem/eventlog", "run/aem/eventlog"} {
		m := everything(t)
		m.file(t, path, agile(t, "the stage before"))
		r := m.find(t)
		if got := texts(t, r.launch)[0]; got != "the stage before" || r.launch[0].Source != livelog.Stage1 {
			t.Errorf("%s: the first is %q, of %s", path, got, r.launch[0].Source)
		}
		if !r.launch[0].Simulated {
			t.Errorf("%s: it is not said that nothing protects who trusts a simulated launch", path)
		}
	}
}

func TestLogOfTheStageBeforeOnAMachine(t *testing.T) {
	m := newMachine(t)
	m.file(t, "aem/eventlog", agile(t, "in the initramfs"))
	m.file(t, "run/aem/eventlog", agile(t, "in the system"))
	r := m.find(t)
	if diff := cmp.Diff([]string{"in the initramfs"}, texts(t, r.launch)); diff != "" || r.launch[0].Simulated {
		t.Errorf("%+v (-want +got)\n%s", r.launch, diff)
	}
}
