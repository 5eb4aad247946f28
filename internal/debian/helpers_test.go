//go:build debian

package debian_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/debian"
	"github.com/antievilmaid/aem/internal/testbed"
)

// newDisk gives a test a machine's disk.
func newDisk(t *testing.T, v debian.Variant) *debian.Disk {
	t.Helper()
	testbed.Need(t, "mmdebstrap", "cryptsetup", "mkfs.vfat", "mcopy", "sfdisk", "qemu-img", "mke2fs", "debugfs", "cpio", "qemu-system-x86_64", "swtpm")
	image, err := debian.Build(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := image.Overlay(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

// start switches a machine on, and shows what it said if the test fails.
func start(t *testing.T, d *debian.Disk, c debian.Config) *debian.Machine {
	t.Helper()
	m, err := d.Boot(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Kill()
		if t.Failed() {
			t.Logf("the serial line:\n%s\ndrtmsim:\n%s", m.Transcript(), m.Simulator())
		}
	})
	return m
}

// patient is the time that a step may take on a busy machine.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ran returns the output of commands that must succeed.
func ran(t *testing.T, m *debian.Machine, commands string) string {
	t.Helper()
	out, exit, err := m.Run(patient(t), commands)
	if err != nil || exit != 0 {
		t.Fatalf("%s: exit status %d, %v: %s", commands, exit, err, out)
	}
	return out
}

// booted is a file of /boot as it lies on the disk.
func booted(t *testing.T, d *debian.Disk, name string) []byte {
	t.Helper()
	dir := t.TempDir()
	must(t, d.ReadBoot(dir))
	b, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("/boot has no %s", name)
	}
	must(t, err)
	return b
}
