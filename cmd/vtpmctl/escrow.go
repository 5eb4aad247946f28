package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/vtpmhost"
)

func escrowCommand(c *control) *cobra.Command {
	var to []string
	cmd := &cobra.Command{
		Use:   "escrow --to RECIPIENT FILE",
		Short: "Write the store's key, encrypted to a key that you keep elsewhere",
		Long: `escrow has vtpmd encrypt the store's key, and writes it into FILE. Without it, guests' TPMs end with this
machine's TPM: no backup opens on another one. With it, and the secret key that belongs to RECIPIENT, vtpmctl
restore --escrow takes a backup to another TPM, and vtpmctl recover opens the store where no approved boot is
left.

RECIPIENT is a public key of age's (age1...), or a file of them. Make the pair on another machine, and keep the
secret key there, or on paper: age-keygen -o vtpms.key prints the public one. Each of several recipients can
open it alone.

Whoever has FILE and the secret key opens every copy of the store, without this machine, for ever. FILE alone
tells nothing. It stays good for later backups. That it was made, and to whom, is written into the audit log.
A file that is there already is left alone.

Try it: vtpmctl recover without --yes says whether FILE and secret key belong together, on any machine.`,
		Args: arguments("FILE"),
		RunE: asking(func(ctx context.Context, args []string) error {
			keys, err := recipients(to)
			if err != nil {
				return err
			}
			n, err := writeNew(args[0], func(w io.Writer) error { return c.client.Escrow(ctx, keys, w) })
			if err != nil {
				return err
			}
			return c.report(map[string]any{"escrow": args[0], "bytes": n},
				fmt.Sprintf("%s has the store's key, encrypted. Take it off this machine, and try it there with the secret key: vtpmctl recover --escrow %s --identity KEYFILE", args[0], args[0]))
		}),
	}
	cmd.Flags().StringArrayVar(&to, "to", nil, "a public key of age's, or a file of them; may be given several times")
	return cmd
}

// recipients are public keys, one in each line.
func recipients(to []string) (string, error) {
	var lines strings.Builder
	for _, t := range to {
		if strings.HasPrefix(t, "age1") {
			lines.WriteString(t + "\n")
			continue
		}
		if strings.HasPrefix(strings.ToUpper(t), "AGE-SECRET-KEY-") {
			return "", cli.Usage("--to takes a public key, and this is a secret one, which others may have seen now: make another pair")
		}
		b, err := os.ReadFile(t)
		if err != nil {
			return "", fmt.Errorf("read the public keys: %w", err)
		}
		lines.Write(append(b, '\n'))
	}
	if lines.Len() == 0 {
		return "", cli.Usage("--to is needed: whose secret key opens it")
	}
	return lines.String(), nil
}

// opened opens the escrow for a command that uses it.
func (h *hand) opened(use func(secret []byte) error) error {
	file, err := os.ReadFile(h.escrow)
	if err != nil {
		return fmt.Errorf("read the escrow: %w", err)
	}
	identity, err := os.ReadFile(h.identity)
	if err != nil {
		return fmt.Errorf("read the identity: %w", err)
	}
	defer clear(identity)
	secret, err := vtpmhost.OpenEscrow(file, identity, h.passphrase)
	if err != nil {
		return err
	}
	defer clear(secret)
	return use(secret)
}

// passphrase is the identity's.
func (h *hand) passphrase() ([]byte, error) {
	if h.password != "" {
		return cli.Password(h.password)
	}
	in, ok := h.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, errors.New("the identity is encrypted, and there is no terminal to ask for its passphrase at; name a file with --password-file")
	}
	// From before the question on, so that a quick typist's first letters are not shown.
	restore, err := withoutEcho(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("ask for the passphrase: %w", err)
	}
	defer restore()
	fmt.Fprintf(h.errs, "Passphrase of %s: ", h.identity)
	word, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(h.errs)
	if err != nil {
		return nil, fmt.Errorf("read the passphrase: %w", err)
	}
	return word, nil
}

// withoutEcho has a terminal show nothing of what is typed, until restore is called.
func withoutEcho(fd int) (restore func(), err error) {
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	silent := *old
	silent.Lflag &^= unix.ECHO
	return func() { unix.IoctlSetTermios(fd, unix.TCSETS, old) }, unix.IoctlSetTermios(fd, unix.TCSETS, &silent)
}
