package bootside_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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

// The programs that make an initramfs, by a file of their packages.
const (
	initramfsTools = "usr/share/initramfs-tools/hook-functions"
	dracut         = "usr/lib/dracut/dracut-init.sh"
)

// having makes a root with some files.
func having(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// What is installed for each program, and how the initramfs is made anew; removed,
// nothing is left.
func TestInstalledAndRemovedNothingIsLeft(t *testing.T) {
	forInitramfsTools := []string{"/etc/aem/boot.conf", "/etc/initramfs/post-update.d/aem", "/etc/initramfs-tools/hooks/aem", "/etc/initramfs-tools/scripts/init-premount/aem"}
	const module = "/usr/lib/dracut/modules.d/50aem/"
	forDracut := []string{"/etc/aem/boot.conf", "/etc/dracut.conf.d/aem.conf", module + "aem-gate", module + "aem-unseal.service", module + "gated.conf", module + "module-setup.sh"}
	for name, c := range map[string]struct{ has, want, remake []string }{
		"initramfs-tools": {[]string{initramfsTools}, forInitramfsTools, []string{"update-initramfs", "-u"}},
		"dracut":          {[]string{dracut}, forDracut, []string{"dracut", "--force", "--regenerate-all"}},
		"both":            {[]string{dracut, initramfsTools}, forInitramfsTools, []string{"update-initramfs", "-u"}},
		"dracut, and what initramfs-tools left behind": {[]string{dracut, "etc/initramfs-tools/modules"}, forDracut, []string{"dracut", "--force", "--regenerate-all"}},
	} {
		root := having(t, c.has...)
		before := files(t, root)
		if err := bootside.Install(root, bootside.Config{Media: []string{"UUID=1234"}}); err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(files(t, root), func(f string) bool { return slices.Contains(before, f) })
		if diff := cmp.Diff(c.want, got); diff != "" || !bootside.Installed(root) {
			t.Errorf("%s: installed are (-want +got) %s", name, diff)
		}
		present := bootside.Present(root)
		for i := range present {
			present[i] = "/" + present[i]
		}
		if diff := cmp.Diff(slices.Sorted(slices.Values(c.want)), slices.Sorted(slices.Values(present))); diff != "" {
			t.Errorf("%s: present are (-want +got) %s", name, diff)
		}
		remake, err := bootside.Remake(root)
		if diff := cmp.Diff(c.remake, remake); err != nil || diff != "" {
			t.Errorf("%s: %v: the initramfs is made by (-want +got) %s", name, err, diff)
		}
		for range 2 { // and again, where nothing is there
			if err := bootside.Remove(root); err != nil || bootside.Installed(root) {
				t.Errorf("%s: removed: %v", name, err)
			}
		}
		if diff := cmp.Diff(before, files(t, root)); diff != "" {
			t.Errorf("%s: left are (-want +got) %s", name, diff)
		}
		for _, dir := range []string{"etc/aem", module} {
			if _, err := os.Stat(filepath.Join(root, dir)); err == nil {
				t.Errorf("%s: the folder %s is left", name, dir)
			}
		}
	}
}

func TestTheBootIsToldOfMediaAndDisks(t *testing.T) {
	root := having(t, initramfsTools)
	c := bootside.Config{Media: []string{"UUID=1234-ABCD", "UUID=0d3c-11aa"}, Disks: []string{"aaaa-bbbb", "cccc"}, Volumes: []string{"my-group/root"}, Plain: true}
	if err := bootside.Install(root, c); err != nil {
		t.Fatal(err)
	}
	conf, err := os.ReadFile(filepath.Join(root, "etc/aem/boot.conf"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`AEM_MEDIUM="UUID=1234-ABCD,UUID=0d3c-11aa"`, `AEM_OPTIONS="--disk aaaa-bbbb --disk cccc --plain"`, `AEM_VOLUMES="my-group/root"`} {
		if !strings.Contains(string(conf), line+"\n") {
			t.Errorf("%s is not in %s", line, conf)
		}
	}
}

// The scripts are programs that their shells understand.
func TestTheScriptsAreScripts(t *testing.T) {
	for needs, scripts := range map[string]map[string]string{
		initramfsTools: {"etc/initramfs-tools/hooks/aem": "sh", "etc/initramfs-tools/scripts/init-premount/aem": "sh"},
		dracut:         {"usr/lib/dracut/modules.d/50aem/module-setup.sh": "bash", "usr/lib/dracut/modules.d/50aem/aem-gate": "sh"},
	} {
		root := having(t, needs)
		if err := bootside.Install(root, bootside.Config{Media: []string{"ok"}}); err != nil {
			t.Fatal(err)
		}
		for name, shell := range scripts {
			info, err := os.Stat(filepath.Join(root, name))
			if err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("%s: %v", name, err)
			}
			if out, err := exec.Command(shell, "-n", filepath.Join(root, name)).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", name, err, out)
			}
			if needs != initramfsTools {
				continue
			}
			// initramfs-tools asks for what must run before.
			if out, err := exec.Command(shell, filepath.Join(root, name), "prereqs").CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "" {
				t.Errorf("%s prereqs: %v: %s", name, err, out)
			}
		}
	}
}

// The unit that keeps the journal comes with systemd, enabled, also where it was before.
func TestTheJournalsUnitIsInstalledAndEnabled(t *testing.T) {
	root := having(t, initramfsTools)
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
	if err := bootside.Remove(root); err != nil || len(files(t, root)) != 1 {
		t.Errorf("%v; left are %v", err, files(t, root))
	}
}

// The configuration is read by a shell: nothing in it may be more than a word.
func TestNothingInTheConfigurationReachesTheShell(t *testing.T) {
	for _, c := range []bootside.Config{
		{Media: []string{`x"; reboot; "`}}, {Media: []string{"$(reboot)"}}, {Media: []string{""}}, {}, {Media: []string{"a b"}}, {Media: []string{"ok"}, Disks: []string{"`reboot`"}}, {Media: []string{"ok"}, Disks: []string{"a\nb"}},
	} {
		root := having(t, initramfsTools)
		if err := bootside.Install(root, c); err == nil || bootside.Installed(root) {
			t.Errorf("%+v was installed", c)
		}
	}
}

func TestOtherSystemsAreRefused(t *testing.T) {
	if _, err := bootside.Remake(t.TempDir()); !errors.Is(err, bootside.ErrUnknownInitramfs) {
		t.Errorf("%v", err)
	}
	if err := bootside.Install(t.TempDir(), bootside.Config{Media: []string{"ok"}}); !errors.Is(err, bootside.ErrUnknownInitramfs) {
		t.Errorf("%v", err)
	}
}
