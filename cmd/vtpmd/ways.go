package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/antievilmaid/aem/internal/xenstore"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/vtpmx"
	"github.com/antievilmaid/aem/vtpm/xen"
)

// openWays opens the ways on which this machine's guests come.
func (d *daemon) openWays(way func(string, func(context.Context) error)) error {
	d.frontends = append(d.frontends, "qemu")
	if err := d.openSockets(); err != nil {
		return err
	}
	if onXen() {
		b, err := xen.Open(d.manager, d.log)
		if err != nil {
			return fmt.Errorf("this machine runs Xen, and its guests can't be served: %w", err)
		}
		way("xen", func(ctx context.Context) error {
			defer b.Store.Close()
			return b.Serve(ctx)
		})
	}
	if d.hostVTPM != "" {
		u, err := vtpm.ParseUUID(d.hostVTPM)
		if err != nil {
			return err
		}
		way("host", func(ctx context.Context) error { return d.serveHost(ctx, u) })
	}
	return nil
}

func onXen() bool {
	for _, path := range []string{xenstore.Socket, xenstore.Device} {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return false
}

// serveHost gives the system that we run on a vTPM. It runs already, so nothing of its start can
// be measured: what vouches for it is the hardware TPM.
func (d *daemon) serveHost(ctx context.Context, u vtpm.UUID) error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("read the name of this boot: %w", err)
	}
	s, err := d.manager.Attach(ctx, vtpm.Guest{UUID: u, Domain: "host", Birth: strings.TrimSpace(string(boot)), Late: true, Returns: true})
	if err != nil {
		return err
	}
	device, err := vtpmx.New(s.Version())
	if err != nil {
		return errors.Join(err, s.End())
	}
	d.log.Info("this system has a vTPM", "device", fmt.Sprintf("/dev/tpm%d", device.Number), "vtpm", u.String())
	return errors.Join(device.Serve(ctx, s), device.Close(), s.End())
}

// groupID finds a group by its name or number; 0 is none.
func groupID(name string) (uint32, error) {
	if name == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("find the group that may look: %w", err)
	}
	n, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(n), err
}
