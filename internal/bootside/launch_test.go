package bootside_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/bootentry"
	"github.com/antievilmaid/aem/internal/bootside"
	"github.com/antievilmaid/aem/internal/testbed"
)

// withGRUB makes a Debian with GRUB, on a machine that can make a launch by TXT.
func withGRUB(t *testing.T) string {
	t.Helper()
	root := having(t, initramfsTools)
	for name, content := range map[string]string{
		"etc/grub.d/10_linux":             "#!/bin/sh\n",
		"proc/cpuinfo":                    "vendor_id\t: GenuineIntel\nflags\t\t: fpu smx\n",
		"sys/firmware/acpi":               "",
		"boot/grub/i386-pc/slaunch.mod":   "",
		"boot/vmlinuz-6.1":                "",
		"boot/initrd.img-6.1":             "",
		"boot/6th_gen_i5_i7_SINIT_79.bin": "",
	} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

var config = bootside.Config{Media: []string{"UUID=0d3c-11aa"}}

const (
	script   = "/etc/grub.d/90_aem_launch"
	settings = "/etc/aem/grub.conf"
)

// The entries are the owner's wish: without it nothing of GRUB's is touched.
func TestLaunchEntriesAreInstalledOnlyIfWanted(t *testing.T) {
	root := withGRUB(t)
	before := files(t, root)
	if err := bootside.Install(root, config); err != nil {
		t.Fatal(err)
	}
	if list := files(t, root); slices.Contains(list, script) || slices.Contains(list, settings) || bootside.LaunchInstalled(root) {
		t.Errorf("installed without being asked: %v", list)
	}
	c := config
	c.Launch = true
	if err := bootside.Install(root, c); err != nil {
		t.Fatal(err)
	}
	if list := files(t, root); !slices.Contains(list, script) || !slices.Contains(list, settings) || !bootside.LaunchInstalled(root) {
		t.Errorf("installed are %v", list)
	}
	if info, err := os.Stat(root + script); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("grub-mkconfig would not run the script: %v", err)
	}
	// Installed again with and without the wish, what the owner set stays.
	if err := os.WriteFile(root+settings, []byte("AEM_GRUB_HAS_SLAUNCH=yes\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(bootside.Install(root, c), bootside.Install(root, config)); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(root + settings); err != nil || string(b) != "AEM_GRUB_HAS_SLAUNCH=yes\n" {
		t.Errorf("the owner's settings are %q, %v", b, err)
	}
	if err := bootside.Remove(root); err != nil {
		t.Fatal(err)
	}
	if after := files(t, root); !slices.Equal(before, after) {
		t.Errorf("left are %v", after)
	}
}

func TestNoLaunchEntriesWithoutGRUB(t *testing.T) {
	root := having(t, initramfsTools)
	c := config
	c.Launch = true
	if err := bootside.Install(root, c); !errors.Is(err, bootside.ErrNoGRUB) || bootside.Installed(root) {
		t.Errorf("%v", err)
	}
	if _, _, err := bootside.LaunchEntries(root); !errors.Is(err, bootside.ErrNoGRUB) {
		t.Errorf("%v", err)
	}
}

// The entries can be seen before anything is installed.
func TestLaunchEntriesAreShownBeforehand(t *testing.T) {
	testbed.Need(t, "grub-mkconfig")
	t.Setenv("grub_probe", "/bin/true")
	t.Setenv("grub_mkrelpath", "/bin/echo")
	root := withGRUB(t)
	before := files(t, root)
	entries, said, err := bootside.LaunchEntries(root)
	if err != nil || !strings.Contains(entries, "'aem-launch-linux'") || !strings.Contains(entries, "SINIT_79.bin") {
		t.Errorf("%v, %q:\n%s", err, said, entries)
	}
	if after := files(t, root); !slices.Equal(before, after) {
		t.Errorf("there are %v now", after)
	}
	if err := os.Remove(root + "/boot/grub/i386-pc/slaunch.mod"); err != nil {
		t.Fatal(err)
	}
	if entries, said, err := bootside.LaunchEntries(root); err != nil || entries != "" || !strings.Contains(said, "slaunch") {
		t.Errorf("%v, %q:\n%s", err, said, entries)
	}
}

// Only an owner who has entries that launch is told of one that doesn't.
func TestNoticeOfAnEntryWithoutLaunch(t *testing.T) {
	without, with := withGRUB(t), withGRUB(t)
	c := config
	c.Launch = true
	if err := bootside.Install(with, c); err != nil {
		t.Fatal(err)
	}
	plain := &bootentry.Entry{Title: "Debian", Kernel: bootentry.Module{Path: "/vmlinuz"}}
	if n := bootside.LaunchNotice(with, plain); !strings.Contains(n, `"Debian" makes no dynamic launch`) {
		t.Errorf("the notice is %q", n)
	}
	launch := &bootentry.Entry{Slaunch: true}
	tboot := &bootentry.Entry{Kernel: bootentry.Module{Path: "/tboot.gz"}}
	for _, n := range []string{bootside.LaunchNotice(without, plain), bootside.LaunchNotice(with, launch), bootside.LaunchNotice(with, tboot), bootside.LaunchNotice(with, nil)} {
		if n != "" {
			t.Errorf("a notice for nothing: %q", n)
		}
	}
}
