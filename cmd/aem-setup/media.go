package main

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
)

func mediaCommand(s *setup) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "media",
		Short: "Carry the secret on sticks, and revoke a lost one",
		Long: `The boot partition is a medium, and any number of sticks can be. Each has a counter of
its own in the TPM, so that one can be revoked without the others, wherever it is.`,
	}
	cmd.AddCommand(mediaAdd(s), mediaList(s), mediaRename(s), mediaSync(s), mediaRevoke(s), mediaRemove(s))
	return cmd
}

// arguments demands as many arguments as it names.
func arguments(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return cli.Usage("%s needed", strings.Join(names, " and "))
		}
		return nil
	}
}

func mediaAdd(s *setup) *cobra.Command {
	var uuid string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "add NAME FOLDER",
		Short: "Make a stick a medium, and seal the secret to it",
		Long: `add prepares a counter for the stick that is mounted at FOLDER, and seals to it what is
sealed to the others.`,
		Args: arguments("a name", "the folder where it is mounted"),
		RunE: s.opened(func(m *aem.Machine, home aem.Home, args []string) error {
			if uuid == "" {
				// A folder of a file system that is a medium already is no stick.
				if uuid = aem.FileSystemUUID(args[1]); uuid == aem.FileSystemUUID("/boot") || uuid == aem.FileSystemUUID("/") {
					uuid = ""
				}
			}
			if dryRun {
				if _, err := home.Setup(); err != nil {
					return err
				}
				return s.would(map[string]string{"name": args[0], "folder": args[1], "uuid": uuid}, "make a counter for %s, and seal to it in %s", args[0], args[1])
			}
			medium, err := m.AddMedium(home, args[0], args[1], uuid)
			if err != nil {
				return err
			}
			s.note(journal.MediumAdded, 0, map[string]string{"medium": medium.Name}, "the medium %s was added", medium.Name)
			return s.report(medium, fmt.Sprintf("%s is a medium now. The initramfs looks for it after:\n  aem-setup boot install\n  aem-setup approve", medium.Name))
		}),
	}
	dryRunFlag(cmd, &dryRun)
	cmd.Flags().StringVar(&uuid, "uuid", "", "UUID of its file system, by which the initramfs finds it (default: as the running system says)")
	return cmd
}

func mediaList(s *setup) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the media, which are behind, and which booted last",
		Long: `list says of each medium whether it opens what is approved, and when the machine last
proved itself with it, as far as the journal knows.`,
		Args: cli.NoArgs,
		RunE: s.opened(func(m *aem.Machine, home aem.Home, _ []string) error {
			list, err := s.media(m, home)
			if err != nil {
				return err
			}
			return s.report(list, mediaText(list))
		}),
	}
}

// mediumReport is a medium with what the journal knows of it.
type mediumReport struct {
	aem.MediumStatus
	LastProof  *time.Time `json:"last_proof,omitempty"`
	BootedLast bool       `json:"booted_last,omitempty"` // of all media
}

// media lists the media with their last proofs.
func (s *setup) media(m *aem.Machine, home aem.Home) ([]mediumReport, error) {
	list, err := m.MediaStatus(home)
	if err != nil {
		return nil, err
	}
	boots, _ := s.boots() // status and journal say what is wrong with it
	proved := func(b *bootReport) bool { return b.proved() }
	latest := last(boots, proved)
	var all []mediumReport
	for _, st := range list {
		r := mediumReport{MediumStatus: st}
		id := fmt.Sprintf("%x", []byte(st.ID))
		if b := last(boots, func(b *bootReport) bool { return b.proved() && b.MediumID == id }); b != nil {
			r.LastProof, r.BootedLast = &b.Time, b.Boot == latest.Boot
		}
		all = append(all, r)
	}
	return all, nil
}

func mediaText(list []mediumReport) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tADDED\tGENERATION\tLAST PROOF\tSTATE")
	for _, st := range list {
		state := "opens what is approved"
		switch {
		case st.Revoked:
			state = "revoked"
		case st.Problem != "":
			state = st.Problem
		case !st.Present:
			state = "not here; opens what it opened when it was sealed"
		case st.Generation == 0:
			state = "empty"
		case st.Behind:
			state = "behind: aem-setup media sync"
		}
		proof := "-"
		if st.LastProof != nil {
			proof = st.LastProof.Format("2006-01-02 15:04")
		}
		if st.BootedLast {
			proof += " (last)"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", st.Name, st.Added.Format("2006-01-02"), st.Generation, proof, state)
	}
	w.Flush()
	return strings.TrimRight(b.String(), "\n")
}

func mediaRename(s *setup) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "rename NAME NEW",
		Short: "Give a medium another name",
		Args:  arguments("its name", "the new one"),
		RunE: func(_ *cobra.Command, args []string) error {
			if dryRun {
				setup, err := aem.OpenHome(s.home).Setup()
				if err == nil {
					err = setup.Rename(args[0], args[1])
				}
				if err != nil {
					return err
				}
				return s.would(map[string]string{"would_rename": args[0], "to": args[1]}, "call %s %s", args[0], args[1])
			}
			if err := aem.OpenHome(s.home).RenameMedium(args[0], args[1]); err != nil {
				return err
			}
			return s.report(map[string]string{"renamed": args[1]}, fmt.Sprintf("%s is called %s now.", args[0], args[1]))
		},
	}
	dryRunFlag(cmd, &dryRun)
	return cmd
}

func mediaSync(s *setup) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Bring media that were away up to date",
		Args:  cli.NoArgs,
		RunE: s.opened(func(m *aem.Machine, home aem.Home, _ []string) error {
			if dryRun {
				behind, err := m.Behind(home)
				if err != nil {
					return err
				}
				return s.would(map[string][]string{"behind": behind}, "seal to %s", cmp.Or(strings.Join(behind, ", "), "no medium"))
			}
			done, err := m.Sync(home)
			if err != nil {
				return err
			}
			for _, d := range done {
				if !d.Away {
					s.note(journal.Sealed, d.Generation, map[string]string{"medium": d.Medium}, "the medium %s was brought up to date", d.Medium)
				}
			}
			if len(done) == 0 {
				return s.report(done, "Every medium is up to date.")
			}
			return s.report(done, sealedText(done))
		}),
	}
	dryRunFlag(cmd, &dryRun)
	return cmd
}

// sealedText says what was sealed to which media.
func sealedText(done []aem.Sealed) string {
	var lines []string
	for _, d := range done {
		if d.Away {
			lines = append(lines, fmt.Sprintf("%s is not here: it opens what it opened before, until it is synced or revoked.", d.Medium))
			continue
		}
		lines = append(lines, fmt.Sprintf("%s: sealed as generation %d.", d.Medium, d.Generation))
	}
	return strings.Join(lines, "\n")
}

func mediaRevoke(s *setup) *cobra.Command {
	return endMedium(s, &cobra.Command{
		Use:   "revoke NAME",
		Short: "Make a lost stick worthless",
		Long: `revoke moves the medium's counter on: from then on the TPM itself refuses the stick, and
every copy of it. It need not be at hand. The last medium that opens can't be revoked.`,
	}, (*aem.Machine).Revoke, "revoke", "revoked", "opens nothing any more, and no copy of it does")
}

func mediaRemove(s *setup) *cobra.Command {
	return endMedium(s, &cobra.Command{
		Use:   "remove NAME",
		Short: "Revoke a medium and give its counter back to the TPM",
	}, (*aem.Machine).RemoveMedium, "remove", "removed", "is no medium any more")
}

// endMedium makes a command that ends what a medium is good for. will and was are the
// deed in words, now what is true of the medium afterwards.
func endMedium(s *setup, cmd *cobra.Command, end func(*aem.Machine, aem.Home, string) error, will, was, now string) *cobra.Command {
	var dryRun bool
	cmd.Args = arguments("the medium's name")
	cmd.RunE = s.opened(func(m *aem.Machine, home aem.Home, args []string) error {
		name := args[0]
		setup, err := home.Setup()
		if err == nil {
			_, err = setup.Medium(name)
		}
		if err != nil {
			return err
		}
		if dryRun {
			return s.would(map[string]string{"would_" + will: name}, "%s %s", will, name)
		}
		if err := end(m, home, name); err != nil {
			return err
		}
		s.note(journal.MediumRevoked, 0, map[string]string{"medium": name}, "the medium %s was %s", name, was)
		return s.report(map[string]string{was: name}, fmt.Sprintf("%s %s.", name, now))
	})
	dryRunFlag(cmd, &dryRun)
	return cmd
}
