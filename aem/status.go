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
	records, err := seal.Read(os.DirFS(s.Media[0].Records))
	if err != nil && !errors.Is(err, seal.ErrNoRecord) {
		return nil, err
	}
	record, _, state, err := m.choose(records, boot)
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
	for i := range record.States {
		label := record.States[i].Label
		if i == state {
			label += " (this boot)"
		}
		st.States = append(st.States, label)
	}
	return st, nil
}
