package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/antievilmaid/aem/internal/xenstore"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/xen"
)

// openWays opens the ways on which this machine's guests come.
func (d *daemon) openWays(ctx context.Context, way func(string, func(context.Context) error)) error {
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
		if o := d.openOwn(ctx, u); o != nil {
			way("host", func(ctx context.Context) error { return o.serve(ctx, u) })
		}
	}
	if err := d.dropDevices(); err != nil {
		d.log.Error("a TPM device that nobody serves may still be there", "because", err)
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
