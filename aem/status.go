package aem

import (
	"errors"
	"os"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/seal"
)

// Status is what would happen now, and what is in place for it. It opens nothing
// and costs no try.
type Status struct {
	TPM        string   `json:"tpm"`
	SetUp      bool     `json:"set_up"`
	SecretKept bool     `json:"secret_kept"`
	SecretKind string   `json:"secret_kind,omitempty"` // text or totp, of the one that is kept
	Launch     string   `json:"launch"`
	LaunchNote string   `json:"launch_note,omitempty"`
	LogSource  string   `json:"log_source,omitempty"`
	Medium     string   `json:"medium,omitempty"`
	Identity   string   `json:"tpm_in_words,omitempty"`
	Generation uint64   `json:"generation,omitempty"`
	PIN        bool     `json:"pin,omitempty"`
	States     []string `json:"approved_states,omitempty"`
	Opens      bool     `json:"opens_now"`
	Cause      Cause    `json:"cause,omitempty"`
	Sentence   string   `json:"sentence,omitempty"`
	Changes    []Change `json:"changes,omitempty"`
}

// Status looks at the TPM, the launch and the medium.
func (m *Machine) Status(h Home) (*Status, error) {
	st := &Status{SecretKept: h.has(secretFile)}
	var err error
	if st.SecretKept {
		kept, err := h.record(secretFile)
		if err != nil {
			return nil, err
		}
		st.SecretKind = kept.Kind.String()
	}
	if st.TPM, err = m.Chip.Describe(); err != nil {
		return nil, err
	}
	boot, err := m.Boot()
	if err != nil {
		return nil, err
	}
	st.Launch, st.LaunchNote = boot.Launch.State.String(), boot.Launch.Reason
	if boot.Launch.State == drtm.Verified {
		st.Launch, st.LaunchNote = boot.Grade()
	}
	if boot.Log != nil {
		st.LogSource = boot.Log.Source
	}
	s, err := h.Setup()
	if errors.Is(err, ErrNotSetUp) {
		return st, nil
	}
	if err != nil {
		return nil, err
	}
	st.SetUp, st.Medium, st.Identity = true, s.Media[0].Records, Words(s.identity)
	if st.States, err = m.approvedLabels(h, boot); err != nil {
		return nil, err
	}
	records, err := seal.Read(os.DirFS(s.Media[0].Records))
	if err != nil && !errors.Is(err, seal.ErrNoRecord) {
		return nil, err
	}
	record, _, _, err := m.choose(records, boot)
	if err != nil {
		var r *Refusal
		if !errors.As(err, &r) {
			return nil, err
		}
		st.Cause, st.Sentence, st.Changes = r.Cause, r.Sentence(), r.Changes
		return st, nil
	}
	if boot.Static {
		st.Launch, st.LaunchNote = boot.Grade()
	}
	st.Generation, st.PIN, st.Opens = record.Generation, record.PIN, true
	return st, nil
}

// approvedLabels names what is approved, and which of it this boot is. What can't be
// opened on this TPM is approved no more; the refusal says why.
func (m *Machine) approvedLabels(h Home, boot *Boot) ([]string, error) {
	approved, err := m.Approved(h)
	if err != nil {
		return nil, nil
	}
	if err := m.readFor(boot, approved); err != nil {
		return nil, err
	}
	near, _, same := nearest(approved, boot)
	var labels []string
	for i := range approved {
		label := approved[i].Label
		if same && near == &approved[i] {
			label += " (this boot)"
		}
		labels = append(labels, label)
	}
	return labels, nil
}
