package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
)

// note writes what was done into the machine's journal. What was done stays done
// where that fails, so the failure is said and does not hide it.
func (s *setup) note(kind journal.Kind, generation uint64, details map[string]string, format string, args ...any) {
	j, err := journal.Open(s.home)
	if err == nil {
		err = j.Append(journal.Entry{Kind: kind, Generation: generation, Text: fmt.Sprintf(format, args...), Details: details})
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "aem-setup: this could not be written into the journal: %v\n", err)
	}
}

func journalCommand(s *setup) *cobra.Command {
	return &cobra.Command{
		Use:   "journal",
		Short: "Show what was approved, sealed, opened and refused",
		Long: `journal prints what happened on this machine, and checks that no line was changed: each
holds the digest of the one before. That the end was cut off can't be seen from the
file alone.`,
		Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			j, err := journal.Open(s.home)
			if err != nil {
				return err
			}
			encoder := json.NewEncoder(os.Stdout)
			for e, err := range j.Entries() {
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
			if err := j.Verify(); err != nil {
				return fmt.Errorf("check the journal: %w", err)
			}
			return nil
		},
	}
}
