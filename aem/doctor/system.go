package doctor

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/antievilmaid/aem/internal/bootentry"
	"github.com/antievilmaid/aem/internal/bootside"
	"github.com/antievilmaid/aem/internal/luks"
	"github.com/antievilmaid/aem/internal/unpack"
	"github.com/antievilmaid/aem/tpm2"
)

// System is what was found of the installed system: how it boots, what it lies on,
// and what time it believes that it is. An error beside a value says why it is not known.
type System struct {
	UEFI      bool
	Menu      *bootentry.Menu
	MenuErr   error
	Entry     *bootentry.Entry // the one that starts when nobody chooses
	EntryErr  error
	Volumes   []luks.Volume
	VolumeErr error // with a duplicate, there are volumes all the same
	Root      []luks.Volume
	RootErr   error

	Makers    []string // the programs that can make an initramfs here
	Supported bool     // by what aem-setup boot install does
	Installed bool     // the boot's part
	Image     Image    // the initramfs of Entry

	Now       time.Time
	RTC       time.Time // zero where there is none
	Newest    time.Time // change of the file in /boot that is newest, by its name
	NewestOf  string
	Uptime    time.Duration // zero where it is not known
	Clock     *tpm2.Clock   // nil where the TPM has none
	ClockErr  error
	LaunchGot bool // GRUB's menu is given entries that launch
}

// Image says what an initramfs holds of the boot's part.
type Image struct {
	Read    bool // the initramfs was read
	Holds   bool // the proof's program and configuration are in it
	Current bool // and its configuration is the one on the disk
	Err     error
}

// SystemOptions say how to reach the system.
type SystemOptions struct {
	Root string // the folder that holds etc, boot, proc, sys and dev; empty means "/"
	Now  time.Time
	// Menu reads GRUB's menu.
	Menu func() (*bootentry.Menu, error)
	// Clock reads the TPM's clock; nil where the TPM has none.
	Clock func() (tpm2.Clock, error)
}

// CollectSystem looks at the installed system. It changes nothing.
func CollectSystem(o SystemOptions) *System {
	if o.Root == "" {
		o.Root = "/"
	}
	s := &System{Now: o.Now}
	s.boot(o)
	if s.Volumes, s.VolumeErr = luks.Find(o.Root); s.VolumeErr == nil || len(s.Volumes) > 0 {
		s.Root, s.RootErr = luks.Root(o.Root, s.Volumes)
	} else {
		s.RootErr = reason(s.VolumeErr)
	}
	s.initramfs(o.Root)
	s.clocks(o)
	return s
}

func (s *System) boot(o SystemOptions) {
	_, err := os.Stat(filepath.Join(o.Root, "sys/firmware/efi"))
	s.UEFI = err == nil
	s.LaunchGot = bootside.LaunchInstalled(o.Root)
	if s.Menu, s.MenuErr = o.Menu(); s.MenuErr != nil {
		s.MenuErr = reason(s.MenuErr)
		return
	}
	s.Entry, s.EntryErr = s.Menu.Find("default")
	if s.EntryErr == nil {
		s.EntryErr = s.Entry.Err
	}
}

// makers are the files and folders by which programs that make an initramfs are told.
var makers = []struct{ name, folder string }{
	{"initramfs-tools", "usr/share/initramfs-tools/hook-functions"}, {"dracut", "usr/lib/dracut"}, {"mkinitcpio", "usr/lib/initcpio"}, {"booster", "etc/booster.yaml"},
}

func (s *System) initramfs(root string) {
	for _, m := range makers {
		if _, err := os.Stat(filepath.Join(root, m.folder)); err == nil {
			s.Makers = append(s.Makers, m.name)
		}
	}
	s.Supported, s.Installed = bootside.Supported(root), bootside.Installed(root)
	if s.Installed && s.Entry != nil && s.EntryErr == nil {
		s.Image = s.look(root)
	}
}

// look reads the initramfs that will boot: an installed part is of no use before the
// initramfs is made anew.
func (s *System) look(root string) Image {
	on, err := os.ReadFile(filepath.Join(root, bootside.ConfFile))
	if err != nil {
		return Image{Err: reason(err)}
	}
	loaded, err := s.Menu.Load(s.Entry, 0)
	if err != nil {
		return Image{Err: reason(err)}
	}
	images := [][]byte{loaded.Initrd}
	if loaded.Initrd == nil {
		images = loaded.Modules // of Xen, the kernel's initramfs is one of them
	}
	var last error
	for _, b := range images {
		tree, err := unpack.Read(b)
		if err != nil {
			last = err
			continue
		}
		i := Image{Read: true}
		program := false
		for _, f := range tree.Files {
			switch strings.TrimPrefix(f.Path, "usr/") {
			case "bin/aem":
				program = true
			case bootside.ConfFile:
				i.Holds, i.Current = true, f.Sum == sha256.Sum256(on)
			}
		}
		i.Holds = i.Holds && program
		i.Current = i.Current && i.Holds
		return i
	}
	if last == nil {
		last = errors.New("the boot entry has no initramfs")
	}
	return Image{Err: last}
}

func (s *System) clocks(o SystemOptions) {
	if b, err := os.ReadFile(filepath.Join(o.Root, "sys/class/rtc/rtc0/since_epoch")); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
			s.RTC = time.Unix(n, 0)
		}
	}
	entries, err := os.ReadDir(filepath.Join(o.Root, "boot"))
	if err == nil {
		for _, e := range entries {
			if info, err := e.Info(); err == nil && info.Mode().IsRegular() && info.ModTime().After(s.Newest) {
				s.Newest, s.NewestOf = info.ModTime(), e.Name()
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(o.Root, "proc/uptime")); err == nil {
		first, _, _ := bytes.Cut(b, []byte(" "))
		if n, err := strconv.ParseFloat(string(first), 64); err == nil && n > 0 && n < 1e9 {
			s.Uptime = time.Duration(n * float64(time.Second))
		}
	}
	if o.Clock == nil {
		return
	}
	c, err := o.Clock()
	if err != nil {
		s.ClockErr = err
		return
	}
	s.Clock = &c
}

// why says why something is not known, and that root would know more where that is so.
func why(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Sprint(reason(err))
	}
	return err.Error()
}
