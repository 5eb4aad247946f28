package bootside_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/bootside"
)

// files lists what lies below a folder.
func files(t *testing.T, root string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, strings.TrimPrefix(path, root))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func debian(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc/initramfs-tools"), 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

// Installed and removed, nothing is left; the scripts are scripts.
func TestInstalledAndRemovedNothingIsLeft(t *testing.T) {
	root := debian(t)
	c := bootside.Config{Media: []string{"UUID=1234-ABCD", "UUID=0d3c-11aa"}, Disks: []string{"aaaa-bbbb", "cccc"}, Plain: true}
	if err := bootside.Install(root, c); err != nil {
		t.Fatal(err)
	}
	if !bootside.Installed(root) || len(files(t, root)) != 4 {
		t.Errorf("installed are %v", files(t, root))
	}
	conf, err := os.ReadFile(filepath.Join(root, "etc/aem/boot.conf"))
	if err != nil || !strings.Contains(string(conf), `AEM_MEDIUM="UUID=1234-ABCD,UUID=0d3c-11aa"`) || !strings.Contains(string(conf), `AEM_OPTIONS="--disk aaaa-bbbb --disk cccc --plain"`) {
		t.Errorf("%v: %s", err, conf)
	}
	for _, name := range []string{"etc/initramfs-tools/hooks/aem", "etc/initramfs-tools/scripts/init-premount/aem"} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v", name, err)
		}
		if out, err := exec.Command("sh", "-n", filepath.Join(root, name)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		// initramfs-tools asks for what must run before.
		if out, err := exec.Command("sh", filepath.Join(root, name), "prereqs").CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "" {
			t.Errorf("%s prereqs: %v: %s", name, err, out)
		}
	}
	if err := bootside.Remove(root); err != nil || len(files(t, root)) != 0 || bootside.Installed(root) {
		t.Errorf("%v; left are %v", err, files(t, root))
	}
	if err := bootside.Remove(root); err != nil {
		t.Errorf("removed twice: %v", err)
	}
}

// The unit that keeps the journal comes with systemd, enabled, also where it was before.
func TestTheJournalsUnitIsInstalledAndEnabled(t *testing.T) {
	root := debian(t)
	units := filepath.Join(root, "etc/systemd/system")
	wanted := filepath.Join(units, "multi-user.target.wants/aem-journal.service")
	if err := os.MkdirAll(filepath.Dir(wanted), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := bootside.Install(root, bootside.Config{Media: []string{"/boot"}}); err != nil {
			t.Fatal(err)
		}
		unit, err := os.ReadFile(filepath.Join(units, "aem-journal.service"))
		if err != nil || !strings.Contains(string(unit), "\nExecStart=/usr/bin/aem-setup journal boot\n") || !strings.Contains(string(unit), "\nWantedBy=multi-user.target\n") {
			t.Errorf("%v: %s", err, unit)
		}
		if to, err := os.Readlink(wanted); err != nil || to != "/etc/systemd/system/aem-journal.service" {
			t.Errorf("enabled is %q, %v", to, err)
		}
	}
	if err := bootside.Remove(root); err != nil || len(files(t, root)) != 0 {
		t.Errorf("%v; left are %v", err, files(t, root))
	}
}

// The configuration is read by a shell: nothing in it may be more than a word.
func TestNothingInTheConfigurationReachesTheShell(t *testing.T) {
	for _, c := range []bootside.Config{
		{Media: []string{`x"; reboot; "`}}, {Media: []string{"$(reboot)"}}, {Media: []string{""}}, {}, {Media: []string{"a b"}}, {Media: []string{"ok"}, Disks: []string{"`reboot`"}}, {Media: []string{"ok"}, Disks: []string{"a\nb"}},
	} {
		root := debian(t)
		if err := bootside.Install(root, c); err == nil || bootside.Installed(root) {
			t.Errorf("%+v was installed", c)
		}
	}
}

func TestOtherSystemsAreRefused(t *testing.T) {
	if err := bootside.Install(t.TempDir(), bootside.Config{Media: []string{"ok"}}); !errors.Is(err, bootside.ErrUnknownInitramfs) {
		t.Errorf("%v", err)
	}
}
