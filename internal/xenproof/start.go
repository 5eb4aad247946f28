package xenproof

import (
	"context"
	"fmt"
	"strings"

	"github.com/antievilmaid/aem/internal/xenbed"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// start has vtpmd measure and start a guest, and holds its PCRs against what they have to be.
func (d *Dom0) start(ctx context.Context, g *guest) error {
	if _, err := d.run(ctx, "vtpmctl", "run", xenbed.GuestConfig(g.name)); err != nil {
		return err
	}
	return d.pcrs(ctx, g, measure.Measured, false)
}

// stop cuts a guest's power after a second. In order it takes five more: Linux waits that long for its vTPM.
func (d *Dom0) stop(ctx context.Context, guest string) error {
	_, err := d.run(ctx, "vtpmctl", "stop", "--patience", "1s", guest)
	return err
}

// run starts a guest and has it seal a secret.
func run(name string) func(context.Context, *Machine) error {
	return func(ctx context.Context, m *Machine) error {
		g := m.guest(name)
		if err := m.dom0.start(ctx, g); err != nil {
			return err
		}
		return m.dom0.seals(ctx, g)
	}
}

// bothReboot restarts two guests, as their owner does.
func bothReboot(ctx context.Context, m *Machine) error {
	for _, name := range []string{"pv", "pvh"} {
		if err := m.dom0.reboots(ctx, m.guest(name)); err != nil {
			return err
		}
	}
	return nil
}

// reboots has xl build a guest anew, which then is the one that it was.
func (d *Dom0) reboots(ctx context.Context, g *guest) error {
	before, err := d.run(ctx, "xl", "domid", g.name)
	if err != nil {
		return err
	}
	if _, err := d.run(ctx, "xl", "reboot", g.name); err != nil {
		return err
	}
	if _, err := d.run(ctx, xenbed.Helper, "reborn", g.name, strings.TrimSpace(before)); err != nil {
		return err
	}
	return d.isItself(ctx, g)
}

// isItself holds a guest's PCRs against what they have to be, and has it open its secret.
func (d *Dom0) isItself(ctx context.Context, g *guest) error {
	if err := d.pcrs(ctx, g, measure.Measured, false); err != nil {
		return err
	}
	return d.opens(ctx, g)
}

// suspended puts a guest into a file, in which a bit is changed for a while.
func suspended(ctx context.Context, m *Machine) error {
	const image = "/tmp/pvh.image" // in memory, and gone in the end
	g, d := m.guest("pvh"), m.dom0
	if _, err := d.ask(ctx, g, "", "extend", "what-it-did-until-then"); err != nil {
		return err
	}
	before, err := d.ask(ctx, g, "", "pcrs")
	if err != nil {
		return err
	}
	flip := []string{xenbed.Helper, "flip", image, "1000000"}
	for _, args := range [][]string{{"vtpmctl", "suspend", g.name, image}, flip} {
		if _, err := d.run(ctx, args...); err != nil {
			return err
		}
	}
	if err := d.fails(ctx, 1, "not the image that the guest was suspended into", "vtpmctl", "resume", g.name, image); err != nil {
		return err
	}
	said, err := d.run(ctx, "vtpmctl", "show", g.name)
	if err == nil && !strings.Contains(said, "suspended") {
		err = fmt.Errorf("vtpmctl show does not say that the guest is suspended: %s: %w", said, errNotAsItShould)
	}
	if err != nil {
		return err
	}
	for _, args := range [][]string{flip, {"vtpmctl", "resume", g.name, image}} {
		if _, err := d.run(ctx, args...); err != nil {
			return err
		}
	}
	after, err := d.ask(ctx, g, "", "pcrs")
	if err == nil && after != before {
		err = fmt.Errorf("the PCRs of %s were %s, and are %s: %w", g.name, before, after, errNotAsItShould)
	}
	if err != nil {
		return err
	}
	return d.opens(ctx, g)
}

// restartChanged flips a bit of a file of dom0's, and starts a guest anew. The guest then runs, and
// its PCRs say that it is another one. In the end the file is as it was.
func restartChanged(ctx context.Context, m *Machine, file, offset string) error {
	g, d := m.guest("pvh"), m.dom0
	flip := func() error {
		_, err := d.run(ctx, xenbed.Helper, "flip", file, offset)
		return err
	}
	if err := d.stop(ctx, g.name); err != nil {
		return err
	}
	if err := flip(); err != nil {
		return err
	}
	if err := d.start(ctx, g); err != nil {
		return err
	}
	if err := d.cannotOpen(ctx, g); err != nil {
		return err
	}
	return flip()
}

// timeInGzip is the offset of what a gzip file says of its time (RFC 1952, section 2.3), which
// nobody who unpacks it looks at.
const timeInGzip = "4"

// otherKernel is the evil maid's.
func otherKernel(ctx context.Context, m *Machine) error {
	return restartChanged(ctx, m, "/guests/vmlinux.gz", timeInGzip)
}

// otherInitrd is hers, too.
func otherInitrd(ctx context.Context, m *Machine) error {
	return restartChanged(ctx, m, "/guests/pvh.img", timeInGzip)
}

// original is the guest as it was, which no refusal has harmed.
func original(ctx context.Context, m *Machine) error {
	g, d := m.guest("pvh"), m.dom0
	if err := d.stop(ctx, g.name); err != nil {
		return err
	}
	if err := d.start(ctx, g); err != nil {
		return err
	}
	if err := d.opens(ctx, g); err != nil {
		return err
	}
	return d.stop(ctx, g.name)
}

// unmeasured builds a guest past vtpmd, whose vTPM is for measured ones only.
func unmeasured(ctx context.Context, m *Machine) error {
	g, d := m.guest("pvh"), m.dom0
	if err := d.fails(ctx, 3, "unable to add vtpm devices", "xl", "create", xenbed.GuestConfig(g.name)); err != nil {
		return err
	}
	said, err := d.run(ctx, "vtpmctl", "show", g.uuid.String())
	if err == nil && !strings.Contains(said, "last refused") {
		err = fmt.Errorf("vtpmctl show does not say that a guest was refused: %s: %w", said, errNotAsItShould)
	}
	return err
}

// plainCreate starts a guest without vtpmctl: libxl asks the boot loader of ours.
func plainCreate(ctx context.Context, m *Machine) error {
	g, d := m.guest("plain"), m.dom0
	if _, err := d.run(ctx, "xl", "create", xenbed.GuestConfig(g.name)); err != nil {
		return err
	}
	if err := d.pcrs(ctx, g, measure.Measured, false); err != nil {
		return err
	}
	return d.stop(ctx, g.name)
}

// lateAttach gives a vTPM to a guest that could have done anything before.
func lateAttach(ctx context.Context, m *Machine) error {
	g, d := m.guest("late"), m.dom0
	if _, err := d.run(ctx, "xl", "create", xenbed.GuestConfig(g.name)); err != nil {
		return err
	}
	if _, err := d.run(ctx, "xl", "vtpm-attach", g.name, "backend=0", "uuid="+g.uuid.String()); err != nil {
		return err
	}
	if err := d.pcrs(ctx, g, measure.Unmeasured, true); err != nil {
		return err
	}
	said, err := d.run(ctx, "vtpmctl", "show", g.uuid.String())
	if err == nil && !strings.Contains(said, "the guest ran before it got its vTPM") {
		err = fmt.Errorf("vtpmctl show does not say that the guest is late: %s: %w", said, errNotAsItShould)
	}
	if err != nil {
		return err
	}
	if err := d.stop(ctx, g.name); err != nil {
		return err
	}
	_, err = d.run(ctx, xenbed.Helper, "stop", "vtpmd")
	return err
}
