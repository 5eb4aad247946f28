package xenproof

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Chapter is one thing that is tried.
type Chapter struct {
	Title   string
	Outcome string // what has to happen, in words
	play    func(context.Context, *Machine) error
}

// Story is all of them, in their order: each goes on where the last one ended.
var Story = []Chapter{
	{"the first day of a launched machine", "its owner seals, and makes a vTPM for each guest", firstDay},
	{"a PV guest with a TPM 1.2 is run", "its PCRs say with what; it seals a secret to them", run("pv")},
	{"a PVH guest with a TPM 2.0 is run", "its PCRs say with what; it seals a secret to them", run("pvh")},
	{"both reboot", "each opens its secret", bothReboot},
	{"vtpmd is killed under both", "each goes on, with its PCRs and its secret; also one that reboots then", killed},
	{"one is suspended into a file and resumed", "it goes on with its PCRs and its secret; with a bit of the file changed it does not", suspended},
	{"the machine restarts", "it proves itself, vtpmd opens its store, the guest its secret", nextDay},
	{"a bit of the guest's kernel is changed", "the guest can't open its secret", otherKernel},
	{"a bit of the guest's initramfs is changed", "the guest can't open its secret", otherInitrd},
	{"the guest as it was", "it opens its secret", original},
	{"a guest that nobody measured asks for that vTPM", "it does not get it, and does not start", unmeasured},
	{"a guest is started with plain xl create", "its PCRs say with what, as if it had been run", plainCreate},
	{"a guest that runs gets a vTPM", "it is marked late, and its PCRs 1, 4 and 5 are capped", lateAttach},
	{"a byte of dom0's initramfs is changed", "no proof, no store, no vTPM, no guest", evilDom0},
}

// Tell plays the story, and says of each chapter how it went.
func (m *Machine) Tell(ctx context.Context, w io.Writer) error {
	for i, c := range Story {
		fmt.Fprintf(w, "  %2d. %s ... ", i+1, c.Title)
		begin := time.Now()
		err := c.play(ctx, m)
		if err == nil && m.dom0 != nil {
			err = m.dom0.noteXenstore(ctx)
		}
		if err != nil {
			m.Close()
			fmt.Fprintf(w, "FAILED\n%v\n", err)
			return fmt.Errorf("chapter %d, %s: %w", i+1, c.Title, err)
		}
		fmt.Fprintf(w, "%s (%.1f s)\n", c.Outcome, time.Since(begin).Seconds())
	}
	return m.discreet()
}
