package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/seal"
)

func secretCommand(s *setup) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Keep what the machine will prove itself with",
	}
	set := &cobra.Command{Use: "set", Short: "Set the secret"}
	set.AddCommand(textCommand(s), totpCommand(s))
	cmd.AddCommand(set)
	return cmd
}

func textCommand(s *setup) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "text",
		Short: "Read a sentence from the terminal or standard input",
		Long: `text reads the sentence that you will recognise when the machine shows it. Nobody but
you should know it, and it should not be one that others could guess.

It is kept sealed to this TPM until you seal it to a boot, so a copy of the disk does
not hold it. It is never taken from the command line, where other programs see it.`,
		Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if dryRun {
				return s.wouldKeep(seal.KindText, "a sentence")
			}
			text, err := readSecret("Your sentence: ")
			if err != nil {
				return err
			}
			defer clear(text)
			m, home, closer, err := s.open()
			if err != nil {
				return err
			}
			defer closer.Close()
			if err := m.SetText(home, text); err != nil {
				return err
			}
			s.note(journal.SecretSet, 0, map[string]string{"kind": seal.KindText.String()}, "a sentence was set as the secret; it is not sealed yet")
			return s.report(map[string]bool{"kept": true}, "Kept. Next: aem-setup seal")
		},
	}
	dryRunFlag(cmd, &dryRun)
	return cmd
}

// wouldKeep reports what setting a secret would do. Nothing is asked for.
func (s *setup) wouldKeep(kind seal.Kind, what string) error {
	if _, err := aem.OpenHome(s.home).Setup(); err != nil {
		return err
	}
	return s.would(map[string]string{"would_keep": kind.String()}, "ask for %s, and keep it in place of the secret that is kept, if there is one", what)
}

// readSecret reads one line: from the terminal without echo, or from standard
// input where that is none. The caller wipes it.
func readSecret(prompt string) ([]byte, error) {
	if term.IsTerminal(int(os.Stdin.Fd())) {
		fmt.Fprint(os.Stderr, prompt)
		line, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(os.Stderr)
		if err != nil {
			return nil, fmt.Errorf("read from the terminal: %w", err)
		}
		return line, nil
	}
	return readLine(os.Stdin)
}

// readLine reads up to the end of the line, and no byte more: the next answer may
// follow in the same pipe.
func readLine(in io.Reader) ([]byte, error) {
	line := make([]byte, 0, aem.MaxText+1)
	for one := make([]byte, 1); len(line) <= aem.MaxText; {
		n, err := in.Read(one)
		switch {
		case n == 1 && one[0] == '\n', errors.Is(err, io.EOF):
			return line, nil
		case n == 1:
			line = append(line, one[0])
		case err != nil:
			clear(line)
			return nil, fmt.Errorf("read standard input: %w", err)
		}
	}
	clear(line)
	return nil, fmt.Errorf("the line has more than %d bytes", aem.MaxText)
}

// readNewPIN asks for a PIN twice, so that a slip does not lock its owner out.
func readNewPIN() ([]byte, error) {
	pin, err := readSecret("New PIN: ")
	if err != nil {
		return nil, err
	}
	again, err := readSecret("The same PIN again: ")
	if err != nil {
		clear(pin)
		return nil, err
	}
	defer clear(again)
	if len(pin) == 0 || !bytes.Equal(pin, again) {
		clear(pin)
		return nil, errors.New("the two PINs differ, or are empty; nothing was sealed")
	}
	return pin, nil
}
