package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/stage1/config"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// ready is a laptop with a secret that is sealed to nothing yet.
func ready(t *testing.T, v tpm.Version) *laptop {
	t.Helper()
	l := newLaptop(t, v)
	l.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", l.dir)
	l.want(aem.ExitOK, "Kept.", sentence+"\n", "secret", "set", "text")
	return l
}

// An entry of the menu is sealed to before it boots.
func TestSealToAnEntry(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		l, boot := ready(t, v), t.TempDir()
		l.want(aem.ExitError, "no configuration of GRUB", "", "seal", "--entry", "Debian", "--boot", boot)
		l.grub(boot, testbed.BzImage("new"), []byte("new"))
		l.want(aem.ExitError, "Fedora", "", "seal", "--entry", "Fedora", "--boot", boot)
		l.want(aem.ExitOK, "seal to Debian, and to nothing else", "", "seal", "--entry", "Debian", "--boot", boot, "--dry-run")
		l.want(aem.ExitOK, "It opens for: Debian; the boot that sealed it.", "", "seal", "--entry", "Debian", "--boot", boot, "--and-present")
		l.boot()
		l.want(aem.ExitOK, "(this boot)", "", "status")
	}
}

// What aem predict kept is sealed to, though this machine did not make that launch.
func TestSealToAPrediction(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		l := ready(t, v)
		l.want(aem.ExitError, "no prediction was kept", "", "seal", "--predicted")
		l.launch.CommandLine = "never seen"
		ms, err := l.launch.Measurements()
		if err != nil {
			t.Fatal(err)
		}
		log, err := drtm.BuildLog(l.launch.Platform, v, l.launch.Algs, ms)
		if err != nil {
			t.Fatal(err)
		}
		if err := aem.OpenHome(filepath.Join(l.dir, "home")).KeepPrediction(&drtm.Forecast{Log: log}); err != nil {
			t.Fatal(err)
		}
		l.want(aem.ExitOK, "It opens for: the boot that was predicted.", "", "seal", "--predicted")
		l.want(aem.ExitOK, "is not what you approved", "", "status")
		l.boot()
		l.want(aem.ExitOK, "(this boot)", "", "status")
	}
}

func TestSealUsage(t *testing.T) {
	for _, args := range [][]string{
		{"seal", "--entry", "Debian", "--predicted"}, {"seal", "--kernel", "x", "--initrd", "y", "--entry", "z"},
		{"seal", "--static-root", "--entry", "Debian"}, {"seal", "--static-root", "--predicted"},
	} {
		if exit, out := capture(t, "", args); exit != aem.ExitUsage {
			t.Errorf("%q: exit %d, %s", args, exit, out)
		}
	}
}

// A chain whose files can't be read here is neither approved nor sealed to, and it is said why.
func TestAChainOnADiskThatIsNotMounted(t *testing.T) {
	l, boot := ready(t, tpm.V20), t.TempDir()
	l.grub(boot, l.launch.Kernel, l.launch.Initrd)
	l.boot()
	l.want(aem.ExitOK, "Sealed as", "", "seal", "--boot", boot)
	told, err := json.Marshal(config.Config{Mounts: []config.Mount{{Disk: "/dev/aem-none", Folder: config.BootFolder}}, Entry: "default"})
	if err != nil {
		t.Fatal(err)
	}
	var a initramfs.Archive
	a.File(config.Path, 0o644, told)
	image, err := a.Gzip()
	if err != nil {
		t.Fatal(err)
	}
	stage1 := filepath.Join(l.dir, "stage1.img")
	if err := os.WriteFile(stage1, image, 0o600); err != nil {
		t.Fatal(err)
	}
	l.grub(boot, l.launch.Kernel, image)
	const why = "stage 1 mounts /dev/aem-none on /boot, and in this system it is mounted nowhere"
	l.want(aem.ExitError, why, "", "approve", "--yes", "--boot", boot)
	l.want(aem.ExitError, why, "", "approve", "--auto", "--boot", boot)
	l.want(aem.ExitError, why, "", "seal", "--entry", "default", "--boot", boot)
	l.want(aem.ExitError, why, "", "seal", "--kernel", filepath.Join(boot, "vmlinuz"), "--initrd", stage1, "--cmdline", "quiet")
}
