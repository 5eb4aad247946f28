// Demo plays the project's story in QEMU: a machine proves itself to its owner,
// an evil maid changes it in one way after the other, and each time it refuses
// and says why. The kernel is Debian's, the TPM is swtpm, the launch is drtmsim's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/antievilmaid/aem/internal/xenproof"
	"github.com/antievilmaid/aem/tpm"
)

func main() {
	family := flag.String("tpm", "", "TPM family to play with: 2.0, 1.2, or both where it is empty")
	chain := flag.Bool("chain", false, "the story of a launch that goes on: stage 1, Xen, dom0")
	xen := flag.Bool("xen", false, "the story of guests on Xen that inherit the trust")
	play := flag.Bool("play", false, "play yourself: the guest's screen is on your terminal")
	out := flag.String("out", "build/demo", "folder for the screenshots")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	tell := func() error { return run(ctx, os.Stdout, *family, *chain, *play, *out) }
	if *xen {
		tell = func() error { return xenStory(ctx, os.Stdout, filepath.Join(*out, "xen")) }
	}
	if err := tell(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, family string, chain, play bool, out string) error {
	versions := map[string][]tpm.Version{"": {tpm.V20, tpm.V12}, "2.0": {tpm.V20}, "1.2": {tpm.V12}}[family]
	if versions == nil {
		return fmt.Errorf("there is no TPM family %q; there are 2.0 and 1.2", family)
	}
	told, suffix := alone, ""
	if chain {
		told, suffix = chained, "-chain"
	}
	if chain && play {
		return errors.New("the chain's story can't be played; leave out one of -chain and -play")
	}
	failed := 0
	for _, v := range versions {
		dir, err := os.MkdirTemp("", "aem-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		fmt.Fprintf(w, "\n%s. The programs and the laptop are being built ...\n", v)
		m, err := newMachine(told, v, dir, filepath.Join(out, shotFolder(v)+suffix))
		if err != nil {
			return err
		}
		if play {
			return m.play(ctx, os.Stdin, w)
		}
		results := m.tellAll(ctx, w)
		for _, r := range results {
			if r.err != nil {
				failed++
			}
		}
		table(w, m, results)
	}
	if failed > 0 {
		return fmt.Errorf("%d chapters did not go as they should", failed)
	}
	return nil
}

// xenStory plays the proof on real Xen, and keeps what the machine printed.
func xenStory(ctx context.Context, w io.Writer, out string) error {
	dir, err := os.MkdirTemp("", "aem-demo-") // a socket's path must be short
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(w, "\nXen, with guests that have TPMs of their own. The programs and the machine are being built ...")
	m, err := xenproof.NewMachine(dir, out)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.Tell(ctx, w); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nWhat dom0 and its guests printed: %s\n", out)
	return nil
}

func shotFolder(v tpm.Version) string {
	if v == tpm.V12 {
		return "tpm12"
	}
	return "tpm20"
}

// tellAll plays the whole story, with a line before and after each boot.
func (m *machine) tellAll(ctx context.Context, w io.Writer) []result {
	var results []result
	for i, c := range m.story {
		fmt.Fprintf(w, "  %d. %s ... ", i+1, c.title)
		start := time.Now()
		r := result{chapter: c, err: m.tell(ctx, c)}
		r.took = time.Since(start)
		results = append(results, r)
		if r.err != nil {
			fmt.Fprintf(w, "FAILED\n%v\n", r.err)
			if i < 2 || ctx.Err() != nil {
				break // nothing was sealed, so the rest says nothing
			}
			continue
		}
		fmt.Fprintf(w, "%s (%.1f s)\n", c.outcome, r.took.Seconds())
	}
	return results
}

// table says what was tried and what happened.
func table(w io.Writer, m *machine, results []result) {
	fmt.Fprintf(w, "\n%s, launch simulated as %s\n", m.version, m.platform)
	fmt.Fprintf(w, "  %-36s %-46s %s\n", "WHAT WAS TRIED", "WHAT HAPPENED", "EXIT")
	for _, r := range results {
		outcome, exit := r.chapter.outcome, r.chapter.exit
		if r.err != nil {
			outcome, exit = "NOT AS IT SHOULD; see above", "-"
		}
		fmt.Fprintf(w, "  %-36s %-46s %s\n", r.chapter.title, outcome, exit)
	}
	fmt.Fprintf(w, "Screenshots: %s\n", m.shots)
}
