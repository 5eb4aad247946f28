package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// The whole chain into Linux: drtmsim launches a kernel with aem in its initramfs, that
// measures another one at locality 2 and starts it, and there aem log finds the log,
// which leads to what the TPM holds; and that is what the files say.
func TestChainInQEMU(t *testing.T) {
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

	const line, realLine = "console=ttyS0 panic=-1 quiet", "console=ttyS0 panic=-1 quiet real=yes"
	d := launch.Description{
		Kernel: launch.File{Path: "/target/vmlinuz", Line: realLine}, Initrd: &launch.File{Path: "/target/initrd"},
		Measure: launch.Measure{Files: []string{"/etc/fact"}},
	}
	description, err := json.Marshal(d)
	must(err)
	im := &testbed.Image{Steps: []testbed.Step{testbed.Run("/bin/aem", "launch", "--describe", "/launch.json", "--json")}}
	must(im.Program("bin/aem", "./cmd/aem"))
	content := map[string][]byte{"target/vmlinuz": vmlinuz, "target/initrd": realInitrd, "launch.json": description, "etc/fact": []byte("a fact")}
	here := filepath.Join(dir, "root")
	for name, b := range content {
		im.File(name, 0o600, b)
		must(os.MkdirAll(filepath.Dir(filepath.Join(here, name)), 0o700))
		must(os.WriteFile(filepath.Join(here, name), b, 0o600))
	}
	initrd, err := im.Build(kernel)
	must(err)
	initrdFile, loader, drtmsim := filepath.Join(dir, "initrd"), filepath.Join(dir, "loader"), filepath.Join(dir, "drtmsim")
	must(os.WriteFile(initrdFile, initrd, 0o600))
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
			if out, err := exec.Command(drtmsim, "loader", "--platform", c.platform, loader).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			block, err := os.ReadFile(loader)
			must(err)
			platform, err := drtm.ParsePlatform(c.platform)
			must(err)
			first := drtm.LinuxLaunch{Platform: platform, Version: c.version, Algs: c.algs, Loader: block, Kernel: vmlinuz, Initrd: initrd, CommandLine: line}
			stage, err := stage1.Read(&d, here)
			must(err)
			ms, err := drtm.ChainLaunch{First: first, Algs: c.algs, Stage: stage}.Measurements()
			must(err)
			want, err := drtm.Predict(c.algs, ms)
			must(err)

			files := []string{"--loader", loader, "--target", "linux", "--kernel", kernel.Image, "--append", line, "--initrd", initrdFile, "--platform", c.platform}
			report := bootAndReport(t, drtmsim, files, c.version, testbed.Config{
				Kernel: kernel.Image, Initrd: initrdFile, Append: line, Memory: 1024,
			})
			if report.Launch != drtm.Verified.String() || report.Source != "aem launch, /aem/eventlog" {
				t.Errorf("the real system says of its launch: %s, %s; the log was found at %s", report.Launch, report.Reason, report.Source)
			}
			compared := 0
			for _, v := range report.Verdicts {
				a, err := tpm.ParseAlg(v.Bank)
				must(err)
				compared++
				if got := want.Value(a, tpm.PCR(v.PCR)).String(); got != v.TPM {
					t.Errorf("%s PCR %d: the files say %s, the TPM holds %s", v.Bank, v.PCR, got, v.TPM)
				}
			}
			if compared == 0 || c.version == tpm.V12 && compared != 2 {
				t.Errorf("%d values were compared", compared)
			}
		})
	}
}
