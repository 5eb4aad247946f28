package debian

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/antievilmaid/aem/internal/bootentry"
)

// Firmware is what starts GRUB.
type Firmware uint8

// The firmwares, SeaBIOS and OVMF.
const (
	BIOS Firmware = iota
	UEFI
)

// Next is what GRUB will load at the next start, when nobody touches its menu.
type Next struct {
	Boot           string // the folder with all of /boot
	Kernel, Initrd string // files with the bytes that GRUB will have in memory
	Line           string // the kernel's command line, exactly as the kernel gets it
}

// Args are the options by which drtmsim and aem predict are told.
func (n *Next) Args() []string {
	return []string{"--kernel", n.Kernel, "--initrd", n.Initrd, "--append", n.Line}
}

// bootUUID is that of /boot's file system, as scripts/build-debian sets it.
const bootUUID = "b0070000-ae00-4b00-8b00-000000000003"

// NextBoot copies /boot into dir/boot and the next start's kernel and initramfs
// into dir. It follows GRUB's configuration as it is on the disk now. dir exists
// and holds nothing of these names.
func (d *Disk) NextBoot(f Firmware, dir string) (*Next, error) {
	n := &Next{Boot: filepath.Join(dir, "boot"), Kernel: filepath.Join(dir, "kernel"), Initrd: filepath.Join(dir, "initrd")}
	if err := os.Mkdir(n.Boot, 0o700); err != nil {
		return nil, err
	}
	if err := d.ReadBoot(n.Boot); err != nil {
		return nil, err
	}
	if err := n.read(f); err != nil {
		return nil, fmt.Errorf("find out what GRUB will load: %w", err)
	}
	return n, nil
}

func (n *Next) read(f Firmware) error {
	o := bootentry.Options{
		Filesystems: []bootentry.Filesystem{{Dir: n.Boot, UUID: bootUUID, Devices: []string{"hd0,gpt3"}}},
		Platform:    "pc", CPU: "i386", Dialect: bootentry.Upstream,
	}
	if f == UEFI {
		o.Platform, o.CPU = "efi", "x86_64"
	}
	menu, err := bootentry.Read(o)
	if err != nil {
		return err
	}
	if menu.DefaultErr != nil {
		return menu.DefaultErr
	}
	e := &menu.Entries[menu.Default]
	if e.Err == nil && e.Kind != bootentry.Linux {
		return fmt.Errorf("%q starts %s, and no Linux kernel: %w", e.Title, e.Kind, errors.ErrUnsupported)
	}
	loaded, err := menu.Load(e, 0)
	if err != nil {
		return fmt.Errorf("%q: %w", e.Title, err)
	}
	n.Line = e.Kernel.Line
	if err := os.WriteFile(n.Kernel, loaded.Kernel, 0o600); err != nil {
		return err
	}
	return os.WriteFile(n.Initrd, loaded.Initrd, 0o600)
}
