package bootside

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/antievilmaid/aem/dist"
	"github.com/antievilmaid/aem/internal/bootentry"
)

// ErrNoGRUB says that this system's boot menu is not made by grub-mkconfig.
var ErrNoGRUB = errors.New("this system has no /etc/grub.d, so that no entry of its boot menu can be made that launches")

// grubConf switches the script of etc/grub.d on.
const grubConf = "etc/aem/grub.conf"

// LaunchInstalled reports whether GRUB's menu is given entries that make a dynamic launch.
func LaunchInstalled(root string) bool {
	_, err := os.Stat(filepath.Join(root, grubConf))
	return err == nil
}

// LaunchEntries are the menu entries that the script would make below a root, whether it
// is installed or not, and what it has to say about them. Nothing is changed.
func LaunchEntries(root string) (entries, said string, err error) {
	if _, err := os.Stat(filepath.Join(root, "etc/grub.d")); err != nil {
		return "", "", ErrNoGRUB
	}
	dir, err := os.MkdirTemp("", "aem-launch-")
	if err != nil {
		return "", "", fmt.Errorf("try the script for GRUB's menu: %w", err)
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"aem-launch", "grub.conf"} {
		b, err := dist.Files.ReadFile("grub/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			return "", "", fmt.Errorf("try the script for GRUB's menu: %w", err)
		}
	}
	cmd := exec.Command("sh", filepath.Join(dir, "aem-launch"))
	cmd.Env = append(os.Environ(), "AEM_ROOT="+root)
	if !LaunchInstalled(root) {
		cmd.Env = append(cmd.Env, "AEM_GRUB_CONF="+filepath.Join(dir, "grub.conf"))
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", "", fmt.Errorf("try the script for GRUB's menu: %w: %s", err, errs.String())
	}
	return out.String(), errs.String(), nil
}

// LaunchNotice is a sentence for an owner who has entries that launch, about an entry
// that doesn't; it is empty for one that does, and where there are none.
func LaunchNotice(root string, e *bootentry.Entry) string {
	if e == nil || !LaunchInstalled(root) || e.MakesLaunch() {
		return ""
	}
	return fmt.Sprintf("The boot entry %q makes no dynamic launch. Those that do are called aem-launch-linux and aem-launch-xen: name one by --entry, and choose it in GRUB's menu, or for every boot by GRUB_DEFAULT in /etc/default/grub.", e.Title)
}
