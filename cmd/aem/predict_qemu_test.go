package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// The prediction is made of files. QEMU is given the same files and starts Debian's
// kernel, drtmsim makes the launch, and the guest itself reads its TPM and its log:
// both families, both platforms, Linux and Xen.
func TestPredictionsHoldInQEMU(t *testing.T) {
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
	im := &testbed.Image{Load: testbed.DiskModules(), Steps: []testbed.Step{testbed.Run("/bin/aem", "log", "--json")}}
	must(im.Program("bin/aem", "./cmd/aem"))
	initrd, err := im.Build(kernel)
	must(err)
	initrdFile, xen, loader := filepath.Join(dir, "initrd"), filepath.Join(dir, "xen"), filepath.Join(dir, "loader")
	must(os.WriteFile(initrdFile, initrd, 0o600))
	must(os.WriteFile(xen, []byte("a hypervisor; QEMU starts the kernel all the same"), 0o600))
	drtmsim := filepath.Join(dir, "drtmsim")
	b, err := testbed.Program("./cmd/drtmsim")
	must(err)
	must(os.WriteFile(drtmsim, b, 0o700))

	const line = "console=ttyS0 panic=-1 quiet"
	for _, c := range []struct {
		target, platform string
		version          tpm.Version
	}{
		{"linux", "txt", tpm.V20}, {"linux", "txt", tpm.V12}, {"linux", "skinit", tpm.V20}, {"linux", "skinit", tpm.V12},
		{"xen", "txt", tpm.V20}, {"xen", "skinit", tpm.V12},
	} {
		t.Run(c.target+" "+c.platform+" "+c.version.String(), func(t *testing.T) {
			if out, err := exec.Command(drtmsim, "loader", "--platform", c.platform, loader).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			files := []string{"--loader", loader, "--target", c.target, "--kernel", kernel.Image, "--append", line, "--initrd", initrdFile}
			if c.target == "xen" {
				files = []string{"--loader", loader, "--target", c.target, "--kernel", xen, "--append", "console=vga", "--module", kernel.Image + " " + line, "--module", initrdFile}
			}
			// First the prediction ...
			args := append([]string{"predict", "--home", dir, "--simulated", c.platform, "--family", map[tpm.Version]string{tpm.V12: "1.2", tpm.V20: "2.0"}[c.version], "--banks", "sha1,sha256,sha384,sha512", "--json"}, files...)
			exit, out, stderr := capture(t, args)
			var p prediction
			if exit != aem.ExitOK || json.Unmarshal([]byte(out), &p) != nil {
				t.Fatalf("predict: exit %d, %s", exit, stderr)
			}
			// ... then the launch.
			report := bootAndReport(t, drtmsim, append(files, "--platform", c.platform), c.version, testbed.Config{
				Kernel: kernel.Image, Initrd: initrdFile, Append: line,
			})
			if report.Launch != drtm.Verified.String() {
				t.Errorf("the guest says of its launch: %s, %s", report.Launch, report.Reason)
			}
			compared := 0
			for _, v := range report.Verdicts {
				compared++
				if want := p.PCRs[v.Bank][v.PCR]; want != v.TPM {
					t.Errorf("%s PCR %d: predicted %s, the TPM holds %s", v.Bank, v.PCR, want, v.TPM)
				}
			}
			if want := 2 * len(p.PCRs); compared == 0 || c.version == tpm.V12 && compared != want {
				t.Errorf("%d values were compared", compared)
			}
		})
	}
}

// bootAndReport boots a guest behind drtmsim and returns what aem log says in it.
func bootAndReport(t *testing.T, drtmsim string, files []string, v tpm.Version, c testbed.Config) *logReport {
	t.Helper()
	g, _ := bootBehind(t, drtmsim, files, v, c)
	return reported(t, g)
}

// reported is what aem log says in a guest.
func reported(t *testing.T, g *testbed.Guest) *logReport {
	t.Helper()
	said, err := g.Expect(t.Context(), `(?s)(\{"kind":.*?\})\s+GUEST exit`)
	if err != nil {
		t.Fatal(err)
	}
	var r logReport
	if err := json.Unmarshal([]byte(said[1]), &r); err != nil {
		t.Fatalf("%v: %.500s", err, said[1])
	}
	return &r
}

// bootBehind boots a guest behind drtmsim, and returns it with its TPM.
func bootBehind(t *testing.T, drtmsim string, files []string, v tpm.Version, c testbed.Config) (*testbed.Guest, *testbed.Emulator) {
	t.Helper()
	conn, emulator := testbed.NewTPM(t, v)
	conn.Close()
	return bootOn(t, drtmsim, files, emulator, c), emulator
}

// bootOn boots a guest behind drtmsim, over a TPM.
func bootOn(t *testing.T, drtmsim string, files []string, emulator *testbed.Emulator, c testbed.Config) *testbed.Guest {
	t.Helper()
	dir, err := os.MkdirTemp("", "aem-predict-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c.TPM, c.HandOver = filepath.Join(dir, "sim"), filepath.Join(dir, "handover")
	sim := exec.CommandContext(t.Context(), drtmsim, append(files, "--listen", c.TPM, "--swtpm", emulator.Socket(), "--handover", c.HandOver)...)
	testbed.StartSim(t, sim)
	return testbed.NewGuest(t, c)
}
