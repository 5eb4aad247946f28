package main

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// The whole chain into Linux, of which a policy approves; and a policy that does not.
func TestChainToLinuxInQEMU(t *testing.T) {
	chain(t, launch.Description{
		Kernel: launch.File{Path: "/target/vmlinuz", Line: "console=ttyS0 panic=-1 quiet no_timer_check real=yes"}, Initrd: &launch.File{Path: "/target/initrd"},
		Measure: launch.Measure{Files: []string{"/etc/fact"}},
	}, testbed.Config{Memory: 1024}, true)
}

// The whole chain into Xen and its dom0, with a BIOS. What the last system prints goes to
// Xen's console: without Xen nothing would arrive.
func TestChainToXenInQEMU(t *testing.T) {
	chain(t, launch.Description{
		// Xen must not ask the BIOS about its disks: it would never come back, because Linux has taken
		// them from it. Under emulation, dom0 needs an FPU that is not switched lazily, and no SMAP. Xen
		// throws away what its console is too slow for, and a log is longer than the usual 16 KiB.
		Hypervisor: &launch.File{Path: "/target/xen.gz", Line: "console=com1 com1=115200,8n1 loglvl=none guest_loglvl=none dom0_mem=512M,max:512M spec-ctrl=eager-fpu no-real-mode edd=off serial_tx_buffer=256k"},
		Kernel:     launch.File{Path: "/target/vmlinuz", Line: "console=hvc0 panic=-1 quiet loglevel=1"}, Initrd: &launch.File{Path: "/target/initrd"},
	}, testbed.Config{Memory: 1536, Extra: []string{"-cpu", "max,-smap"}}, false)
}

// chain lets drtmsim launch a kernel with aem in its initramfs, which measures what d
// describes at locality 2 and starts it. There aem log finds the log, which leads to what
// the TPM holds; and that is what the files say. With a policy, that has to approve, and
// a last boot has one that does not.
func chain(t *testing.T, d launch.Description, config testbed.Config, policed bool) {
	t.Helper()
	testbed.Need(t, "qemu-system-x86_64", "swtpm")
	kernel, err := testbed.FindKernel()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	vmlinuz, err := os.ReadFile(kernel.Image)
	must(err)
	real := &testbed.Image{Steps: []testbed.Step{testbed.Run("/bin/aem", "log", "--json")}}
	must(real.Program("bin/aem", "./cmd/aem"))
	realInitrd, err := real.Build(kernel)
	must(err)

	const line = "console=ttyS0 panic=-1 quiet no_timer_check"
	description, err := json.Marshal(d)
	must(err)
	content := map[string][]byte{"target/vmlinuz": vmlinuz, "target/initrd": realInitrd, "launch.json": description, "etc/fact": []byte("a fact")}
	if d.Hypervisor != nil {
		path, err := testbed.FindXen()
		must(err)
		content["target/xen.gz"], err = os.ReadFile(path)
		must(err)
	}
	here := filepath.Join(dir, "root")
	for name, b := range content {
		must(os.MkdirAll(filepath.Dir(filepath.Join(here, name)), 0o700))
		must(os.WriteFile(filepath.Join(here, name), b, 0o600))
	}
	stage, err := stage1.Read(&d, here)
	must(err)
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public := key.Public().(ed25519.PublicKey)
	// initramfs is that of the launched Linux, with a policy that approves of a stage.
	initramfs := func(approved *drtm.Stage) []byte {
		t.Helper()
		step := []string{"/bin/aem", "launch", "--describe", "/launch.json", "--json"}
		im := &testbed.Image{}
		must(im.Program("bin/aem", "./cmd/aem"))
		for name, b := range content {
			im.File(name, 0o600, b)
		}
		if policed {
			step = append(step, "--policy", "/policy", "--policy-key", "/policy.pub")
			entry, err := launch.Approve("the real system", approved, tpm.SHA256)
			must(err)
			now := time.Now().UTC()
			p := launch.Policy{Version: 1, Issued: now.AddDate(0, 0, -1), Expires: now.AddDate(0, 0, 1), Hash: "sha256", Approved: []launch.Approved{entry}}
			file, err := p.Sign(key)
			must(err)
			im.File("policy", 0o600, file)
			im.File("policy.pub", 0o600, launch.PublicKeyFile(public))
		}
		im.Steps = []testbed.Step{testbed.Run(step...), testbed.Run("/bin/aem", "log", "--tpm", "tis:0", "--json")}
		b, err := im.Build(kernel)
		must(err)
		return b
	}
	initrd := initramfs(stage)
	initrdFile, loader, drtmsim := filepath.Join(dir, "initrd"), filepath.Join(dir, "loader"), filepath.Join(dir, "drtmsim")
	b, err := testbed.Program("./cmd/drtmsim")
	must(err)
	must(os.WriteFile(drtmsim, b, 0o700))

	for _, c := range []struct {
		platform string
		version  tpm.Version
		algs     []tpm.Alg
	}{
		{"txt", tpm.V20, []tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512}}, {"skinit", tpm.V12, []tpm.Alg{tpm.SHA1}},
	} {
		t.Run(c.platform+" "+c.version.String(), func(t *testing.T) {
			must(os.WriteFile(initrdFile, initrd, 0o600))
			if out, err := exec.Command(drtmsim, "loader", "--platform", c.platform, loader).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			block, err := os.ReadFile(loader)
			must(err)
			platform, err := drtm.ParsePlatform(c.platform)
			must(err)
			first := drtm.LinuxLaunch{Platform: platform, Version: c.version, Algs: c.algs, Loader: block, Kernel: vmlinuz, Initrd: initrd, CommandLine: line}
			var approval *drtm.Approval
			if policed {
				approval = &drtm.Approval{Key: public, Approved: true}
			}
			ms, err := drtm.ChainLaunch{First: first, Algs: c.algs, Approval: approval, Stage: stage}.Measurements()
			must(err)
			want, err := drtm.Predict(c.algs, ms)
			must(err)

			files := []string{"--loader", loader, "--target", "linux", "--kernel", kernel.Image, "--append", line, "--initrd", initrdFile, "--platform", c.platform}
			config.Kernel, config.Initrd, config.Append = kernel.Image, initrdFile, line
			report := bootAndReport(t, drtmsim, files, c.version, config)
			if report.Launch != drtm.Verified.String() || report.Source != "aem launch, /aem/eventlog" {
				t.Errorf("the real system says of its launch: %s, %s; the log was found at %s", report.Launch, report.Reason, report.Source)
			}
			holds(t, report, want)
			if !policed || c.version != tpm.V20 {
				return
			}

			// A policy of another command line: the TPM then holds the launch, the key that
			// has to sign, and the cap.
			other := *stage
			other.Line += " init=/bin/sh"
			initrd := initramfs(&other)
			must(os.WriteFile(initrdFile, initrd, 0o600))
			first.Initrd = initrd
			ms, err = first.Measurements()
			must(err)
			want, err = drtm.Predict(c.algs, append(ms, approval.Measurements(c.algs)[0]))
			must(err)
			for i := range want {
				for _, p := range []tpm.PCR{17, 18} {
					must(want[i].Extend(p, want[i].Alg.Sum([]byte("aem launch: refused approval"))))
				}
			}
			said := bootAndExpect(t, drtmsim, files, c.version, config, `(?s)(\{"step":[^\n]*\})\s+GUEST exit 4 .*?(\{"kind":.*\})\s+GUEST exit`)
			var failure launchFailure
			if err := json.Unmarshal([]byte(said[1]), &failure); err != nil || failure.Step != launch.Approval || !failure.Capped || !strings.Contains(failure.Error, "kernel command line") {
				t.Errorf("the refusal: %s (%v)", said[1], err)
			}
			must(json.Unmarshal([]byte(said[2]), report))
			holds(t, report, want)
		})
	}
}

// holds compares what a guest's TPM holds with what the files say.
func holds(t *testing.T, report *logReport, want tpm.Banks) {
	t.Helper()
	compared := map[string]bool{}
	for _, v := range report.Verdicts {
		a, err := tpm.ParseAlg(v.Bank)
		if err != nil {
			t.Fatal(err)
		}
		if v.PCR != 17 && v.PCR != 18 {
			continue
		}
		compared[fmt.Sprint(v.Bank, v.PCR)] = true
		if got := want.Value(a, tpm.PCR(v.PCR)).String(); got != v.TPM {
			t.Errorf("%s PCR %d: the files say %s, the TPM holds %s", v.Bank, v.PCR, got, v.TPM)
		}
	}
	if len(compared) != 2*len(want) {
		t.Errorf("compared were %v", compared)
	}
}
