package aem

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/seal"
)

// LeftToOwner says why an approval can't do without its owner, a sentence for each
// reason. Without a reason, the records of packages explain every change and the
// system that read them is one that has proved itself.
func (a *Approval) LeftToOwner() []string {
	var list []string
	if a.unproved != "" {
		// What was changed could have changed the records, too, or this very program.
		list = append(list, "this boot has not proved itself, so nothing is approved in it without you: "+a.unproved)
	}
	for _, c := range Unexplained(a.Changes) {
		why := errNobodyAsked.Error()
		if c.Explanation != nil {
			why = c.Explanation.Why
		}
		list = append(list, fmt.Sprintf("%s: %s", c.What, why))
	}
	if a.Unapproved != nil {
		list = append(list, fmt.Sprintf("stage 1 would start it without its policy's approval: %v", a.Unapproved))
	}
	if !a.Known && len(a.Changes) == 0 {
		list = append(list, "the next boot is not approved, and nothing is known of what differs")
	}
	return list
}

// unproved says what this boot's proof came to, if it is not one that makes the running
// system a good judge: launched, in an approved state, and recognised by its owner. A
// boot that rests on the static root is no such one; nothing computes the next of those.
func (m *Machine) unproved(h Home, boot *Boot, approved []seal.State) (string, error) {
	s, err := h.Setup()
	if err != nil {
		return "", err
	}
	o := outcomeOf(s, boot, approved)
	switch {
	case boot.Launch.State != drtm.Verified:
		return "it was not launched, or its log does not tell the truth", nil
	case !o.Proved():
		return o.Sentence(), nil
	}
	return "", nil
}

// LastApproval is when something was approved last. It is the time of the file that
// holds what is approved: nothing is approved without its being written, and whoever
// can write it, or its time, is root in this system. Approving nothing more than
// before also writes it, as dropping a state does; that makes an automatic approval
// demand more, never less.
func (h Home) LastApproval() (time.Time, error) {
	if _, err := h.Setup(); err != nil {
		return time.Time{}, err
	}
	info, err := os.Stat(filepath.Join(h.dir, approvedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, ErrNothingApproved
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("look when something was approved last: %w", err)
	}
	return info.ModTime(), nil
}
