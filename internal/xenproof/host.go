package xenproof

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/xenbed"
	"github.com/antievilmaid/aem/internal/xenbed/order"
)

// The folders on the machine's disk.
const (
	home   = "/disk/aem"
	state  = "/disk/vtpmd"
	medium = "/disk/medium"
)

// sentence is what the machine proves itself with.
const sentence = "the lighthouse keeper sleeps on Tuesdays"

// firstDay is the set-up, in a boot that is good.
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
	if err := d.serve(ctx); err != nil {
		return err
	}
	for _, g := range m.guests {
		args := []string{"vtpmctl", "create", "--name", g.name, "--family", g.family, "--uuid", g.uuid.String()}
		if g.name != "late" {
			args = append(args, "--only-measured")
		}
		if _, err := d.run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// serve starts vtpmd, and waits until it serves.
func (d *Dom0) serve(ctx context.Context) error {
	if _, err := d.run(ctx, xenbed.Helper, "start", "vtpmd", xenbed.Helper, "keep", "/bin/vtpmd", "--state", state, "--home", home); err != nil {
		return err
	}
	return d.ready(ctx)
}

// ready waits until vtpmd serves.
func (d *Dom0) ready(ctx context.Context) error {
	said, err := d.Expect(ctx, `msg=ready [^\n]*|vtpmd: [^\n]*`)
	if err == nil && !strings.HasPrefix(said[0], "msg=ready") {
		err = fmt.Errorf("%s: %w", said[0], errNotAsItShould)
	}
	return err
}

// killed kills vtpmd under two guests, which then go on as if nothing had been. One reboots: xl, which the dead vtpmd
// started, builds it of what that measured.
func killed(ctx context.Context, m *Machine) error {
	d := m.dom0
	if _, err := d.run(ctx, xenbed.Helper, "slay", "vtpmd"); err != nil {
		return err
	}
	if err := d.ready(ctx); err != nil {
		return err
	}
	for _, name := range []string{"pv", "pvh"} {
		if err := d.isItself(ctx, m.guest(name)); err != nil {
			return err
		}
	}
	return d.reboots(ctx, m.guest("pvh"))
}

// unseal runs the proof on dom0's console. Its owner answers what it asks with answer, and it
// ends with an exit code.
func (d *Dom0) unseal(ctx context.Context, shown, answer string, exit aem.Exit) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	if err := d.out.Encode(order.Order{Args: []string{"aem", "unseal", "--plain", "--tty", "/dev/hvc0", "--medium", medium}}); err != nil {
		return err
	}
	if _, err := d.Expect(ctx, shown); err != nil {
		return err
	}
	if err := d.Type(answer); err != nil {
		return err
	}
	var r order.Result
	if err := d.receive(ctx, &r); err != nil {
		return err
	}
	if r.Exit != int(exit) {
		return fmt.Errorf("aem unseal: exit %d, and not %d: %s: %w", r.Exit, exit, r.Out, errNotAsItShould)
	}
	return nil
}

// nextDay ends the first boot in order, and begins a second one with the proof.
func nextDay(ctx context.Context, m *Machine) error {
	d := m.dom0
	for _, args := range [][]string{{"vtpmctl", "stop", "pv"}, {"vtpmctl", "stop", "pvh"}, {xenbed.Helper, "stop", "vtpmd"}} {
		if _, err := d.run(ctx, args...); err != nil {
			return err
		}
	}
	if err := d.off(ctx); err != nil {
		return err
	}
	d, err := m.boot(ctx, m.initrd)
	if err != nil {
		return err
	}
	if err := d.unseal(ctx, sentence, "\r", aem.ExitOK); err != nil {
		return err
	}
	if err := d.serve(ctx); err != nil {
		return err
	}
	g := m.guest("pvh")
	if err := d.start(ctx, g); err != nil {
		return err
	}
	return d.opens(ctx, g)
}

// evilDom0 boots the same Xen and kernel with an initramfs in which the evil maid changed a byte.
func evilDom0(ctx context.Context, m *Machine) error {
	good, err := os.ReadFile(m.initrd)
	if err != nil {
		return err
	}
	evil := bytes.Replace(good, []byte(note), []byte("mads by its owner\n"), 1)
	if bytes.Count(good, []byte(note)) != 1 || len(evil) != len(good) {
		return fmt.Errorf("dom0's initramfs has not the note: %w", errNotAsItShould)
	}
	if err := os.WriteFile(m.path("evil"), evil, 0o600); err != nil {
		return err
	}
	if err := m.dom0.off(ctx); err != nil {
		return err
	}
	d, err := m.boot(ctx, m.path("evil"))
	if err != nil {
		return err
	}
	if err := d.unseal(ctx, `DID NOT PROVE ITSELF[\s\S]*\* initramfs`, "\r", aem.ExitMeasurements); err != nil {
		return err
	}
	const refusal = "This boot is not one that was approved, so the guests' TPMs stay closed."
	if err := d.fails(ctx, int(aem.ExitMeasurements), refusal, "vtpmd", "--state", state, "--home", home); err != nil {
		return err
	}
	if err := d.fails(ctx, int(aem.ExitNotPossible), "vtpmd does not answer", "vtpmctl", "run", xenbed.GuestConfig("pvh")); err != nil {
		return err
	}
	// The toolstack waits ten seconds for who would give the guest a vTPM, and gives up.
	if err := d.fails(ctx, 3, "unable to add vtpm devices", "xl", "create", xenbed.GuestConfig("pvh")); err != nil {
		return err
	}
	return d.off(ctx)
}
