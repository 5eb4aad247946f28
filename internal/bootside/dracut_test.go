package bootside_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/bootside"
)

// dracutFunctions stand in for what dracut gives its modules; missing is what it does not find.
const dracutFunctions = `
derror() { echo "$@" >&2; }
require_binaries() { for b; do [ "$b" != "$missing" ] || return 1; done; }
inst_multiple() { require_binaries "$@"; }
inst_simple() { [ -e "$dracutsysrootdir$1" ] || [ -e "$1" ] || return 1; mkdir -p "$initdir/$(dirname "${2:-$1}")" && : >"$initdir/${2:-$1}"; }
inst_script() { inst_simple "$@"; }
systemdutildir=/usr/lib/systemd
. "$moddir/module-setup.sh"
`

// dracutRuns calls a function of the module, as dracut does.
func dracutRuns(t *testing.T, root, call string, env ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-c", dracutFunctions+call)
	cmd.Env = append(append(os.Environ(), "dracutsysrootdir="+root, "initdir="+root+"/init", "moddir="+root+"/usr/lib/dracut/modules.d/50aem"), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func dracutSystem(t *testing.T) string {
	t.Helper()
	root := having(t, dracut, "usr/lib/systemd/systemd")
	if err := os.Chmod(filepath.Join(root, "usr/lib/systemd/systemd"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := bootside.Install(root, bootside.Config{Media: []string{"UUID=1"}}); err != nil {
		t.Fatal(err)
	}
	return root
}

// Without the proof dracut makes no initramfs: the module is forced, and says no.
func TestDracutMakesNoInitramfsWithoutTheProof(t *testing.T) {
	conf, err := os.ReadFile(filepath.Join(dracutSystem(t), "etc/dracut.conf.d/aem.conf"))
	if err != nil || !strings.Contains(string(conf), "\nforce_add_dracutmodules+=\" aem \"\n") {
		t.Errorf("%v: %s", err, conf)
	}
	if out, err := dracutRuns(t, dracutSystem(t), "check && install"); err != nil {
		t.Errorf("nothing is missing: %v: %s", err, out)
	}
	for what, take := range map[string]string{"systemd": "usr/lib/systemd/systemd", "boot.conf": "etc/aem/boot.conf"} {
		root := dracutSystem(t)
		if err := os.Remove(filepath.Join(root, take)); err != nil {
			t.Fatal(err)
		}
		if out, err := dracutRuns(t, root, "check"); err == nil || !strings.Contains(out, what) {
			t.Errorf("without %s: %v: %s", what, err, out)
		}
	}
	for _, call := range []string{"check", "install; true"} {
		if out, err := dracutRuns(t, dracutSystem(t), call, "missing=aem"); err == nil {
			t.Errorf("%s without the program: %s", call, out)
		}
	}
	for _, file := range []string{"aem-gate", "aem-unseal.service", "gated.conf"} {
		root := dracutSystem(t)
		if err := os.Remove(filepath.Join(root, "usr/lib/dracut/modules.d/50aem", file)); err != nil {
			t.Fatal(err)
		}
		if out, err := dracutRuns(t, root, "install; true"); err == nil {
			t.Errorf("installed without %s: %s", file, out)
		}
	}
}

// What could ask, show a question, go on or open a shell has its drop-in.
func TestUnitsAreGated(t *testing.T) {
	root := dracutSystem(t)
	if out, err := dracutRuns(t, root, "install"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	units := filepath.Join(root, "init/etc/systemd/system")
	for _, unit := range []string{
		"systemd-cryptsetup@.service", "systemd-ask-password-console.service", "systemd-ask-password-plymouth.service",
		"systemd-hibernate-resume@.service", "systemd-hibernate-resume.service", "sysroot.mount", "dracut-mount.service",
		"emergency.service", "rescue.service", "dracut-emergency.service", "debug-shell.service",
	} {
		if _, err := os.Stat(filepath.Join(units, unit+".d/aem.conf")); err != nil {
			t.Error(err)
		}
	}
	if to, err := os.Readlink(filepath.Join(units, "initrd.target.requires/aem-unseal.service")); err != nil || to != "../aem-unseal.service" {
		t.Errorf("required is %q, %v", to, err)
	}
	module := filepath.Join(root, "usr/lib/dracut/modules.d/50aem")
	gate, err := os.ReadFile(filepath.Join(module, "gated.conf"))
	if err != nil || string(gate) != "[Unit]\nRequires=aem-unseal.service\nAfter=aem-unseal.service\n" {
		t.Errorf("%v: %s", err, gate)
	}
	unit, err := os.ReadFile(filepath.Join(module, "aem-unseal.service"))
	if err != nil || strings.Contains(string(unit), "\nCondition") || !strings.Contains(string(unit), "\nTimeoutStartSec=infinity\n") || !strings.Contains(string(unit), "\nFailureAction=poweroff-force\n") {
		t.Errorf("%v: %s", err, unit)
	}
}

func TestTheOwnerIsToldOfFirmwaresTables(t *testing.T) {
	for line, want := range map[string]bool{
		"quiet\n": true, "quiet systemd.import_credentials=no\n": false, "systemd.import_credentials=0 quiet\n": false, "xsystemd.import_credentials=no\n": true,
	} {
		for needs, of := range map[string]bool{dracut: true, initramfsTools: false} {
			root := having(t, needs, "proc/cmdline")
			if err := os.WriteFile(filepath.Join(root, "proc/cmdline"), []byte(line), 0o644); err != nil {
				t.Fatal(err)
			}
			if got := bootside.TakesCredentials(root); got != (want && of) {
				t.Errorf("%q with %s: %t", line, needs, got)
			}
		}
	}
}
