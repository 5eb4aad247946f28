package debian

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/antievilmaid/aem/internal/testbed"
)

// Disk is the disk of one machine, whose writes go to an overlay. Its methods other
// than Boot are for a machine that is off.
type Disk struct {
	Variant Variant
	Path    string // qcow2
	// Vars is where OVMF keeps its variables. It is made at the first start with UEFI.
	Vars string
}

// Overlay makes a machine's disk in dir, which exists: the image, and what the
// machine will write.
func (i *Image) Overlay(dir string) (*Disk, error) {
	return overlay(i.Variant, i.Path, "", dir)
}

// Overlay makes another machine in dir, which exists: one that is in the state that
// this one is in now. This one must not be started any more.
func (d *Disk) Overlay(dir string) (*Disk, error) {
	return overlay(d.Variant, d.Path, d.Vars, dir)
}

func overlay(v Variant, base, vars, dir string) (*Disk, error) {
	base, err := filepath.Abs(base)
	if err != nil {
		return nil, err
	}
	d := &Disk{Variant: v, Path: filepath.Join(dir, "disk.qcow2"), Vars: filepath.Join(dir, "vars.fd")}
	if _, err := os.Stat(d.Path); err == nil {
		return nil, fmt.Errorf("make a disk: there is one in %s already", dir)
	}
	if vars != "" {
		if err := copyFile(vars, d.Vars); err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("copy OVMF's variables: %w", err)
		}
	}
	return d, run(context.Background(), "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, d.Path)
}

// Partition is the number of a partition.
type Partition int

// The partitions of every variant; Home is there with Variant.Two only.
const (
	ESP  Partition = 2
	Boot Partition = 3 // ext4
	Root Partition = 4 // LUKS2
	Home Partition = 5 // LUKS2
)

// Extract writes a partition's bytes into a file.
func (d *Disk) Extract(p Partition, file string) error {
	at, err := d.place(p)
	if err != nil {
		return err
	}
	if err := run(context.Background(), "qemu-img", "convert", "-O", "raw", "--image-opts", at, file); err != nil {
		return fmt.Errorf("take partition %d out of the disk: %w", p, err)
	}
	return nil
}

// Replace overwrites a partition with a file's bytes. The file is as long as the
// partition.
func (d *Disk) Replace(p Partition, file string) error {
	at, err := d.place(p)
	if err != nil {
		return err
	}
	if err := run(context.Background(), "qemu-img", "convert", "-n", "-f", "raw", "--target-image-opts", file, at); err != nil {
		return fmt.Errorf("write partition %d: %w", p, err)
	}
	return nil
}

// ReadBoot copies /boot into dir, which exists.
func (d *Disk) ReadBoot(dir string) error {
	return d.withBoot(func(image string) error {
		_, err := debugfs(image, "rdump / "+dir)
		return err
	}, false)
}

// WriteBoot writes a file in /boot, such as grub/grub.cfg, over what is there: what
// an evil maid does.
func (d *Disk) WriteBoot(name string, content []byte) error {
	return d.withBoot(func(image string) error {
		source := image + ".file"
		if err := os.WriteFile(source, content, 0o644); err != nil {
			return err
		}
		said, err := debugfs(image, "rm "+name, "write "+source+" "+name)
		if err != nil {
			return err
		}
		// debugfs succeeds whatever happened.
		now, err := testbed.ReadExt4(image, "/"+name)
		if err != nil {
			return err
		}
		if string(now) != string(content) {
			return fmt.Errorf("%s was not written: %s", name, said)
		}
		return nil
	}, true)
}

// withBoot lends /boot as an image of its own, with its journal replayed: the
// machine's power may have been cut.
func (d *Disk) withBoot(use func(image string) error, write bool) error {
	dir, err := os.MkdirTemp("", "aem-boot-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	image := filepath.Join(dir, "boot")
	if err := d.Extract(Boot, image); err != nil {
		return err
	}
	if err := testbed.RecoverExt4(image); err != nil {
		return fmt.Errorf("recover /boot: %w", err)
	}
	if err := use(image); err != nil {
		return err
	}
	if write {
		return d.Replace(Boot, image)
	}
	return nil
}

// debugfs gives debugfs commands and returns what it said.
func debugfs(image string, commands ...string) (string, error) {
	cmd := exec.Command("debugfs", "-w", "-f", "/dev/stdin", image)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	said, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("debugfs: %w: %s", err, said)
	}
	return string(said), nil
}

// run runs a program to its end.
func run(ctx context.Context, name string, args ...string) error {
	if said, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(said)))
	}
	return nil
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}
