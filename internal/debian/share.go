package debian

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/antievilmaid/aem/internal/testbed"
)

// share gives the guest a folder of this side's (9p): what is in it is copied with
// the guest's own cp, while it runs.
func (m *Machine) share(g *testbed.Config) error {
	if err := os.Mkdir(m.shared(), 0o700); err != nil {
		return err
	}
	g.Extra = append(g.Extra,
		"-fsdev", "local,id=share,security_model=none,path="+comma(m.shared()),
		"-device", "virtio-9p-pci,fsdev=share,mount_tag=share")
	return nil
}

func (m *Machine) shared() string { return filepath.Join(m.dir, "share") }

// guestShared is where the guest has it.
const guestShared = "/run/share"

func (m *Machine) mountShared(ctx context.Context) error {
	if m.mounted {
		return nil
	}
	if err := m.must(ctx, "mkdir -p "+guestShared+" && mount -t 9p -o trans=virtio,version=9p2000.L share "+guestShared); err != nil {
		return err
	}
	m.mounted = true
	return nil
}

// CopyIn writes a file of the guest, and the folders above it. A root shell must be
// there for that, from Login.
func (m *Machine) CopyIn(ctx context.Context, name string, mode os.FileMode, content []byte) error {
	if err := m.mountShared(ctx); err != nil {
		return err
	}
	file := filepath.Join(m.shared(), "in")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return err
	}
	defer os.Remove(file)
	return m.must(ctx, fmt.Sprintf("mkdir -p %s && install -m %o %s/in %s", quote(filepath.Dir(name)), mode.Perm(), guestShared, quote(name)))
}

// CopyOut reads a file of the guest. A root shell must be there for that, from Login.
func (m *Machine) CopyOut(ctx context.Context, name string) ([]byte, error) {
	if err := m.mountShared(ctx); err != nil {
		return nil, err
	}
	file := filepath.Join(m.shared(), "out")
	defer os.Remove(file)
	if err := m.must(ctx, fmt.Sprintf("cat %s >%s/out", quote(name), guestShared)); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}

// must runs commands that have to succeed.
func (m *Machine) must(ctx context.Context, commands string) error {
	out, exit, err := m.Run(ctx, commands)
	if err == nil && exit != 0 {
		err = fmt.Errorf("%s: exit status %d: %s", commands, exit, strings.TrimSpace(out))
	}
	return err
}

// quote writes a word for the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// comma writes a path so that QEMU doesn't take a comma in it for an option's end.
func comma(path string) string { return strings.ReplaceAll(path, ",", ",,") }
