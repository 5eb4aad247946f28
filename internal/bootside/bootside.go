// Package bootside installs what lets a machine prove itself while it boots, and takes
// it away again: a hook and a script for the distribution's initramfs, and a file that
// tells aem unseal where the medium is and which disks are measured.
package bootside

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/antievilmaid/aem/dist"
)

// ErrUnknownInitramfs says that this system makes its initramfs in a way that is not
// supported yet.
var ErrUnknownInitramfs = errors.New("this system's initramfs is made by a program that is not supported yet; initramfs-tools is")

// confFile tells aem unseal what to do, on the disk and in the initramfs.
const confFile = "etc/aem/boot.conf"

// installed are the files for initramfs-tools: from the folder dist, to where they go.
var installed = map[string]string{
	"initramfs-tools/hook":          "etc/initramfs-tools/hooks/aem",
	"initramfs-tools/init-premount": "etc/initramfs-tools/scripts/init-premount/aem",
}

// Config is what a boot needs to know.
type Config struct {
	Medium string   // as aem unseal --medium takes it
	Disks  []string // UUIDs of the LUKS volumes whose headers are measured
	Plain  bool     // lines of text in place of the full screen
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
	if !harmless(c.Medium) {
		return "", fmt.Errorf("%q is no medium that a boot can look for", c.Medium)
	}
	return fmt.Sprintf("# Written by aem-setup; aem unseal is told this while the machine boots.\nAEM_MEDIUM=%q\nAEM_OPTIONS=%q\n", c.Medium, strings.TrimSpace(options)), nil
}

// harmless accepts what stands for itself between a shell's quotes.
func harmless(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/=-_.:", r) {
			return false
		}
	}
	return s != ""
}

// Install writes the files below a root, which is "/" on a machine. The initramfs is
// to be made anew afterwards.
func Install(root string, c Config) error {
	if _, err := os.Stat(filepath.Join(root, "etc/initramfs-tools")); err != nil {
		return ErrUnknownInitramfs
	}
	text, err := c.text()
	if err != nil {
		return err
	}
	if err := write(root, confFile, []byte(text), 0o644); err != nil {
		return err
	}
	for from, to := range installed {
		b, err := dist.Files.ReadFile(from)
		if err != nil {
			return err
		}
		if err := write(root, to, b, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func write(root, name string, content []byte, mode fs.FileMode) error {
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("install the boot's part: %w", err)
	}
	if err := os.WriteFile(path, content, mode); err != nil {
		return fmt.Errorf("install the boot's part: %w", err)
	}
	return os.Chmod(path, mode)
}

// Remove takes the files away. What is not there is no error.
func Remove(root string) error {
	var all error
	for _, name := range append([]string{confFile}, installed["initramfs-tools/hook"], installed["initramfs-tools/init-premount"]) {
		if err := os.Remove(filepath.Join(root, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, fmt.Errorf("remove the boot's part: %w", err))
		}
	}
	os.Remove(filepath.Join(root, filepath.Dir(confFile))) // only if nothing else is in it
	return all
}

// Installed reports whether the boot's part is there.
func Installed(root string) bool {
	_, err := os.Stat(filepath.Join(root, confFile))
	return err == nil
}
