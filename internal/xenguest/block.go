package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/xenstore"
)

// block does what Xen's hotplug script for disks does: it tells the kernel's backend which device
// a guest's disk is, and the toolstack that this was done.
func block(args []string) error {
	if args[0] != "add" {
		return nil
	}
	c, err := xenstore.Dial()
	if err != nil {
		return err
	}
	path := os.Getenv("XENBUS_PATH")
	disk, err := c.Read(path + "/params")
	if err != nil {
		return err
	}
	var s unix.Stat_t
	if err := unix.Stat(disk, &s); err != nil {
		return fmt.Errorf("%s: %w", disk, err)
	}
	if err := c.Write(path+"/physical-device", fmt.Sprintf("%x:%x", unix.Major(s.Rdev), unix.Minor(s.Rdev))); err != nil {
		return err
	}
	return c.Write(path+"/hotplug-status", "connected")
}
