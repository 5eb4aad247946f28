// Package firstprocess is what the first process of an initramfs without a shell does
// before its own work: it mounts the kernel's file systems and loads the modules that
// the initramfs lists. Stage 1 of a launch and the guests of the tests begin so.
package firstprocess

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ModuleList is the file in which an initramfs lists the modules in the order in which
// they load, one absolute path a line. It stands here and not with who writes the
// archive, so that what loads them has no writer of archives in it.
const ModuleList = "lib/modules/load-order"

// MountSystem mounts /proc, /sys, /dev, /sys/kernel/security and /run.
func MountSystem() error {
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

// LoadModules loads what the initramfs lists ([ModuleList]), in that order.
func LoadModules() error {
	list, err := os.ReadFile("/" + ModuleList)
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
