package testbed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/antievilmaid/aem/internal/initramfs"
)

// Kernel is a kernel for guests, with its modules.
type Kernel struct {
	Image   string // the file that QEMU boots
	Release string // as uname -r gives it
	Modules string // the folder with the modules and depmod's indices
}

// FindKernel finds the kernel that scripts/fetch-kernel put under build/kernel.
func FindKernel() (Kernel, error) {
	root, err := ModuleRoot()
	if err != nil {
		return Kernel{}, err
	}
	dir := filepath.Join(root, "build", "kernel")
	release, err := os.ReadFile(filepath.Join(dir, "release"))
	if err != nil {
		return Kernel{}, fmt.Errorf("there is no kernel for the guests; scripts/fetch-kernel fetches it: %w", err)
	}
	k := Kernel{Image: filepath.Join(dir, "vmlinuz"), Release: strings.TrimSpace(string(release))}
	k.Modules = filepath.Join(dir, "lib", "modules", k.Release)
	return k, nil
}

// FindXen finds the hypervisor that scripts/fetch-xen put under build/xen, compressed
// with gzip as Debian has it.
func FindXen() (string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "build", "xen", "xen.gz")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("there is no Xen for the guests; scripts/fetch-xen fetches it: %w", err)
	}
	return path, nil
}

// DiskModules are the modules that a guest needs to mount an ext4 file system
// from a virtio disk.
func DiskModules() []string { return []string{"virtio_pci", "virtio_blk", "ext4"} }

// StickModules are the modules that a guest needs to mount an ext4 file system
// from a USB stick.
func StickModules() []string { return []string{"xhci_pci", "usb_storage", "sd_mod", "ext4"} }

// Modules reads the kernel's module indices.
func (k Kernel) readModules() (*initramfs.Modules, error) { return initramfs.ReadModules(k.Modules) }

// ModuleRoot is the folder with go.mod, at or above the working folder.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("the test bed runs inside the project's folder, and no go.mod is at or above this one")
		}
		dir = up
	}
}
