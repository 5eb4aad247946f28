package main

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/antievilmaid/aem/internal/swtpm"
)

// run serves QEMU, or with --once=false one QEMU after another, until ctx ends.
func run(ctx context.Context, c config, progress io.Writer) error {
	sim, err := newSimulator(c, progress)
	if err != nil {
		return err
	}
	defer sim.close()
	l, err := swtpm.Listen(c.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		sim.say("waiting for QEMU at %s", c.listen)
		qemu, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("wait for QEMU: %w", err)
		}
		err = connect(ctx, sim, qemu)
		if err != nil || c.once || ctx.Err() != nil {
			return err
		}
	}
}

// connect serves one QEMU. swtpm is only now called upon: it serves one client
// at a time, and a test may want to look into it before.
func connect(ctx context.Context, sim *simulator, qemu *net.UnixConn) error {
	ctl, err := swtpm.DialControl(sim.swtpm)
	if err != nil {
		qemu.Close()
		return fmt.Errorf("%w; is swtpm running, and with --ctrl type=unixio,path=%s?", err, sim.swtpm)
	}
	sim.say("QEMU is connected")
	if err := serve(ctx, sim, qemu, ctl); err != nil {
		return err
	}
	sim.say("QEMU has disconnected")
	return nil
}
