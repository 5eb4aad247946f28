package aem

import (
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/seal"
)

// Differences say how this boot's launch and disks stand to what is approved.
type Differences struct {
	Launch     string `json:"launch"`
	LaunchNote string `json:"launch_note,omitempty"`
	// State is the approved state that this boot is, or the one that it differs least from.
	State string `json:"state,omitempty"`
	// Same says that it is that state.
	Same    bool     `json:"approved"`
	Changes []Change `json:"changes,omitempty"`
}

// Differences compares this boot with what is approved. Unlike [Machine.Status] it says
// so also after the proof, when nothing opens any more.
func (m *Machine) Differences(h Home) (*Differences, error) {
	boot, approved, err := m.bootAndApproved(h)
	if err != nil {
		return nil, err
	}
	d := &Differences{Launch: boot.Launch.State.String(), LaunchNote: boot.Launch.Reason}
	var near *seal.State
	if near, d.Changes, d.Same = nearest(approved, boot); near != nil {
		d.State = near.Label
		boot.Static = isStatic(near)
	}
	if boot.Launch.State == drtm.Verified || boot.Static {
		d.Launch, d.LaunchNote = boot.Grade()
	}
	return d, nil
}
