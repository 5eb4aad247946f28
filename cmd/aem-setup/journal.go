package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
)

// note writes what was done into the machine's journal, and keeps the journal's end
// where files can't be edited. What was done stays done where that fails, so the failure
// is said and does not hide it.
func (s *setup) note(kind journal.Kind, generation uint64, details map[string]string, format string, args ...any) {
	j, err := journal.Open(s.home)
	if err == nil {
		err = j.Append(journal.Entry{Kind: kind, Generation: generation, Text: fmt.Sprintf(format, args...), Details: details})
	}
	if err == nil {
		err = s.keepHead(j, kind == journal.SetUp || kind == journal.Accepted)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "aem-setup: this could not be written into the journal as it should: %v\n", err)
	}
}

// keepHead keeps where the journal ends, but never over a journal that is not what it was:
// what somebody did to it would be hidden by the next entry. first says that it is taken as it is.
func (s *setup) keepHead(j *journal.Journal, first bool) error {
	home := aem.OpenHome(s.home)
	if !first {
		if _, err := s.held(j, home); err != nil {
			return err
		}
	}
	head, err := j.Head()
	if err != nil {
		return err
	}
	return s.machine.KeepHead(home, head.Bytes())
}

// held holds the journal against the end that was kept last, and says how many entries
// were added since.
func (s *setup) held(j *journal.Journal, home aem.Home) (added uint64, err error) {
	raw, err := s.machine.KeptHead(home)
	if err != nil {
		return 0, err
	}
	known, err := journal.ParseHead(raw)
	if err != nil {
		return 0, err
	}
	return j.VerifyAgainst(known)
}

func journalCommand(s *setup) *cobra.Command {
	var accept, dryRun bool
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "Show what was approved, sealed, opened and refused",
		Long: `journal prints what happened on this machine, and checks that no line was changed: each
holds the digest of the one before. It also holds the journal against its end as the TPM
sealed it with the last entry, so that lines which were cut off, and a journal that was
written anew, are noticed.

A journal that is not what it was stays so until you have looked at it and say --accept,
which is written into it.`,
		Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error { return showJournal(s, accept, dryRun) },
	}
	cmd.Flags().BoolVar(&accept, "accept", false, "take the journal as it is from now on, whatever was done to it")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "with --accept: say what would be accepted, and accept nothing")
	cmd.AddCommand(journalBoot(s))
	return cmd
}

func showJournal(s *setup, accept, dryRun bool) error {
	j, err := journal.Open(s.home)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(os.Stdout)
	for e, err := range j.Entries() {
		if errors.Is(err, fs.ErrNotExist) {
			break // what is missing is said below
		}
		if err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
		if s.json {
			if err := encoder.Encode(e); err != nil {
				return err
			}
			continue
		}
		fmt.Println(e)
	}
	if err := j.Verify(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("check the journal: %w", err)
	}
	_, home, closer, err := s.open()
	if err != nil {
		return fmt.Errorf("no line of the journal was changed, but whether lines are missing can't be said without the TPM: %w", err)
	}
	defer closer.Close()
	_, err = s.held(j, home)
	if err != nil && accept && dryRun {
		return s.would(map[string]string{"would_accept": err.Error()}, "accept the journal although %v", err)
	}
	if err != nil && accept {
		s.note(journal.Accepted, 0, map[string]string{"problem": err.Error()}, "the journal was accepted as it is")
		return nil
	}
	if err != nil {
		return fmt.Errorf("hold the journal against its end: %w", err)
	}
	return nil
}
