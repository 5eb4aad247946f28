package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// launched writes the files of a launch into a folder and returns the flags that
// name them.
func (l *laptop) flags(prefix string) []string {
	l.t.Helper()
	dir := l.t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		l.must(os.WriteFile(path, b, 0o600))
		return path
	}
	return []string{
		"--" + prefix + "kernel", write("vmlinuz", l.launch.Kernel), "--" + prefix + "initrd", write("initrd", l.launch.Initrd),
		"--" + prefix + "append", l.launch.CommandLine, "--" + prefix + "loader", write("loader", l.launch.Loader),
	}
}

// Predicted before the boot, kept, and scored after it: on both families, the TPM
// then holds what was predicted.
func TestPredictThenBoot(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			l := newLaptop(t, v)
			good := filepath.Join(t.TempDir(), "good")
			raw, err := os.ReadFile(l.log())
			l.must(err)
			l.must(os.WriteFile(good, raw, 0o600))
			home := filepath.Join(t.TempDir(), "home")
			was := l.flags("was-")
			l.launch.Kernel, l.launch.Initrd, l.launch.CommandLine = testbed.BzImage("newer"), []byte("a newer initramfs"), "root=/dev/sda quiet panic=1"
			args := append(append([]string{"predict", "--good", good, "--home", home, "--keep", "--diff", "good", "--json"}, was...), l.flags("")...)
			exit, out, stderr := capture(t, args)
			var p prediction
			if exit != aem.ExitMeasurements || json.Unmarshal([]byte(out), &p) != nil {
				t.Fatalf("exit %d, %s %s", exit, stderr, out)
			}
			if p.Assumed || p.Diff == nil || p.Diff.Same || len(p.Events) == 0 {
				t.Errorf("assumed %t, %d events", p.Assumed, len(p.Events))
			}
			changed := map[string]bool{}
			for _, e := range p.Events {
				if e.Changed {
					changed[e.What] = true
				}
			}
			if !changed["kernel"] || !changed["initramfs"] || !changed["kernel command line"] || changed["launched image"] {
				t.Errorf("changed are %v", changed)
			}
			// The boot, and what the TPM then holds.
			l.boot()
			m, closer, err := aem.Open(aem.Where{TPM: "swtpm:" + l.emulator.Socket(), Log: l.log()}, nil)
			l.must(err)
			boot, err := m.Boot()
			closer.Close()
			l.must(err)
			for _, a := range boot.PCRs.Algs() {
				for _, pcr := range []tpm.PCR{17, 18} {
					if got, want := p.PCRs[a.String()][uint32(pcr)], boot.PCRs.Value(a, pcr).String(); got != want {
						t.Errorf("%s PCR %d: predicted %s, the TPM holds %s", a, pcr, got, want)
					}
				}
			}
			exit, out, stderr = capture(t, []string{"predict", "--score", "--home", home, "--log", l.log()})
			if exit != aem.ExitOK || !strings.Contains(out, "right.") || strings.Contains(out, "The first difference") {
				t.Errorf("the score: exit %d, %s\n%s", exit, stderr, out)
			}
			// Another boot than the predicted one.
			l.launch.Initrd = []byte("evil")
			l.boot()
			exit, out, _ = capture(t, []string{"predict", "--score", "--home", home, "--log", l.log()})
			if exit != aem.ExitMeasurements || !strings.Contains(out, "initramfs changed") {
				t.Errorf("the score of another boot: exit %d\n%s", exit, out)
			}
		})
	}
}

// The files come from the entry that GRUB would boot.
func TestPredictAGRUBEntry(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	boot := t.TempDir()
	write := func(name string, b []byte) {
		path := filepath.Join(boot, name)
		l.must(os.MkdirAll(filepath.Dir(path), 0o700))
		l.must(os.WriteFile(path, b, 0o600))
	}
	write("vmlinuz-old", l.launch.Kernel)
	write("initrd-old", l.launch.Initrd)
	write("vmlinuz-new", testbed.BzImage("new"))
	write("initrd-new", []byte("new"))
	write("skl.bin", l.launch.Loader)
	write("grub/grub.cfg", []byte(`
set default=0
opts="panic=1"
menuentry 'New' {
	slaunch skinit
	slaunch_module /skl.bin
	linux /vmlinuz-new root=/dev/sda $opts
	initrd /initrd-new
}
menuentry 'Old' {
	slaunch skinit
	slaunch_module /skl.bin
	linux /vmlinuz-old root=/dev/sda
	initrd /initrd-old
}
`))
	l.launch.CommandLine = "BOOT_IMAGE=/vmlinuz-old root=/dev/sda"
	l.boot()
	var p prediction
	exit, out, stderr := capture(t, []string{"predict", "--boot", boot, "--booted", "Old", "--good", l.log(), "--json"})
	if exit != aem.ExitOK || json.Unmarshal([]byte(out), &p) != nil {
		t.Fatalf("exit %d, %s %s", exit, stderr, out)
	}
	l.launch.Kernel, l.launch.Initrd, l.launch.CommandLine = testbed.BzImage("new"), []byte("new"), "BOOT_IMAGE=/vmlinuz-new root=/dev/sda panic=1"
	ms, err := l.launch.Measurements()
	l.must(err)
	want, err := drtm.Predict(l.launch.Algs, ms)
	l.must(err)
	for _, pcr := range []tpm.PCR{17, 18} {
		if got := p.PCRs["sha256"][uint32(pcr)]; got != want.Value(tpm.SHA256, pcr).String() {
			t.Errorf("PCR %d: predicted %s; the launch makes %s", pcr, got, want.Value(tpm.SHA256, pcr))
		}
	}
	// An entry that can't be evaluated is refused.
	if exit, _, stderr := capture(t, []string{"predict", "--boot", boot, "--entry", "Nowhere", "--good", l.log()}); exit != aem.ExitError || !strings.Contains(stderr, "Nowhere") {
		t.Errorf("an entry that is not there: exit %d, %s", exit, stderr)
	}
}

func TestPredictRefusesWhatItCannotExplain(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	good := l.log()
	was := l.flags("was-")
	l.launch.Initrd = []byte("another file than the one that booted")
	wrong := l.flags("was-")
	now := l.flags("")
	exit, _, stderr := capture(t, append(append([]string{"predict", "--good", good}, wrong...), now...))
	if exit != aem.ExitNotPossible || !strings.Contains(stderr, "initramfs") {
		t.Errorf("other files than those that booted: exit %d, %s", exit, stderr)
	}
	if exit, out, _ := capture(t, append([]string{"predict", "--good", good}, now...)); exit != aem.ExitOK || !strings.Contains(out, "Assumed:") {
		t.Errorf("without the files that booted: exit %d\n%s", exit, out)
	}
	if exit, out, stderr := capture(t, append(append([]string{"predict", "--good", good}, was...), now...)); exit != aem.ExitOK || strings.Contains(out, "Assumed:") {
		t.Errorf("with them: exit %d, %s\n%s", exit, stderr, out)
	}
	for _, args := range [][]string{{"predict", "--home", t.TempDir()}, {"predict", "--score", "--home", t.TempDir(), "--log", good}} {
		if exit, _, _ := capture(t, args); exit != aem.ExitError {
			t.Errorf("%q: exit %d", args, exit)
		}
	}
}

// Without a good log, the simulator's launches are computed from files alone, for
// every target.
func TestPredictSimulatedLaunches(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	dir := t.TempDir()
	loader, image, module := filepath.Join(dir, "loader"), filepath.Join(dir, "image"), filepath.Join(dir, "module")
	l.must(os.WriteFile(loader, l.launch.Loader, 0o600))
	l.must(os.WriteFile(image, testbed.BzImage("kernel"), 0o600))
	l.must(os.WriteFile(module, []byte("module"), 0o600))
	for _, c := range []struct {
		target, platform string
		exit             aem.Exit
	}{{"linux", "skinit", 0}, {"linux", "txt", 0}, {"xen", "txt", 0}, {"xen", "skinit", 0}, {"xen-efi", "skinit", 0}, {"tboot", "txt", 0}, {"tboot", "skinit", 1}, {"windows", "txt", 2}, {"xen", "sgx", 2}} {
		args := []string{"predict", "--home", dir, "--simulated", c.platform, "--target", c.target, "--kernel", image, "--append", "quiet", "--loader", loader, "--banks", "sha1,sha256", "--json"}
		if c.target != "linux" {
			args = append(args, "--module", module+" root=/dev/sda")
		}
		exit, out, stderr := capture(t, args)
		var p prediction
		if exit != c.exit || exit == 0 && (json.Unmarshal([]byte(out), &p) != nil || len(p.PCRs["sha1"]) != 2 || len(p.PCRs["sha256"]) != 2) {
			t.Errorf("%s by %s: exit %d, %s %s", c.target, c.platform, exit, stderr, out)
		}
	}
}
