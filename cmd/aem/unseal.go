package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/plymouth"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/ui"
)

// unsealOptions are the flags of aem unseal.
type unsealOptions struct {
	where    *aem.Where
	media    []string
	disks    []string
	tty      string
	json     bool
	plain    bool
	powerOff bool
	gate     bool
}

func unsealCommand(where *aem.Where) *cobra.Command {
	o := &unsealOptions{where: where}
	cmd := &cobra.Command{
		Use:   "unseal --medium DEVICE|FOLDER",
		Short: "Prove the machine: open the medium's record and show the secret",
		Long: `unseal opens the record on the medium and shows the secret on the whole screen.
It runs in the initramfs, before anything asks for a passphrase. Of several media that are
named the first that is there is read.

After the owner has confirmed, a PCR is extended so that nothing opens the record again
in this boot, and so that the running system can tell what the proof came to: aem-setup
journal, explain. Where the machine does not prove itself the screen says why; booting on
takes a word that has to be typed, and no time-out leads there.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(o.media) == 0 {
				return cli.Usage("--medium is needed: the device or folder that holds the sealed record")
			}
			return unseal(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.media, "medium", nil, "block device or folder with the sealed record, or UUID= and the UUID of its file system; of several, the first that is there")
	f.StringSliceVar(&o.disks, "disk", nil, "UUID of a LUKS volume whose header is measured first")
	f.StringVar(&o.tty, "tty", "/dev/tty", "terminal to show the proof on")
	f.BoolVar(&o.plain, "plain", false, "lines of text in place of the full screen")
	f.BoolVar(&o.json, "json", false, "print the outcome as JSON when done; never the secret")
	f.BoolVar(&o.gate, "gate", false, "exit with 0 where the boot may go on, also where its owner typed the word for it")
	f.BoolVar(&o.powerOff, "power-off", false, "switch the machine off where its owner chooses so")
	return cmd
}

// outcome is what --json prints. The secret is not part of it.
type outcome struct {
	Result     string       `json:"result"` // proved, rejected, refused, first-boot
	Exit       aem.Exit     `json:"exit"`
	Cause      aem.Cause    `json:"cause,omitempty"`
	Sentence   string       `json:"sentence,omitempty"`
	Detail     string       `json:"detail,omitempty"`
	Changes    []aem.Change `json:"changes,omitempty"`
	Unproven   bool         `json:"continued_unproven,omitempty"`
	State      string       `json:"state,omitempty"`
	Grade      string       `json:"grade,omitempty"`
	Weak       string       `json:"weaker_because,omitempty"`
	Clock      string       `json:"clock_doubt,omitempty"` // one-time codes: why the clock is not believed
	Generation uint64       `json:"generation,omitempty"`
	Commands   int          `json:"tpm_commands"`
	Millis     float64      `json:"milliseconds,omitempty"`
}

func unseal(ctx context.Context, o *unsealOptions) error {
	// No core dump of this process: it would hold the secret.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	tty, err := os.OpenFile(o.tty, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the terminal for the proof: %w", err)
	}
	defer tty.Close()
	screen, err := openScreen(tty, o.plain)
	if err != nil {
		return err
	}
	screen = behindPicture(ctx, plymouth.Address, screen)
	result, err := prove(ctx, o, screen)
	if err = errors.Join(err, screen.Close()); err != nil {
		return err
	}
	if o.json {
		if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
			return fmt.Errorf("print the outcome: %w", err)
		}
	}
	if result.Exit != aem.ExitOK && !(o.gate && result.Unproven) {
		return cli.Done{Exit: result.Exit}
	}
	return nil
}

func openScreen(tty *os.File, plain bool) (ui.Screen, error) {
	if plain {
		return ui.NewPlain(tty, tty), nil
	}
	return ui.New(tty)
}

// prove makes the proof, shows it or the refusal, and caps the PCR before it
// returns, so that whatever runs next finds nothing to open.
func prove(ctx context.Context, o *unsealOptions, screen ui.Screen) (*outcome, error) {
	if o.where.Wait > 0 {
		screen.Progress("Looking for the TPM and the medium ...")
	}
	var counter tpm.Counter
	where := *o.where
	where.Disks = o.disks
	m, closer, err := aem.Open(where, &counter)
	if err != nil {
		return refused(ctx, o, screen, nil, aem.Refuse(err))
	}
	defer closer.Close()
	m.InInitramfs = true
	records, err := aem.ReadMedium(o.media, o.where.Wait)
	if err != nil {
		return refused(ctx, o, screen, m, aem.Refuse(err))
	}
	proof, err := m.Prove(ctx, records, askPIN(screen))
	commands := counter.Commands
	if err != nil {
		r := aem.Refuse(err)
		if r.Cause == aem.CauseFirstBoot {
			return firstBoot(ctx, screen, m, r)
		}
		return refused(ctx, o, screen, m, r)
	}
	answer, err := screen.ShowProof(ctx, proofView(proof, m.Now()))
	proof.Wipe()
	shown := aem.Outcome{Result: aem.ResultProved, Medium: proof.Record.Medium}
	rejected := err == nil && answer != ui.Confirmed
	switch {
	case err != nil:
		shown.Result = aem.ResultUnanswered
	case rejected:
		shown.Result, shown.Cause = aem.ResultRefused, aem.CauseRejected
	}
	// Also where the terminal went away: what runs next must find nothing to open.
	if cerr := m.Cap(shown); cerr != nil {
		return refused(ctx, o, screen, nil, aem.Refuse(cerr))
	}
	if err != nil {
		return nil, err
	}
	if rejected {
		return capped(ctx, o, screen, m, &aem.Refusal{Cause: aem.CauseRejected})
	}
	result := &outcome{
		Result: "proved", State: proof.State, Generation: proof.Record.Generation,
		Commands: commands, Millis: float64(proof.Took.Microseconds()) / 1000,
	}
	result.Grade, result.Weak = proof.Boot.Grade()
	result.Clock = clockDoubt(proof.Codes)
	return result, nil
}

// firstBoot caps before it says so, because the terminal may go away meanwhile.
func firstBoot(ctx context.Context, screen ui.Screen, m *aem.Machine, r *aem.Refusal) (*outcome, error) {
	if err := m.Cap(aem.Outcome{Result: aem.ResultFirstBoot}); err != nil {
		return nil, err
	}
	if err := screen.ShowNotice(ctx, ui.Notice{Title: "FIRST BOOT", Text: r.Sentence(), Hint: r.Advice()}); err != nil {
		return nil, err
	}
	return &outcome{Result: "first-boot", Cause: r.Cause, Sentence: r.Sentence()}, nil
}

// refused caps, where there is a TPM to cap, and shows the refusal: what is refused now
// must not be opened by what runs next, either.
func refused(ctx context.Context, o *unsealOptions, screen ui.Screen, m *aem.Machine, r *aem.Refusal) (*outcome, error) {
	if m != nil {
		if err := m.Cap(aem.Outcome{Result: aem.ResultRefused, Cause: r.Cause}); err != nil {
			return nil, err
		}
	}
	return capped(ctx, o, screen, m, r)
}

// capped shows a refusal that the cap tells of already. Only a typed word leads on from
// here, and the running system learns that it was typed.
func capped(ctx context.Context, o *unsealOptions, screen ui.Screen, m *aem.Machine, r *aem.Refusal) (*outcome, error) {
	answer, err := screen.ShowRefusal(ctx, refusalView(r))
	if err != nil {
		return nil, err
	}
	result := &outcome{
		Result: "refused", Exit: r.Exit(), Cause: r.Cause, Sentence: r.Sentence(), Detail: r.Detail, Changes: r.Changes,
		Unproven: answer == ui.ContinueUnproven,
	}
	if result.Unproven && m != nil {
		if err := m.Cap(aem.Outcome{Result: aem.ResultContinued}); err != nil {
			return nil, err
		}
	}
	if answer != ui.ContinueUnproven && o.powerOff {
		unix.Sync()
		if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
			return nil, fmt.Errorf("switch the machine off: %w", err)
		}
	}
	return result, nil
}
