package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// disks are the mounted directories.
var disks []string

// mountDisk mounts a block device, which may still be on its way: a driver goes
// on looking for disks after its module was loaded.
func mountDisk(args []string) error {
	if len(args) < 3 {
		return errors.New("mount wants a device, a directory and a type")
	}
	device, dir, kind := args[0], args[1], args[2]
	var flags uintptr
	if len(args) > 3 && args[3] == "ro" {
		flags = unix.MS_RDONLY
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(device); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not appear", device)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(device, dir, kind, flags, ""); err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	disks = append(disks, dir)
	return nil
}

func unmountDisks() {
	for _, dir := range disks {
		if err := unix.Unmount(dir, 0); err != nil {
			fmt.Printf("unmount %s: %v\n", dir, err)
		}
	}
}
