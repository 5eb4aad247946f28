package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/initramfs"
)

func mountSystem() error {
	for _, m := range []struct{ kind, dir string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"},
		{"securityfs", "/sys/kernel/security"}, {"tmpfs", "/run"},
	} {
		// Sysfs makes the directories of the file systems that belong in it.
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.kind, err)
		}
	}
	return nil
}

// loadModules loads what the initramfs lists, in that order.
func loadModules() error {
	list, err := os.ReadFile("/" + initramfs.ModuleList)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range bytes.Lines(list) {
		if err := loadModule(strings.TrimSpace(string(name))); err != nil {
			return fmt.Errorf("load %s: %w", filepath.Base(string(name)), err)
		}
	}
	return nil
}

func loadModule(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if filepath.Ext(name) != ".ko" {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	err = unix.FinitModule(int(f.Fd()), "", flags)
	// A soft dependency for a processor that this machine does not have is refused; that is no loss.
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

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
