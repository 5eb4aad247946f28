package debian

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/antievilmaid/aem/internal/testbed"
)

// What scripts/build-debian sets.
const (
	Passphrase   = "correct horse" // of every LUKS volume
	RootPassword = "root"
)

// Initramfs is the program that makes the initramfs, by its package's name.
type Initramfs string

// The two that Debian has.
const (
	InitramfsTools Initramfs = "initramfs-tools"
	Dracut         Initramfs = "dracut"
)

// Variant is a kind of Debian machine. The firmware is no part of it: [Config]
// chooses it at each start.
type Variant struct {
	Initramfs Initramfs
	LVM       bool // the root is a logical volume inside the LUKS volume
	OnLVM     bool // the LUKS volume of the root is a logical volume
	Two       bool // a second LUKS volume, for /home, is unlocked with the root
}

// args are the script's arguments.
func (v Variant) args() []string {
	args := []string{string(v.Initramfs)}
	if v.LVM {
		args = append(args, "lvm")
	}
	if v.OnLVM {
		args = append(args, "on-lvm")
	}
	if v.Two {
		args = append(args, "two")
	}
	return args
}

// name is the script's name for the disk.
func (v Variant) name() string {
	var b bytes.Buffer
	for i, a := range v.args() {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(a)
	}
	return b.String()
}

// Image is the disk of a Variant as it was built. Nobody writes to it.
type Image struct {
	Variant Variant
	Path    string // qcow2
}

// builds remembers what was built, for as long as the process runs.
var builds sync.Map // Variant to *build

type build struct {
	mu    sync.Mutex
	image *Image
}

// Build returns the disk of a variant, and makes it where there is none or where
// the script or Debian's packages have changed since. That takes minutes and the
// network; otherwise it takes seconds once in a process and nothing from then on.
func Build(ctx context.Context, v Variant) (*Image, error) {
	remembered, _ := builds.LoadOrStore(v, new(build))
	b := remembered.(*build)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.image == nil {
		image, err := runScript(ctx, v)
		if err != nil {
			return nil, fmt.Errorf("build Debian with %s: %w", v.name(), err)
		}
		b.image = image
	}
	return b.image, nil
}

func runScript(ctx context.Context, v Variant) (*Image, error) {
	root, err := testbed.ModuleRoot()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "scripts", "build-debian"), v.args()...)
	// The script's children are asked to end with it, and given the time to unmount.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(said))
	}
	// The link may soon lead to a newer disk, while overlays of this one are in use.
	path, err := filepath.EvalSymlinks(filepath.Join(root, "build", "debian", v.name()+".qcow2"))
	if err != nil {
		return nil, err
	}
	return &Image{Variant: v, Path: path}, nil
}
