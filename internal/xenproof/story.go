package xenproof

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/antievilmaid/aem/internal/xenbed"
	"github.com/antievilmaid/aem/internal/xenbed/order"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// Chapter is one thing that is tried.
type Chapter struct {
	Title   string
	Outcome string // what has to happen, in words
	play    func(context.Context, *Machine) error
}

// Story is all of them, in their order: each goes on where the last one ended.
var Story = []Chapter{
	{"the first day of a launched machine", "its owner sets it up, and makes two vTPMs", firstDay},
	{"a PVH guest with a TPM 2.0 is run", "its PCRs are what it was started with", runPVH},
}

// Tell plays the story, and says of each chapter how it went.
func (m *Machine) Tell(ctx context.Context, w io.Writer) error {
	for i, c := range Story {
		fmt.Fprintf(w, "  %2d. %s ... ", i+1, c.Title)
		begin := time.Now()
		if err := c.play(ctx, m); err != nil {
			fmt.Fprintf(w, "FAILED\n%v\n", err)
			return fmt.Errorf("chapter %d, %s: %w", i+1, c.Title, err)
		}
		fmt.Fprintf(w, "%s (%.1f s)\n", c.Outcome, time.Since(begin).Seconds())
	}
	return nil
}

// The folders on the machine's disk.
const (
	home   = "/disk/aem"
	state  = "/disk/vtpmd"
	medium = "/disk/medium"
)

const sentence = "the lighthouse keeper sleeps on Tuesdays"

func firstDay(ctx context.Context, m *Machine) error {
	d, err := m.boot(ctx, m.initrd)
	if err != nil {
		return err
	}
	for _, o := range []order.Order{
		{Args: []string{xenbed.Helper, "mkdir", medium}},
		{Args: []string{"aem-setup", "init", "--no-disks", "--home", home, "--medium", medium}},
		{Args: []string{"aem-setup", "secret", "set", "text", "--home", home}, In: sentence + "\n"},
		{Args: []string{"aem-setup", "seal", "--home", home, "--label", "Monday"}},
		{Args: []string{"vtpmd", "init", "--state", state, "--home", home}},
	} {
		if r, err := d.do(ctx, o); err != nil || r.Exit != 0 {
			return fmt.Errorf("%q: exit %d, %w: %s", o.Args, r.Exit, err, r.Out)
		}
	}
	if err := d.vtpmd(ctx); err != nil {
		return err
	}
	for _, g := range m.guests {
		if _, err := d.run(ctx, "vtpmctl", "create", "--name", g.name, "--family", g.family, "--uuid", g.uuid.String(), "--only-measured"); err != nil {
			return err
		}
	}
	return nil
}

// vtpmd starts the manager, and waits until it serves.
func (d *Dom0) vtpmd(ctx context.Context) error {
	if _, err := d.run(ctx, xenbed.Helper, "start", "vtpmd", "vtpmd", "--state", state, "--home", home); err != nil {
		return err
	}
	said, err := d.Expect(ctx, `msg=ready [^\n]*|vtpmd: [^\n]*`)
	if err == nil && said[0][:4] != "msg=" {
		err = fmt.Errorf("%s: %w", said[0], errNotAsItShould)
	}
	return err
}

func runPVH(ctx context.Context, m *Machine) error {
	g := m.guests["pvh"]
	if _, err := m.dom0.run(ctx, "vtpmctl", "run", xenbed.GuestConfig(g.name)); err != nil {
		return err
	}
	return m.dom0.pcrs(ctx, g, measure.Measured, false)
}
