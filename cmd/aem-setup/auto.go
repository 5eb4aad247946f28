package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
)

// nothingSealed says that there is nothing that an update could put at risk.
func nothingSealed(home aem.Home) bool {
	_, err := home.LastApproval()
	return errors.Is(err, aem.ErrNotSetUp) || errors.Is(err, aem.ErrNothingApproved)
}

// approveAlone approves what the records of packages explain, and nothing else.
func (s *setup) approveAlone(m *aem.Machine, home aem.Home, o *approveOptions, a *aem.Approval, r *approvalReport) error {
	if len(a.LeftToOwner()) > 0 {
		return s.leave(o, a, r)
	}
	by := explainedBy(a)
	text := fmt.Sprintf("aem: the next boot, %q, is approved; what changed comes from %s.", a.Next.Label, by)
	if o.dryRun {
		return s.report(r, fmt.Sprintf("The next boot, %q, would be approved; what changed comes from %s.\nNothing was sealed.", a.Next.Label, by))
	}
	var err error
	if r.Sealed, err = m.Approve(home, a); err != nil {
		return err
	}
	details := changeDetails(a)
	details["packages"] = by
	s.note(journal.Approved, r.Sealed[0].Generation, details, "%s was approved without asking; what changed comes from %s", a.Next.Label, by)
	if slices.ContainsFunc(r.Sealed, func(d aem.Sealed) bool { return d.Away }) {
		text += "\n" + sealedText(r.Sealed)
	}
	if a.Assumed {
		text += "\naem: nothing confirms yet in which form this machine hashes these files."
	}
	return s.report(r, text)
}

// leave says why the owner has to look, and keeps that it was said.
func (s *setup) leave(o *approveOptions, a *aem.Approval, r *approvalReport) error {
	r.LeftToOwner = a.LeftToOwner()
	text := fmt.Sprintf("aem: the next boot, %q, is not approved. Before you restart, run aem-setup approve, because:", a.Next.Label)
	for _, why := range r.LeftToOwner {
		text += "\n  " + why
	}
	if !o.dryRun {
		s.note(journal.LeftToOwner, 0, changeDetails(a), "left to the owner: %s: %s", a.Next.Label, strings.Join(r.LeftToOwner, "; "))
	}
	if s.json {
		if err := s.report(r, ""); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(os.Stderr, text)
	}
	return cli.Done{Exit: aem.ExitMeasurements}
}

// explainedBy names the packages that explain the changes, each once, and behind one
// that made a file those for whose sake it did.
func explainedBy(a *aem.Approval) string {
	var list []string
	for _, c := range a.Changes {
		e := c.Explanation
		name := strings.TrimSpace(e.Package + " " + e.Version)
		if e.PreviousVersion != "" && e.PreviousVersion != e.Version {
			name += " (was " + e.PreviousVersion + ")"
		}
		if len(e.Because) > 0 {
			name += ", because " + strings.Join(e.Because, " and ")
		}
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return strings.Join(list, "; ")
}
