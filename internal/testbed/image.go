package testbed

import (
	"github.com/antievilmaid/aem/internal/guestinit/script"
	"github.com/antievilmaid/aem/internal/initramfs"
)

// Step is one thing that a guest with guestinit is told to do.
type Step = script.Step

// Run is the step that runs a program without a terminal; what it prints
// arrives on the serial line.
func Run(args ...string) Step { return Step{Run: args} }

// RunOnTTY is the step that runs a program on the guest's console.
func RunOnTTY(args ...string) Step { return Step{Run: args, TTY: true} }

// Cat is the step that prints a file of the guest on the serial line.
func Cat(path string) Step { return Step{Cat: path} }

// Mount is the step that mounts an ext4 file system.
func Mount(device, dir string) Step { return Step{Mount: []string{device, dir, "ext4"}} }

// Image is the initramfs of a guest whose first process is guestinit. Whatever
// else the guest needs is added to its Archive.
type Image struct {
	initramfs.Archive
	Load  []string // kernel modules, such as DiskModules()
	Steps []Step

	installed map[string]bool // paths of what came from this machine
}

// Program adds one of this module's programs, such as ./cmd/aem as bin/aem.
func (im *Image) Program(name, pkg string) error {
	b, err := Program(pkg)
	if err != nil {
		return err
	}
	im.File(name, 0o755, b)
	return nil
}

// Build makes the initramfs's bytes. An image is built once.
func (im *Image) Build(k Kernel) ([]byte, error) {
	if err := im.Program("init", "./internal/guestinit"); err != nil {
		return nil, err
	}
	steps, err := script.Marshal(im.Steps)
	if err != nil {
		return nil, err
	}
	im.File(script.Path, 0o644, steps)
	if len(im.Load) > 0 {
		m, err := k.readModules()
		if err != nil {
			return nil, err
		}
		im.Modules(m, im.Load...)
	}
	return im.Bytes()
}
