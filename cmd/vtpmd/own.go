package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/vtpmx"
)

// own is the vTPM of the system that we run on.
type own struct {
	*daemon
	vtpm.Session
	device *vtpmx.Device
}

// heldDevice begins the name under which the kernel's device is held for the next vtpmd. Its number
// follows.
func heldDevice(u vtpm.UUID) string { return "device-" + u.String() + "-" }

// openOwn gives the system that we run on a vTPM. It runs already, so nothing of its start can be
// measured: what vouches for it is the hardware TPM. Where it can't have one, why is said, and nil
// returned: it is no more than a guest, and the others have theirs.
func (d *daemon) openOwn(ctx context.Context, u vtpm.UUID) *own {
	o, err := d.newOwn(ctx, u)
	if err != nil {
		d.log.Error("this system has no vTPM of its own", "vtpm", u.String(), "because", err)
		return nil
	}
	d.log.Info("this system has a vTPM", "device", fmt.Sprintf("/dev/tpm%d", o.device.Number), "vtpm", u.String())
	return o
}

func (d *daemon) newOwn(ctx context.Context, u vtpm.UUID) (*own, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read the name of this boot: %w", err)
	}
	_, goesOn := d.manager.Running()[u]
	s, err := d.manager.Attach(ctx, vtpm.Guest{UUID: u, Domain: "host", Birth: strings.TrimSpace(string(boot)), Late: true, Returns: true})
	if err != nil {
		return nil, err
	}
	o := &own{daemon: d, Session: s}
	// Whoever has the device open would find another TPM behind it than the one he began with.
	if goesOn {
		o.device, err = d.resumeDevice(u)
	}
	if o.device == nil && err == nil {
		o.device, err = d.newDevice(u, s.Version())
	}
	if err != nil {
		return nil, errors.Join(err, s.End())
	}
	return o, nil
}

// newDevice makes one that outlives us.
func (d *daemon) newDevice(u vtpm.UUID, v tpm.Version) (*vtpmx.Device, error) {
	device, err := vtpmx.New(v)
	if err != nil {
		return nil, err
	}
	f, err := device.File()
	if err == nil {
		err = d.manager.Held.Put(heldDevice(u)+strconv.Itoa(int(device.Number)), f)
		f.Close()
	}
	if err != nil {
		d.log.Warn("this system's vTPM would not outlive vtpmd", "because", err)
	}
	return device, nil
}

// resumeDevice takes over the one of a vtpmd that died; nil where there is none.
func (d *daemon) resumeDevice(u vtpm.UUID) (*vtpmx.Device, error) {
	for name, files := range d.held {
		if number, ok := strings.CutPrefix(name, heldDevice(u)); ok {
			n, err := strconv.ParseUint(number, 10, 32)
			if err != nil {
				continue
			}
			delete(d.held, name)
			return vtpmx.Resume(uint32(n), files[0])
		}
	}
	return nil, nil
}

// dropDevices takes away from the kernel what nobody serves any more.
func (d *daemon) dropDevices() error {
	var errs []error
	for name, files := range d.held {
		if !strings.HasPrefix(name, "device-") {
			continue
		}
		delete(d.held, name)
		errs = append(errs, d.manager.Held.Remove(name))
		for _, f := range files {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// serve answers the kernel until ctx ends. What happens to this vTPM is no other guest's
// business, so it is said and no more.
func (o *own) serve(ctx context.Context, u vtpm.UUID) error {
	if err := o.device.Serve(ctx, o.Session); err != nil {
		o.log.Error("this system has no vTPM any more", "vtpm", u.String(), "because", err)
	}
	held := heldDevice(u) + strconv.Itoa(int(o.device.Number))
	if err := errors.Join(o.manager.Held.Remove(held), o.device.Close(), o.End()); err != nil {
		o.log.Error("this system's vTPM was not ended in order", "vtpm", u.String(), "because", err)
	}
	return nil
}
