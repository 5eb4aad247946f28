package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/bootside"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
)

// approveOptions are the flags of aem-setup approve.
type approveOptions struct {
	entry, boot             string
	drop                    string
	yes, list, dryRun, auto bool
}

// approvalReport is what --json prints.
type approvalReport struct {
	State   string       `json:"state"`
	Known   bool         `json:"approved_already"`
	Assumed bool         `json:"assumed,omitempty"`
	Changes []aem.Change `json:"changes"`
	// LeftToOwner says why --auto approved nothing, a sentence for each reason.
	LeftToOwner []string     `json:"left_to_owner,omitempty"`
	Sealed      []aem.Sealed `json:"sealed,omitempty"`
	// Notice says that the entry makes no launch, although others do.
	Notice string `json:"notice,omitempty"`
	// Unapproved says why the policy that stage 1 asks does not approve of what it will
	// start all the same.
	Unapproved string `json:"not_approved_by_policy,omitempty"`
}

func approveCommand(s *setup) *cobra.Command {
	o := &approveOptions{}
	cmd := &cobra.Command{
		Use:   "approve",
		Short: "Approve what the next boot will measure",
		Long: `approve computes what the next boot will measure, from GRUB's menu and the files on the
disk, shows what differs from the approved state, asks, and seals to it. The state that
runs stays approved beside it, so that the machine still proves itself if the new one
does not boot. If the entry launches a Linux with a stage 1, what that will start is
computed and shown as well, from the menu entry or the description that it follows, on the
disks that it mounts, and by the policy that it asks: what that does not approve of is
not approved here either, unless stage 1 starts it all the same.

It is run after an update and before the restart. Where it was not, the next boot is
refused with the name of what changed; approve then, in a system that you trust.

Beside each change stands what the package manager's records say about the file that it
comes from. --auto, for the package manager's hooks, asks nobody: it approves if these
records explain every change, in a boot that has proved itself. A kernel must have the
checksum that its package recorded, an initramfs have been made by the package manager
in this session, and the command line differ in the kernel's file name alone. All else
is left to you: exit code 4, with a sentence for each reason, and nothing is sealed.
Where nothing was ever sealed it says nothing and does nothing.`,
		Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if o.auto && (o.yes || o.list || o.drop != "") {
				return cli.Usage("--auto decides by itself; it goes with none of --yes, --list and --drop")
			}
			return approve(s, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.entry, "entry", "default", "GRUB's menu entry: a title, an identifier, a number, or default")
	f.StringVar(&o.boot, "boot", "", "the folder that GRUB reads (default: this machine's)")
	f.BoolVar(&o.yes, "yes", false, "don't ask: you have read what --dry-run says")
	f.BoolVar(&o.auto, "auto", false, "don't ask: approve what package records explain, and leave the rest to the owner")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what differs, and seal nothing")
	f.BoolVar(&o.list, "list", false, "list the approved states")
	f.StringVar(&o.drop, "drop", "", "approve a state no more, by its name in the list")
	return cmd
}

func approve(s *setup, o *approveOptions) error {
	if o.auto && nothingSealed(aem.OpenHome(s.home)) {
		return nil // a package manager's hook runs everywhere
	}
	m, home, closer, err := s.open()
	if err != nil {
		return err
	}
	defer closer.Close()
	switch {
	case o.list:
		return listApproved(s, m, home)
	case o.drop != "":
		done, err := m.Drop(home, o.drop)
		if err != nil {
			return err
		}
		s.note(journal.Approved, 0, map[string]string{"dropped": o.drop}, "%s is approved no more", o.drop)
		return s.report(done, sealedText(done))
	}
	if !o.auto {
		fmt.Fprintln(os.Stderr, "Computing what the next boot will measure ...")
	}
	a, err := m.PlanApproval(home, o.boot, o.entry, nil)
	if o.auto && errors.Is(err, aem.ErrNextStatic) {
		return nil // the owner was told when it was sealed; at each update would be too often
	}
	if err != nil {
		return err
	}
	r := &approvalReport{State: a.Next.Label, Known: a.Known, Assumed: a.Assumed, Changes: a.Changes, Notice: bootside.LaunchNotice(s.root, a.Entry)}
	if a.Unapproved != nil {
		r.Unapproved = a.Unapproved.Error()
	}
	if r.Notice != "" {
		fmt.Fprintln(os.Stderr, r.Notice)
	}
	switch {
	case a.Known:
		return s.finish(m, home, o, a, r)
	case o.auto:
		return s.approveAlone(m, home, o, a, r)
	case o.dryRun:
		return s.report(r, changesText(a)+"\nNothing was sealed.")
	}
	if !o.yes {
		fmt.Fprintln(os.Stderr, changesText(a))
		if err := confirm("Approve this? Type yes: "); err != nil {
			return err
		}
	}
	if r.Sealed, err = m.Approve(home, a); err != nil {
		return err
	}
	s.note(journal.Approved, r.Sealed[0].Generation, changeDetails(a), "%s was approved", a.Next.Label)
	return s.report(r, sealedText(r.Sealed))
}

// finish is for a next boot that is approved already. An approval that was cut short
// may not have reached every medium.
func (s *setup) finish(m *aem.Machine, home aem.Home, o *approveOptions, a *aem.Approval, r *approvalReport) error {
	behind, err := m.Behind(home)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%q is approved already; the next boot will prove itself.", a.Next.Label)
	switch {
	case len(behind) > 0 && o.dryRun:
		text = fmt.Sprintf("%q is approved already, but not sealed on %s yet.\nNothing was sealed.", a.Next.Label, strings.Join(behind, ", "))
	case len(behind) > 0 && o.auto && len(a.LeftToOwner()) > 0:
		return s.leave(o, a, r)
	case len(behind) > 0:
		if r.Sealed, err = m.Sync(home); err != nil {
			return err
		}
		s.note(journal.Sealed, 0, map[string]string{"media": strings.Join(behind, ", ")}, "what was approved was sealed to %s", strings.Join(behind, ", "))
		text += "\n" + sealedText(r.Sealed)
	case o.auto && !s.json:
		return nil
	}
	return s.report(r, text)
}

func listApproved(s *setup, m *aem.Machine, home aem.Home) error {
	states, err := m.Approved(home)
	if err != nil {
		return err
	}
	var labels []string
	for _, st := range states {
		labels = append(labels, st.Label)
	}
	return s.report(labels, strings.Join(labels, "\n"))
}

// changesText says what differs, for a person who is to answer.
func changesText(a *aem.Approval) string {
	var b strings.Builder
	fmt.Fprintf(&b, "The next boot, %q, differs from what is approved in:\n", a.Next.Label)
	for _, c := range a.Changes {
		fmt.Fprintf(&b, "  %s\n    approved  %.40s\n    now       %.40s\n", c.What, c.Before, c.After)
		if c.Explanation != nil {
			fmt.Fprintf(&b, "    %-9s %s\n", map[bool]string{true: "explained", false: "open"}[c.Explanation.Explained], c.Explanation.Why)
		}
	}
	for _, f := range a.Files {
		fmt.Fprintf(&b, "It boots %s\n", f)
	}
	if a.Unapproved != nil {
		fmt.Fprintf(&b, "Stage 1 will start it as not approved: %v\n", a.Unapproved)
	}
	if a.Assumed {
		fmt.Fprintln(&b, "Assumed: nothing confirms yet in which form this machine hashes these files.")
	}
	return strings.TrimRight(b.String(), "\n")
}

func changeDetails(a *aem.Approval) map[string]string {
	details := map[string]string{}
	for _, c := range a.Changes {
		details[c.What] = c.After
	}
	return details
}

// errDeclined says that the owner did not agree.
var errDeclined = errors.New("not approved; nothing was changed")

// confirm asks a question that only "yes" answers.
func confirm(question string) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return fmt.Errorf("%w: there is nobody to ask; --yes answers for them", errDeclined)
	}
	fmt.Fprint(os.Stderr, question)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "yes" {
		return errDeclined
	}
	return nil
}

func uninstallCommand(s *setup) *cobra.Command {
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Leave the machine as it was",
		Long: `uninstall removes the records from the media that are at hand, gives every counter back
to the TPM, and removes the set-up. No copy of any medium opens afterwards. The TPM's
storage key stays, because others may use it; so does the owner of a TPM 1.2. A TPM that
was cleared or exchanged since is left alone.`,
		Args: cli.NoArgs,
		RunE: s.opened(func(m *aem.Machine, home aem.Home, _ []string) error {
			list, err := s.media(m, home)
			if err != nil {
				return err
			}
			if dryRun {
				return s.report(list, mediaText(list)+"\nThese media would be removed, and the set-up. Nothing was changed.")
			}
			if !yes {
				fmt.Fprintln(os.Stderr, mediaText(list))
				if err := confirm("Remove all of this? Type yes: "); err != nil {
					return err
				}
			}
			if err := s.removeBootSide(); err != nil {
				return err
			}
			if err := m.Uninstall(home); err != nil {
				return err
			}
			return s.report(map[string]bool{"uninstalled": true}, "Removed. This machine proves nothing any more.")
		}),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	dryRunFlag(cmd, &dryRun)
	return cmd
}
