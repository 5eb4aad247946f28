package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/internal/totp"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

func totpCommand(s *setup) *cobra.Command {
	var p totp.Params
	var sha256, dryRun bool
	cmd := &cobra.Command{
		Use:   "totp",
		Short: "Make a key of one-time codes for this machine and your phone",
		Long: `totp makes a key, shows it as a QR code for an authenticator app on your phone, and asks
for the code that the phone then shows. Only when that agrees with this machine's is the
key kept, in place of the secret that was kept before. An empty answer gives up.

On a TPM 2.0 the key goes into the TPM, which makes the codes itself: no program reads it
again, so a second phone has to read the QR code now. A TPM 1.2 has no such keys; there the
key is kept as a sentence is. At each boot the machine shows the code of the moment; it
proves itself if your phone shows the same one. Machine and phone need clocks that agree,
and the machine's hardware clock has to keep UTC.

The QR code is a secret. It is shown on the error output, and cleared from a terminal.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.Digits < 6 || p.Digits > 8 {
				return cli.Usage("--digits is 6, 7 or 8, not %d", p.Digits)
			}
			if sha256 {
				p.Alg = tpm.SHA256
			}
			if p.Account == "" {
				host, err := os.Hostname()
				if err != nil {
					return fmt.Errorf("learn this machine's name: %w", err)
				}
				p.Account, _, _ = strings.Cut(host, ".")
			}
			if err := wantUTC(s.root); err != nil {
				return err
			}
			if dryRun {
				return s.wouldKeep(seal.KindTOTP, "a code that a new key gives")
			}
			m, home, closer, err := s.open()
			if err != nil {
				return err
			}
			defer closer.Close()
			pairing, err := m.Pair(home, p)
			if err != nil {
				return err
			}
			defer pairing.Wipe()
			if err := pairPhone(cmd.Context(), pairing); err != nil {
				return err
			}
			if err := pairing.Keep(); err != nil {
				return err
			}
			kind := seal.KindTOTP.String()
			s.note(journal.SecretSet, 0, map[string]string{"kind": kind}, "a key of one-time codes was set as the secret; it is not sealed yet")
			return s.report(map[string]any{"kept": true, "kind": kind}, "Kept. Next: aem-setup seal")
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.Issuer, "issuer", "AEM", "what the phone calls the issuer of the codes")
	f.StringVar(&p.Account, "account", "", "what the phone calls this machine (default: its host name)")
	f.IntVar(&p.Digits, "digits", 6, "digits of a code, 6 to 8")
	f.BoolVar(&sha256, "sha256", false, "make the codes with SHA-256 in place of SHA-1, if your app can")
	dryRunFlag(cmd, &dryRun)
	return cmd
}

// wantUTC refuses a machine whose hardware clock keeps local time, as some other
// systems want it: the kernel takes it for UTC, and nothing corrects that before the
// proof. The test code would agree, and no code of a boot would.
func wantUTC(root string) error {
	b, err := os.ReadFile(filepath.Join(root, "etc/adjtime"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("learn whether the hardware clock keeps local time: %w", err)
	}
	// hwclock(8): the third line says UTC or LOCAL.
	if lines := strings.Split(string(b), "\n"); len(lines) > 2 && strings.TrimSpace(lines[2]) == "LOCAL" {
		return fmt.Errorf("the hardware clock keeps local time (/etc/adjtime), which a boot takes for UTC, so its codes would be wrong; "+
			"timedatectl set-local-rtc 0 changes that: %w", aem.ErrNotPossible)
	}
	return nil
}

// maxTries is how many codes are compared with one key. An owner who mistypes that
// often has the wrong entry before the eyes, or a clock that is wrong.
const maxTries = 5

// errNotKept says what a pairing that came to nothing has changed.
var errNotKept = errors.New("nothing was kept; the secret from before, if there was one, is still the one")

// pairPhone shows the key to a phone and asks for codes until one agrees.
func pairPhone(ctx context.Context, p *aem.Pairing) error {
	terminal := term.IsTerminal(int(os.Stderr.Fd()))
	if terminal {
		defer io.WriteString(os.Stderr, clearScreen)
	}
	prompt := ""
	for try := 1; try <= maxTries; try++ {
		// Drawn anew each time: a terminal has scrolled by what was typed.
		if terminal || try == 1 {
			if err := showKey(p, terminal); err != nil {
				return err
			}
		}
		code, err := askCode(ctx, prompt+"Code on the phone (Enter alone: give up): ")
		if err != nil {
			return fmt.Errorf("%w: %w", err, errNotKept)
		}
		if code == "" {
			return fmt.Errorf("no code was given: %w", errNotKept)
		}
		switch _, err = p.Test(code); {
		case err == nil:
			return nil
		case !errors.Is(err, totp.ErrWrongCode):
			return fmt.Errorf("%w: %w", err, errNotKept)
		}
		prompt = fmt.Sprintf("Not agreed, %d of %d. ", try, maxTries)
	}
	return fmt.Errorf("%w: %w", totp.ErrWrongCode, errNotKept)
}

// clearScreen moves home and clears the screen and what was scrolled off it.
const clearScreen = "\x1b[0m\x1b[H\x1b[2J\x1b[3J"

// whiteOnBlack has the QR code's light modules light on every terminal.
const whiteOnBlack, normal = "\x1b[1;37;40m", "\x1b[0m"

// showKey draws the QR code and, below it, the key as text. On a terminal too small
// for the code there is the text alone.
func showKey(p *aem.Pairing, terminal bool) error {
	d := totp.Drawing{Columns: 80, Rows: 23}
	start, end := "", "\n"
	// Wiped below, and larger than any screen that is drawn, so it never grows.
	out := make([]byte, 0, 16384)
	defer func() { clear(out[:cap(out)]) }()
	if terminal {
		// A serial line says 0 by 0, and mostly has 80 by 24.
		columns, rows, err := term.GetSize(int(os.Stderr.Fd()))
		if err != nil || columns == 0 || rows == 0 {
			columns, rows = 80, 24
		}
		d.Columns, d.Rows = columns, rows-2 // the key and the question
		start, end = whiteOnBlack, normal+"\n"
		out = append(out, clearScreen...)
	}
	drawing, err := p.QR.Draw(d)
	defer clear(drawing)
	switch {
	case errors.Is(err, totp.ErrScreen):
		out = append(append(out, err.Error()...), '\n')
	case err != nil:
		return err
	}
	for line := range bytes.Lines(drawing) {
		out = append(append(append(out, start...), line[:len(line)-1]...), end...)
	}
	out = append(out, "Key:"...)
	for group := range slices.Chunk(p.Key, 4) {
		out = append(append(out, ' '), group...)
	}
	out = append(out, '\n')
	if _, err := os.Stderr.Write(out); err != nil {
		return fmt.Errorf("show the key: %w", err)
	}
	return nil
}

// askCode reads a line, also where that is cut short by Ctrl-C: the screen has to be
// cleared then.
func askCode(ctx context.Context, prompt string) (string, error) {
	fmt.Fprint(os.Stderr, prompt)
	type answer struct {
		line []byte
		err  error
	}
	got := make(chan answer, 1)
	in := os.Stdin
	go func() {
		line, err := readLine(in)
		got <- answer{line, err}
	}()
	select {
	case a := <-got:
		return strings.TrimSpace(string(a.line)), a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
