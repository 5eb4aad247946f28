package drtm

import (
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// Approval is what a signed policy said of a stage before that was started, in the form
// in which it is measured: before the stage, into PCR 18.
type Approval struct {
	// Key is the public key that the policy has to be signed with. It is the authority,
	// and is measured whatever becomes of the policy.
	Key      []byte
	Approved bool
}

// The texts of an approval's second event, which are measured.
const (
	approvedText = "aem launch policy: approved"
	refusedText  = "aem launch policy: not approved"
)

// Measurements are the key, and what the policy said.
func (a Approval) Measurements(algs []tpm.Alg) []Measurement {
	text := refusedText
	if a.Approved {
		text = approvedText
	}
	os := machine{algs: algs}.os
	return []Measurement{
		os(RolePolicyKey, tpm.PCRData, "Measured policy key", a.Key),
		os(RoleApproval, tpm.PCRData, text, []byte(text)),
	}
}

// approvalRoles names the two events of an approval, which stand directly before the
// outline of a stage, whose place in events is n. Of the second the text was measured;
// the first is its authority by its place.
func approvalRoles(log *eventlog.Log, roles []Role, events []int, n int) {
	var before []int // the last two of PCR 18, the nearer one first
	for k := n - 1; k >= 0 && len(before) < 2; k-- {
		if log.Events[events[k]].PCR == tpm.PCRData {
			before = append(before, events[k])
		}
	}
	if len(before) < 2 {
		return
	}
	said, key := &log.Events[before[0]], &log.Events[before[1]]
	if text := string(said.Data); text != approvedText && text != refusedText || !textMeasured(said) || key.Type != eventlog.Slaunch {
		return
	}
	roles[before[0]], roles[before[1]] = RoleApproval, RolePolicyKey
}

// textMeasured reports whether an event's digests are those of its text, so that the
// text is no hearsay.
func textMeasured(e *eventlog.Event) bool {
	for _, d := range e.Digests {
		if d.Alg.Available() && !d.Digest.Equal(d.Alg.Sum(e.Data)) {
			return false
		}
	}
	return e.Type == eventlog.Slaunch
}
