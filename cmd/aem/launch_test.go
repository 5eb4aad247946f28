package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/stage1/config"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// target is a real system in a folder, and what was started of it.
type target struct {
	root, description string
	loaded            *drtm.Stage
	log               []byte
	executed          bool
}

func newTarget(l *laptop) *target {
	t := &target{root: l.t.TempDir()}
	write := func(name, content string) string {
		path := filepath.Join(t.root, name)
		l.must(os.MkdirAll(filepath.Dir(path), 0o700))
		l.must(os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	write("boot/xen", "xen")
	write("boot/vmlinuz", string(testbed.BzImage("real")))
	write("boot/initrd", "initramfs")
	write("boot/grub/grub.cfg", `menuentry "Real" { linux /boot/vmlinuz root=/dev/vg/root quiet
	initrd /boot/initrd
}`)
	t.description = write("launch.json", `{"hypervisor": {"file": "/boot/xen", "line": "dom0_mem=1G"},
		"kernel": {"file": "/boot/vmlinuz", "line": "root=/dev/vg/root"}, "initrd": {"file": "/boot/initrd"},
		"measure": {"files": ["/boot/grub/grub.cfg"]}}`)
	return t
}

func (x *target) starter() starter {
	return starter{
		load:    func(s *drtm.Stage, log []byte) error { x.loaded, x.log = s, log; return nil },
		execute: func() error { x.executed = true; return errors.New("a test starts nothing") },
	}
}

// What --dry-run says is what the TPM then holds, in every bank, whichever way the
// target is named; and the log that goes on says so, too.
func TestLaunchDoesWhatItSaid(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		for _, way := range []string{"describe", "entry"} {
			t.Run(v.String()+"/"+way, func(t *testing.T) {
				l := newLaptop(t, v)
				x := newTarget(l)
				args := l.args("launch", "--json", "--describe", x.description, "--root", x.root)
				if way == "entry" {
					args = l.args("launch", "--json", "--entry", "Real", "--boot", x.root)
				}
				exit, out, stderr := captureOf(t, commands(x.starter()), append(args, "--dry-run"))
				var plan launchPlan
				if exit != aem.ExitOK || json.Unmarshal([]byte(out), &plan) != nil || x.loaded != nil {
					t.Fatalf("dry run: exit %d, %s %s", exit, stderr, out)
				}
				if plan.Launch != "verified" || len(plan.Measurements) != map[string]int{"describe": 8, "entry": 4}[way] {
					t.Errorf("the plan: %+v", plan)
				}
				var atStart tpm.Banks
				start := x.starter()
				start.execute = func() error { atStart = l.pcrs(); return nil }
				exit, out, stderr = captureOf(t, commands(start), args)
				var f launchFailure
				if exit != aem.ExitError || json.Unmarshal([]byte(out), &f) != nil || f.Step != launch.Execute || !f.Capped {
					t.Fatalf("launch: exit %d, %s %s", exit, stderr, out)
				}
				for _, a := range atStart.Algs() {
					for _, p := range []tpm.PCR{17, 18} {
						if got, want := plan.PCRs[a.String()][uint32(p)], atStart.Value(a, p).String(); got != want {
							t.Errorf("%s PCR %d: planned %s, the TPM held %s", a, p, got, want)
						}
					}
				}
				if len(plan.PCRs) != len(atStart) {
					t.Errorf("planned for %d banks, the TPM has %d", len(plan.PCRs), len(atStart))
				}
				var r logReport
				if _, out, stderr = capture(t, []string{"log", file(t, x.log), "--json"}); json.Unmarshal([]byte(out), &r) != nil ||
					r.Replay[tpm.SHA1.String()][17] != atStart.Value(tpm.SHA1, 17).String() {
					t.Errorf("the log that goes on: %s %s", stderr, out)
				}
				if string(x.loaded.Image) != map[string]string{"describe": "xen", "entry": string(testbed.BzImage("real"))}[way] {
					t.Error("another image was loaded")
				}
			})
		}
	}
}

func (l *laptop) pcrs() tpm.Banks {
	l.t.Helper()
	conn, err := swtpm.Dial(l.emulator.Socket())
	l.must(err)
	defer conn.Close()
	chip, err := aem.NewChip(conn, l.launch.Version)
	l.must(err)
	banks, err := chip.ReadPCRs(tpm.PCRSet(17, 18))
	l.must(err)
	return banks
}

// Each refusal has its code, and leaves nothing that could be unsealed.
func TestLaunchRefuses(t *testing.T) {
	for name, x := range map[string]struct {
		prepare func(*laptop, *target) []string
		exit    aem.Exit
		says    string
	}{
		"no such file": {func(l *laptop, x *target) []string {
			l.must(os.Remove(filepath.Join(x.root, "boot/initrd")))
			return []string{"--describe", x.description, "--root", x.root}
		}, aem.ExitError, "boot/initrd"},
		"no such description": {func(_ *laptop, x *target) []string {
			return []string{"--describe", x.description + "x"}
		}, aem.ExitError, "launch description"},
		"no such entry": {func(_ *laptop, x *target) []string {
			return []string{"--entry", "Other", "--boot", x.root}
		}, aem.ExitError, "menu entry"},
		"another log": {func(l *laptop, x *target) []string {
			other := l.launch
			other.CommandLine += " debug"
			ms, err := other.Measurements()
			l.must(err)
			log, err := drtm.BuildLog(other.Platform, other.Version, other.Algs, ms)
			l.must(err)
			b, err := log.AppendTo(nil)
			l.must(err)
			l.must(os.WriteFile(l.log(), b, 0o600))
			return []string{"--describe", x.description, "--root", x.root}
		}, aem.ExitMeasurements, "not proven"},
		"a damaged log": {func(l *laptop, x *target) []string {
			b, err := os.ReadFile(l.log())
			l.must(err)
			l.must(os.WriteFile(l.log(), b[:200], 0o600))
			return []string{"--describe", x.description, "--root", x.root}
		}, aem.ExitError, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLaptop(t, tpm.V20)
			target := newTarget(l)
			before := l.pcrs()
			exit, _, stderr := captureOf(t, commands(target.starter()), l.args(append([]string{"launch"}, x.prepare(l, target)...)...))
			if exit != x.exit || !strings.Contains(stderr, x.says) || !strings.Contains(stderr, "were capped") {
				t.Errorf("exit %d, want %d: %s", exit, x.exit, stderr)
			}
			if target.executed {
				t.Error("something was started")
			}
			after := l.pcrs()
			for _, a := range before.Algs() {
				for _, p := range []tpm.PCR{17, 18} {
					if after.Value(a, p).Equal(before.Value(a, p)) {
						t.Errorf("%s PCR %d was not capped", a, p)
					}
				}
			}
		})
	}
}

func TestLaunchWithoutALaunch(t *testing.T) {
	l := newLaptop(t, tpm.V12)
	x := newTarget(l)
	conn, err := swtpm.Dial(l.emulator.Socket())
	l.must(err)
	l.must(testbed.PowerOff(conn, l.launch.Version))
	l.must(testbed.PowerOn(conn, l.launch.Version))
	conn.Close()
	for _, more := range []string{"--dry-run", "--json"} {
		exit, out, stderr := captureOf(t, commands(x.starter()), l.args("launch", "--describe", x.description, "--root", x.root, more))
		if exit != aem.ExitNotPossible || !strings.Contains(out, "no dynamic launch") || x.executed || x.loaded != nil {
			t.Errorf("%s: exit %d, %s%s", more, exit, out, stderr)
		}
	}
	if v := l.pcrs().Value(tpm.SHA1, 17); !v.All(0xff) {
		t.Errorf("PCR 17 was extended: %s", v)
	}
}

func TestLaunchUsage(t *testing.T) {
	for _, args := range [][]string{{"launch"}, {"launch", "--describe", "x", "--entry", "y"}, {"launch", "--describe", "x", "y"}} {
		if exit, _, _ := captureOf(t, commands(starter{}), args); exit != aem.ExitUsage {
			t.Errorf("%q: exit %d", args, exit)
		}
	}
}

// aem predict knows the chain before its first boot: by a simulation or from the log of a
// good launch, for what a description or a menu entry starts, or by what stands in the
// initramfs of a stage 1.
func TestPredictThen(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		simulated := []string{"--simulated", "skinit", "--family", strings.TrimPrefix(v.String(), "TPM "), "--banks", "sha1,sha256,sha384,sha512"}
		for name, way := range map[string]struct {
			good, told bool
			then       []string // to predict
		}{
			"description":            {then: []string{"--then"}},
			"entry":                  {then: []string{"--then-entry", "Real"}},
			"entry, from a good log": {good: true, then: []string{"--then-entry", "Real"}},
			"stage 1":                {told: true},
			"stage 1, good log":      {good: true, told: true},
		} {
			t.Run(v.String()+"/"+name, func(t *testing.T) {
				l := newLaptop(t, v)
				x := newTarget(l)
				l.must(os.WriteFile(filepath.Join(x.root, "boot/grub/grub.cfg"), []byte("menuentry Real { linux /vmlinuz quiet\n initrd /initrd\n }\n"), 0o600))
				start := []string{"launch", "--entry", "Real", "--boot", filepath.Join(x.root, "boot")}
				if name == "description" {
					way.then = append(way.then, x.description)
					start = []string{"launch", "--describe", x.description, "--root", x.root}
				}
				args := append([]string{"predict", "--home", l.dir, "--then-root", x.root, "--json"}, way.then...)
				if way.good {
					args = append(append(args, "--good", l.log()), l.flags("was-")...)
				} else {
					args = append(args, simulated...)
				}
				if way.told {
					l.launch.Initrd = toldInitramfs(t)
				}
				args = append(args, l.flags("")...)
				exit, out, stderr := capture(t, args)
				var p prediction
				if exit != aem.ExitOK || json.Unmarshal([]byte(out), &p) != nil {
					t.Fatalf("exit %d, %s", exit, stderr)
				}
				l.boot()
				s := x.starter()
				compared := 0
				s.execute = func() error {
					for _, b := range l.pcrs() {
						for _, r := range []tpm.PCR{17, 18} {
							compared++
							if got, want := p.PCRs[b.Alg.String()][uint32(r)], b.Values[r].String(); got != want {
								t.Errorf("%s PCR %d: predicted %s, the TPM holds %s", b.Alg, r, got, want)
							}
						}
					}
					return nil
				}
				captureOf(t, commands(s), l.args(start...))
				if compared != 2*len(l.launch.Algs) {
					t.Errorf("%d values were compared", compared)
				}
			})
		}
	}
	if exit, _, _ := capture(t, []string{"predict", "--then", "x", "--then-entry", "y"}); exit != aem.ExitUsage {
		t.Errorf("two things to start: exit %d", exit)
	}
}

// toldInitramfs is that of a stage 1 that follows the entry Real.
func toldInitramfs(t *testing.T) []byte {
	t.Helper()
	told, err := json.Marshal(config.Config{Mounts: []config.Mount{{Disk: "/dev/aem-none", Folder: config.BootFolder}}, Entry: "Real"})
	if err != nil {
		t.Fatal(err)
	}
	var a initramfs.Archive
	a.File(config.Path, 0o644, told)
	b, err := a.Gzip()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What stage 1 would not start is not predicted.
func TestPredictRefusesWhatStageOneWould(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	l.launch.Initrd = toldInitramfs(t)
	args := append([]string{"predict", "--home", l.dir, "--simulated", "skinit"}, l.flags("")...)
	for name, x := range map[string]struct {
		more []string
		exit aem.Exit
		says string
	}{
		"a folder without a menu":     {[]string{"--then-root", t.TempDir()}, aem.ExitError, "what stage 1 would start"},
		"a disk that is not here":     {nil, aem.ExitError, "mounted nowhere"},
		"another policy than its own": {[]string{"--policy", "x", "--policy-key", "y"}, aem.ExitUsage, "brings its own"},
	} {
		if exit, _, stderr := capture(t, append(args, x.more...)); exit != x.exit || !strings.Contains(stderr, x.says) {
			t.Errorf("%s: exit %d, %s", name, exit, stderr)
		}
	}
}
