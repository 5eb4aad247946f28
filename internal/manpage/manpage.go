// Package manpage keeps the manual pages in docs/man in step with the programs'
// own help. It is used by tests alone: a program's test renders its commands and
// compares, and rewrites the page when it is told to.
package manpage

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

var update = flag.Bool("update-man", false, "write the manual pages anew")

// Check compares a program's page, docs/man/NAME.8, with what its commands say of
// themselves. Subcommands stand on the same page, one after the other: whoever
// runs man wants to search in all of it.
func Check(t *testing.T, cmd *cobra.Command) {
	t.Helper()
	cmd.DisableAutoGenTag = true
	var page bytes.Buffer
	if err := render(&page, cmd); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("..", "..", "docs", "man", cmd.Name()+".8")
	if *update {
		if err := os.WriteFile(path, page.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), page.String()); diff != "" {
		t.Errorf("the manual page of %s is not what the program says; run go test ./cmd/... -update-man (-page +program):\n%s", cmd.Name(), diff)
	}
}

func render(page *bytes.Buffer, cmd *cobra.Command) error {
	if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
		return nil
	}
	// A fixed date, so that the same program gives the same page.
	date := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	if err := doc.GenMan(cmd, &doc.GenManHeader{Section: "8", Date: &date, Source: "AEM"}, page); err != nil {
		return err
	}
	for _, sub := range cmd.Commands() {
		if err := render(page, sub); err != nil {
			return err
		}
	}
	return nil
}
