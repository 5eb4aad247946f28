package aem

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/bootentry"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/internal/stage1/config"
)

// Chain is what a launched Linux will start in its own place, read as its stage 1 will
// read it.
type Chain struct {
	Stage    *drtm.Stage
	Approval *drtm.Approval // nil where no policy has to approve
	// Refusal says why the policy does not approve, where stage 1 was built to start also
	// what is not approved.
	Refusal error
	// Title is that of the menu entry that stage 1 follows; empty where it follows a description.
	Title string

	part part // of the entry
}

// Mounted says where a disk that stage 1 mounts on a folder is to be found now.
type Mounted func(disk, folder string) (string, error)

// mountedHere asks this system's list of mounts.
func mountedHere(disk, folder string) (string, error) {
	device, err := findMedium(disk)
	if err != nil {
		return "", fmt.Errorf("look for the disk that stage 1 mounts on %s: %w", folder, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	at := mountedAt(mounts, rdevOf(device))
	if at == "" {
		return "", fmt.Errorf("stage 1 mounts %s on %s, and in this system it is mounted nowhere; mount it (mount -o ro)", disk, folder)
	}
	return at, nil
}

// chain is ChainOf for this machine.
func (m *Machine) chain(b *drtm.Boot, good *eventlog.Log) (*Chain, error) {
	c, err := ChainOf(b, good, m.Mounted, m.Now)
	if err == nil && c != nil {
		if err = (stage1.Loader{EFI: m.UEFI}).Check(c.Stage); err != nil {
			err = fmt.Errorf("%w: %w", err, ErrNotPossible)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("compute what stage 1 would start: %w", err)
	}
	return c, nil
}

// ChainOf reads what a boot's stage 1 will start; nil where its initramfs holds none. The
// error wraps [launch.ErrNotApproved] where stage 1 would refuse. The good log tells, as
// for [BootOf], which of several loaders an entry uses, and what is the machine's own; it
// may be nil. Where where is nil this system's mounts are asked.
func ChainOf(b *drtm.Boot, good *eventlog.Log, where Mounted, now func() time.Time) (*Chain, error) {
	if b.Kind != drtm.Linux {
		return nil, nil
	}
	told, err := config.ReadTold(b.Initrd)
	if errors.Is(err, config.ErrNoStage) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if where == nil {
		where = mountedHere
	}
	at := placeOf(told, where)
	c := &Chain{}
	if told.Entry != "" {
		err = c.follow(&told.Config, at, b.Line, good)
	} else {
		err = c.described(told.Description, at)
	}
	if err != nil {
		return nil, err
	}
	if _, err := config.ReadTold(c.Stage.Initrd); !errors.Is(err, config.ErrNoStage) {
		return nil, fmt.Errorf("stage 1 would start a stage 1 again; have it follow another entry (aem-setup stage1 build --entry): %w", ErrNotPossible)
	}
	if good != nil {
		c.Stage.KeepFacts(good)
	}
	return c, c.ask(told, at, now)
}

// placeOf finds stage 1's files on the disks that it mounts. What is not on them it can't
// start; of the kernel's own files, this system's are taken.
func placeOf(told *config.Told, where Mounted) stage1.Place {
	return func(path string) (string, error) {
		for _, own := range []string{"/dev/", "/proc/", "/sys/"} {
			if strings.HasPrefix(path, own) {
				return path, nil
			}
		}
		for _, m := range slices.Backward(told.Mounts) { // the last one mounted lies above the others
			rest, ok := strings.CutPrefix(path, m.Folder)
			if !ok || rest != "" && rest[0] != '/' {
				continue
			}
			folder, err := where(m.Disk, m.Folder)
			if err != nil {
				return "", err
			}
			return within(folder, rest)
		}
		return "", fmt.Errorf("%s lies on no disk that stage 1 mounts", path)
	}
}

// within is a file in a folder. A link that leads out of it leads elsewhere in stage 1.
func within(folder, rest string) (string, error) {
	path := filepath.Join(folder, rest)
	to, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return "", err
	}
	if to != real && !strings.HasPrefix(to, strings.TrimSuffix(real, "/")+"/") {
		return "", fmt.Errorf("%s leads to %s, outside of the disk that stage 1 mounts", path, to)
	}
	return path, nil
}

// follow reads an entry of the menu on the disk that stage 1 mounts on /boot. Of that disk
// it knows no more than the UUID, and what the launched kernel's line says.
func (c *Chain) follow(told *config.Config, at stage1.Place, line string, good *eventlog.Log) error {
	f := bootentry.Filesystem{Devices: grubDevices(line)}
	var err error
	if f.Dir, err = at(config.BootFolder); err != nil {
		return err
	}
	uuid, ok := "", false
	for _, m := range told.Mounts {
		if m.Folder == config.BootFolder {
			uuid, ok = strings.CutPrefix(m.Disk, uuidPrefix)
		}
	}
	if f.UUID = uuid; !ok {
		f.UUID = uuidWithoutUdev(deviceOf(f.Dir))
	}
	menu, err := readMenu(f)
	if err != nil {
		return err
	}
	if c.Stage, c.part, err = menuStage(menu, told.Entry, good); err != nil {
		return err
	}
	c.Title = c.part.entry.Title
	return nil
}

func (c *Chain) described(file []byte, at stage1.Place) error {
	d, err := launch.ParseDescription(file)
	if err != nil {
		return err
	}
	c.Stage, err = stage1.Read(d, at)
	c.part.kind = d.Kind()
	return err
}

// ask asks the policy that stage 1 will ask, as it will.
func (c *Chain) ask(told *config.Told, at stage1.Place, now func() time.Time) error {
	if told.Policy == nil {
		return nil
	}
	demand := launch.Demand{
		Key: func() (ed25519.PublicKey, error) { return launch.ParsePublicKey(told.PolicyKey) },
		Policy: func() ([]byte, error) {
			path, err := at(told.Policy.File)
			if err != nil {
				return nil, err
			}
			return stage1.ReadBounded(path, launch.MaxPolicy)
		},
		Oldest: told.Policy.Oldest,
		Now:    now,
	}
	if told.Policy.LaunchUnapproved {
		demand.Anyway = func(why error) { c.Refusal = why }
	}
	var err error
	c.Approval, err = demand.Approval(c.Stage)
	return err
}

// MenuStage reads what aem launch starts of an entry of GRUB's menu. A loader that the
// entry launches with is not needed any more; the log tells which of several it was.
func MenuStage(menu *bootentry.Menu, name string, log *eventlog.Log) (*drtm.Stage, error) {
	s, _, err := menuStage(menu, name, log)
	return s, err
}

func menuStage(menu *bootentry.Menu, name string, log *eventlog.Log) (*drtm.Stage, part, error) {
	e, err := menu.Find(name)
	if err != nil {
		return nil, part{}, fmt.Errorf("look for the menu entry: %w", err)
	}
	b, files, err := loadBoot(menu, e, log)
	if err != nil {
		return nil, part{}, err
	}
	return &drtm.Stage{Kind: b.Kind, Image: b.Image, Line: b.Line, Initrd: b.Initrd, Modules: b.Modules}, part{b.Kind, e, files, knownLines(menu)}, nil
}
