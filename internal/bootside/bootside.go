// Package bootside installs what lets a machine prove itself while it boots, and takes
// it away again: a hook and a script for the distribution's initramfs, a file that
// tells aem unseal where the medium is and which disks are measured, a unit that
// writes down what the proof came to, and hooks that have the next boot approved after
// an update.
package bootside

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/antievilmaid/aem/dist"
)

// ErrUnknownInitramfs says that this system makes its initramfs in a way that is not
// supported yet.
var ErrUnknownInitramfs = errors.New("this system's initramfs is made by a program that is not supported yet; initramfs-tools and dracut are")

// ConfFile tells aem unseal what to do, on the disk and in the initramfs. It is below
// the root.
const ConfFile = "etc/aem/boot.conf"

// part is what is installed for one program of the system.
type part struct {
	// needs is the file or folder without which the system does not have the program.
	// Where programs exclude each other it is one that goes away with the program:
	// configuration stays.
	needs string
	// remake is the command that makes the initramfs anew, if the program does so. A
	// system needs one such program; where it has several, the first one here counts.
	remake []string
	// launch says that the part is installed only where the owner wants a launch by it.
	launch bool
	// files go from the folder dist to these paths; those that begin as scripts become programs.
	files map[string]string
	// links are symbolic links, and what they point to.
	links map[string]string
}

var parts = []part{
	// Debian's initramfs-tools goes before dracut, because its dracut-core can be there
	// beside it, and then makes no initramfs by itself.
	{needs: "usr/share/initramfs-tools/hook-functions", remake: []string{"update-initramfs", "-u"}, files: map[string]string{
		"initramfs-tools/hook":          "etc/initramfs-tools/hooks/aem",
		"initramfs-tools/init-premount": "etc/initramfs-tools/scripts/init-premount/aem",
		"hooks/initramfs-updated":       "etc/initramfs/post-update.d/aem",
	}},
	// A script in /etc/kernel/postinst.d would come too early: after it, zz-update-grub
	// writes the menu, and triggers make other initramfs images.
	{needs: "etc/apt/apt.conf.d", files: map[string]string{
		"hooks/after-packages": "etc/aem/after-packages",
		"hooks/apt.conf":       "etc/apt/apt.conf.d/95aem",
	}},
	{needs: "etc/dpkg/dpkg.cfg.d", files: map[string]string{
		"hooks/after-packages": "etc/aem/after-packages",
		"hooks/dpkg.cfg":       "etc/dpkg/dpkg.cfg.d/aem",
	}},
	// Where rpm keeps its records here, kernels call kernel-install. Its plugins run in the
	// order of their names; Fedora's 99-grub-mkconfig.install writes the menu for Xen.
	{needs: "usr/lib/sysimage/rpm", files: map[string]string{
		"hooks/after-packages": "etc/kernel/install.d/99-zz-aem.install",
	}},
	{needs: "usr/lib/dracut/dracut-init.sh", remake: []string{"dracut", "--force", "--regenerate-all"}, files: map[string]string{
		"dracut/dracut.conf":        "etc/dracut.conf.d/aem.conf",
		"dracut/module-setup.sh":    "usr/lib/dracut/modules.d/50aem/module-setup.sh",
		"dracut/aem-gate":           "usr/lib/dracut/modules.d/50aem/aem-gate",
		"dracut/aem-unseal.service": "usr/lib/dracut/modules.d/50aem/aem-unseal.service",
		"dracut/gated.conf":         "usr/lib/dracut/modules.d/50aem/gated.conf",
	}},
	{needs: "etc/grub.d", launch: true, files: map[string]string{
		"grub/aem-launch": "etc/grub.d/90_aem_launch",
		"grub/grub.conf":  grubConf,
	}},
	// The link is what systemctl enable makes.
	{needs: "etc/systemd/system", files: map[string]string{
		"systemd/aem-journal.service": "etc/systemd/system/aem-journal.service",
	}, links: map[string]string{
		"etc/systemd/system/multi-user.target.wants/aem-journal.service": "/etc/systemd/system/aem-journal.service",
	}},
}

// folders are those that other packages need not bring, the inner ones first.
var folders = []string{"etc/aem", "etc/initramfs/post-update.d", "etc/initramfs", "usr/lib/dracut/modules.d/50aem"}

// present are the parts whose programs the system has, and one of them makes the
// initramfs.
func present(root string) ([]part, error) {
	var list []part
	maker := false
	for _, p := range parts {
		if _, err := os.Stat(filepath.Join(root, p.needs)); err != nil || maker && p.remake != nil {
			continue
		}
		list = append(list, p)
		maker = maker || p.remake != nil
	}
	if !maker {
		return nil, ErrUnknownInitramfs
	}
	return list, nil
}

// Remake is the command that makes the system's initramfs anew.
func Remake(root string) ([]string, error) {
	list, err := present(root)
	if err != nil {
		return nil, err
	}
	return list[slices.IndexFunc(list, func(p part) bool { return p.remake != nil })].remake, nil
}

// CredentialsWord, on the kernel command line, keeps systemd from doing what strings in
// the firmware's tables tell it (systemd.system-credentials(7)).
const CredentialsWord = "systemd.import_credentials=no"

// TakesCredentials reports whether systemd was in this boot's initramfs, and nobody had
// decided on the kernel command line whether it does what the firmware's tables say.
func TakesCredentials(root string) bool {
	remake, err := Remake(root)
	if err != nil || remake[0] != "dracut" {
		return false
	}
	line, err := os.ReadFile(filepath.Join(root, "proc/cmdline"))
	name := strings.TrimSuffix(CredentialsWord, "no")
	return err == nil && !slices.ContainsFunc(strings.Fields(string(line)), func(w string) bool { return strings.HasPrefix(w, name) })
}

// Config is what a boot needs to know.
type Config struct {
	Media []string // as aem unseal --medium takes them, the one that is preferred first
	Disks []string // UUIDs of the LUKS volumes whose headers are measured
	// Volumes are the logical volumes of LVM, as group/volume, that some of the disks are.
	Volumes []string
	Plain   bool // lines of text in place of the full screen
	// Launch asks for entries in GRUB's menu that make a dynamic launch. Where they are
	// installed already, they stay without it.
	Launch bool
}

// text is the configuration as the script reads it. Values are checked, because a
// shell reads them.
func (c Config) text() (string, error) {
	options := ""
	for _, d := range c.Disks {
		if !harmless(d) {
			return "", fmt.Errorf("%q is no UUID of a disk", d)
		}
		options += " --disk " + d
	}
	if c.Plain {
		options += " --plain"
	}
	if len(c.Media) == 0 {
		return "", errors.New("a boot needs a medium to look for")
	}
	for _, m := range c.Media {
		if !harmless(m) {
			return "", fmt.Errorf("%q is no medium that a boot can look for", m)
		}
	}
	for _, v := range c.Volumes {
		if !harmless(v) {
			return "", fmt.Errorf("%q is no logical volume that a boot can activate", v)
		}
	}
	return fmt.Sprintf("# Written by aem-setup; aem unseal is told this while the machine boots.\nAEM_MEDIUM=%q\nAEM_OPTIONS=%q\nAEM_VOLUMES=%q\n",
		strings.Join(c.Media, ","), strings.TrimSpace(options), strings.Join(c.Volumes, " ")), nil
}

// harmless accepts what stands for itself between a shell's quotes.
func harmless(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/=-_.:+", r) {
			return false
		}
	}
	return s != ""
}

// Install writes the files below a root, which is "/" on a machine. The initramfs is
// to be made anew afterwards.
func Install(root string, c Config) error {
	present, err := present(root)
	if err != nil {
		return err
	}
	present = slices.DeleteFunc(present, func(p part) bool { return p.launch && !c.Launch })
	if c.Launch && !slices.ContainsFunc(present, func(p part) bool { return p.launch }) {
		return ErrNoGRUB
	}
	text, err := c.text()
	if err != nil {
		return err
	}
	if err := write(root, ConfFile, []byte(text)); err != nil {
		return err
	}
	return install(root, present)
}

// InstallLaunch gives GRUB's menu entries that make a dynamic launch, on a machine that
// has nothing to prove yet, so that it can be launched for the first time.
func InstallLaunch(root string) error {
	if _, err := os.Stat(filepath.Join(root, "etc/grub.d")); err != nil {
		return ErrNoGRUB
	}
	return install(root, slices.DeleteFunc(slices.Clone(parts), func(p part) bool { return !p.launch }))
}

func install(root string, list []part) error {
	for _, p := range list {
		for from, to := range p.files {
			b, err := dist.Files.ReadFile(from)
			if err != nil {
				return err
			}
			if to == grubConf && LaunchInstalled(root) {
				continue // the owner may have written in it
			}
			if err := write(root, to, b); err != nil {
				return err
			}
		}
		for name, to := range p.links {
			if err := link(root, name, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// link makes a symbolic link, in place of an older one.
func link(root, name, to string) error {
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("install the boot's part: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("install the boot's part: %w", err)
	}
	if err := os.Symlink(to, path); err != nil {
		return fmt.Errorf("install the boot's part: %w", err)
	}
	return nil
}

func write(root, name string, content []byte) error {
	mode := fs.FileMode(0o644)
	if bytes.HasPrefix(content, []byte("#!")) {
		mode = 0o755
	}
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("install the boot's part: %w", err)
	}
	if err := os.WriteFile(path, content, mode); err != nil {
		return fmt.Errorf("install the boot's part: %w", err)
	}
	return os.Chmod(path, mode)
}

// names are all files and links that Install may make.
func names() []string {
	list := []string{ConfFile}
	for _, p := range parts {
		for _, to := range p.files {
			list = append(list, to)
		}
		for name := range p.links {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// Present lists those of the boot's files that are there, as Remove would take them away.
func Present(root string) []string {
	return slices.DeleteFunc(names(), func(name string) bool {
		_, err := os.Lstat(filepath.Join(root, name))
		return err != nil
	})
}

// Remove takes the files away. What is not there is no error.
func Remove(root string) error {
	var all error
	for _, name := range names() {
		if err := os.Remove(filepath.Join(root, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, fmt.Errorf("remove the boot's part: %w", err))
		}
	}
	for _, name := range folders {
		os.Remove(filepath.Join(root, name)) // only if nothing else is in it
	}
	return all
}

// Supported reports whether this system's initramfs is made by a program into which
// Install can put something.
func Supported(root string) bool {
	_, err := present(root)
	return err == nil
}

// Installed reports whether the boot's part is there.
func Installed(root string) bool {
	_, err := os.Stat(filepath.Join(root, ConfFile))
	return err == nil
}
