package main

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/internal/stage1/config"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// The whole chain into Linux, of which a policy approves; and a policy that does not.
func TestChainToLinuxInQEMU(t *testing.T) {
	chain(t, launch.Description{
		Kernel: launch.File{Path: "/target/vmlinuz", Line: "console=ttyS0 panic=-1 quiet no_timer_check real=yes"}, Initrd: &launch.File{Path: "/target/initrd"},
		Measure: launch.Measure{Files: []string{"/target/fact"}},
	}, testbed.Config{Memory: 1024}, true)
}

// The whole chain into Xen and its dom0, with a BIOS. What the last system prints goes to
// Xen's console: without Xen nothing would arrive.
func TestChainToXenInQEMU(t *testing.T) { chain(t, xen, xenMachine, false) }

// The same with UEFI, where Xen and dom0 find ACPI's tables only by what stage 1 leaves in
// low memory. Without them dom0 has no TPM, and nothing could be compared.
func TestChainToXenUnderUEFIInQEMU(t *testing.T) {
	machine := xenMachine
	machine.Extra = append(uefi(t), machine.Extra...)
	chain(t, xen, machine, false)
}

// Xen must not ask the BIOS about its disks: it would never come back, because Linux has taken
// them from it. Under emulation, dom0 needs an FPU that is not switched lazily, and no SMAP. Xen
// throws away what its console is too slow for, and a log is longer than the usual 16 KiB.
var (
	xen = launch.Description{
		Hypervisor: &launch.File{Path: "/target/xen.gz", Line: "console=com1 com1=115200,8n1 loglvl=none guest_loglvl=none dom0_mem=512M,max:512M spec-ctrl=eager-fpu no-real-mode edd=off serial_tx_buffer=256k"},
		Kernel:     launch.File{Path: "/target/vmlinuz", Line: "console=hvc0 panic=-1 quiet loglevel=1"}, Initrd: &launch.File{Path: "/target/initrd"},
	}
	xenMachine = testbed.Config{Memory: 1536, Extra: []string{"-cpu", "max,-smap"}}
)

// chain lets drtmsim launch a kernel with stage 1's initramfs, which finds on a disk what
// d describes, measures it at locality 2 and starts it. There aem log finds the log, which
// leads to what the TPM holds; and that is what aem predict said beforehand, of the launched
// files alone. A secret that was sealed to the prediction, on a machine that never booted
// this chain, then opens. With a policy
// on the disk, that has to approve, and in a last boot the same stage 1 finds one that
// does not.
func chain(t *testing.T, d launch.Description, guest testbed.Config, policed bool) {
	t.Helper()
	testbed.Need(t, "qemu-system-x86_64", "swtpm", "mke2fs")
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
	real := &testbed.Image{Load: testbed.DiskModules(), Steps: []testbed.Step{
		testbed.Run("/bin/aem", "log", "--json"),
		{Mount: []string{"/dev/vda", "/mnt", "ext4", "ro"}},
		testbed.Run("/bin/aem", "predict", "--good", "/aem/eventlog", "--kernel", "/mnt/vmlinuz", "--initrd", "/mnt/stage1.img", "--append", stageOneLine, "--json"),
		testbed.Run("/bin/aem", "unseal", "--plain", "--tty", "/dev/console", "--medium", "/dev/vdb", "--wait", "20s"),
	}}
	must(real.Program("bin/aem", "./cmd/aem"))
	real.Dir("tmp", 0o700)
	realInitrd, err := real.Build(kernel)
	must(err)

	content := map[string][]byte{"vmlinuz": vmlinuz, "initrd": realInitrd, "fact": []byte("a fact")}
	if d.Hypervisor != nil {
		path, err := testbed.FindXen()
		must(err)
		content["xen.gz"], err = os.ReadFile(path)
		must(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	here := file("root")
	must(os.MkdirAll(filepath.Join(here, "target"), 0o700))
	for name, b := range content {
		must(os.WriteFile(filepath.Join(here, "target", name), b, 0o600))
	}
	told, keyFile := config.Config{Mounts: []config.Mount{{Disk: "/dev/vda", Folder: "/target"}}}, []byte(nil)
	stage, err := stage1.Read(&d, stage1.Below(here))
	must(err)
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	approval := &drtm.Approval{Key: key.Public().(ed25519.PublicKey), Approved: true}
	policy := filepath.Join(here, "target", "launch.policy")
	approve := func(approved *drtm.Stage) {
		t.Helper()
		entry, err := launch.Approve("the real system", approved, tpm.SHA256)
		must(err)
		now := time.Now().UTC()
		p := launch.Policy{Version: 1, Issued: now.AddDate(0, 0, -1), Expires: now.AddDate(0, 0, 1), Hash: "sha256", Approved: []launch.Approved{entry}}
		b, err := p.Sign(key)
		must(err)
		must(os.WriteFile(policy, b, 0o600))
	}
	if policed {
		keyFile = launch.PublicKeyFile(approval.Key)
		told.Policy = &config.Policy{File: "/target/launch.policy", Oldest: 1}
	}
	initrd := stageOneImage(t, kernel, d, told, keyFile)
	must(os.WriteFile(file("initrd"), initrd, 0o600))
	must(os.WriteFile(filepath.Join(here, "target", "stage1.img"), initrd, 0o600))
	if policed {
		// The other disk first, so that the approving policy stays for the prediction.
		other := *stage
		other.Line += " init=/bin/sh"
		approve(&other)
		must(testbed.Ext4Image(file("other-disk"), 96, filepath.Join(here, "target")))
		approve(stage)
	}
	must(testbed.Ext4Image(file("disk"), 96, filepath.Join(here, "target")))

	b, err := testbed.Program("./cmd/drtmsim")
	must(err)
	must(os.WriteFile(file("drtmsim"), b, 0o700))

	for _, c := range []struct {
		platform, family string
		version          tpm.Version
		algs             []tpm.Alg
	}{
		{"txt", "2.0", tpm.V20, []tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512}}, {"skinit", "1.2", tpm.V12, []tpm.Alg{tpm.SHA1}},
	} {
		t.Run(c.platform+" "+c.version.String(), func(t *testing.T) {
			if out, err := exec.Command(file("drtmsim"), "loader", "--platform", c.platform, file("loader")).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			files := []string{"--loader", file("loader"), "--target", "linux", "--kernel", kernel.Image, "--append", stageOneLine, "--initrd", file("initrd")}
			home := file("home " + c.family)
			exit, out, stderr := capture(t, append([]string{"predict", "--home", home, "--simulated", c.platform, "--family", c.family,
				"--banks", "sha1,sha256,sha384,sha512", "--then-root", here, "--keep", "--json"}, files...))
			var p prediction
			if exit != aem.ExitOK || json.Unmarshal([]byte(out), &p) != nil {
				t.Fatalf("predict: exit %d, %s", exit, stderr)
			}
			files = append(files, "--platform", c.platform)
			guest.Kernel, guest.Initrd, guest.Append = kernel.Image, file("initrd"), stageOneLine
			guest.Drives = []testbed.Drive{{Path: file("disk"), ReadOnly: true}, {Path: file("medium " + c.family)}}
			emulator := sealedToPrediction(t, c.version, aem.OpenHome(home), file("medium "+c.family))
			g := bootOn(t, file("drtmsim"), files, emulator, guest)
			report := reported(t, g)
			if report.Launch != drtm.Verified.String() || report.Source != "aem launch, /aem/eventlog" {
				t.Errorf("the real system says of its launch: %s, %s; the log was found at %s", report.Launch, report.Reason, report.Source)
			}
			compared := map[string]bool{}
			for _, v := range report.Verdicts {
				if v.PCR != 17 && v.PCR != 18 {
					continue
				}
				compared[fmt.Sprint(v.Bank, v.PCR)] = true
				if want := p.PCRs[v.Bank][v.PCR]; want != v.TPM {
					t.Errorf("%s PCR %d: predicted %s, the TPM holds %s", v.Bank, v.PCR, want, v.TPM)
				}
			}
			// There the next boot is computed again, from this one's log and the mounted disk; it
			// is the same.
			said, err := g.Expect(t.Context(), `(?s)(\{"events":.*?\})\s+GUEST exit`)
			var again prediction
			if err != nil || json.Unmarshal([]byte(said[1]), &again) != nil {
				t.Fatalf("predicted in the last system: %v\n%s", err, g.Transcript())
			}
			for _, a := range c.algs {
				for _, r := range []uint32{17, 18} {
					if got, want := again.PCRs[a.String()][r], p.PCRs[a.String()][r]; got != want {
						t.Errorf("%s PCR %d: predicted in the last system is %s, it was %s", a, r, got, want)
					}
				}
			}
			if len(compared) != 2*len(c.algs) {
				t.Errorf("compared were %v", compared)
			}
			if shown, err := g.Expect(t.Context(), chainSecret+`|DID NOT PROVE ITSELF`); err != nil || shown[0] != chainSecret {
				t.Fatalf("what was sealed before the first boot: %q, %v\n%s", shown, err, g.Transcript())
			}
			if !policed || c.version != tpm.V20 {
				return
			}
			g.Kill()

			// A policy of another command line: the TPM then holds the launch, the key that
			// has to sign, and the cap.
			block, err := os.ReadFile(file("loader"))
			must(err)
			platform, err := drtm.ParsePlatform(c.platform)
			must(err)
			ms, err := drtm.LinuxLaunch{Platform: platform, Version: c.version, Algs: c.algs, Loader: block, Kernel: vmlinuz, Initrd: initrd, CommandLine: stageOneLine}.Measurements()
			must(err)
			want, err := drtm.Predict(c.algs, append(ms, approval.Measurements(c.algs)[0]))
			must(err)
			for i := range want {
				for _, p := range []tpm.PCR{17, 18} {
					must(want[i].Extend(p, want[i].Alg.Sum([]byte("aem launch: refused approval"))))
				}
			}
			guest.Drives = []testbed.Drive{{Path: file("other-disk"), ReadOnly: true}}
			g, emulator = bootBehind(t, file("drtmsim"), files, c.version, guest)
			if _, err := g.Expect(t.Context(), `not launched \(approval\): [^\n]*differs in: [^\n]*kernel command line; PCRs 17 and 18 were capped`); err != nil {
				t.Fatal(err)
			}
			g.Kill() // and not off: QEMU would tell the TPM, which then forgets its PCRs
			conn, err := emulator.Connect()
			must(err)
			defer conn.Close()
			chip, err := aem.NewChip(conn, c.version)
			must(err)
			got, err := chip.ReadPCRs(tpm.PCRSet(17, 18))
			must(err)
			for _, a := range c.algs {
				for _, r := range []tpm.PCR{17, 18} {
					if w, g := want.Value(a, r), got.Value(a, r); !w.Equal(g) {
						t.Errorf("refused, %s PCR %d: the files say %s, the TPM holds %s", a, r, w, g)
					}
				}
			}
		})
	}
}

// stageOneLine is the command line of the kernel that is launched.
const stageOneLine = "console=ttyS0 panic=-1 quiet no_timer_check"

// chainSecret is what nobody but the chain's last system may come to see.
const chainSecret = "the lighthouse is dark"

// sealedToPrediction is the TPM of a machine that never launched anything, whose owner
// sealed to what aem predict --keep computed. The medium is a disk's image.
func sealedToPrediction(t *testing.T, v tpm.Version, home aem.Home, medium string) *testbed.Emulator {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	conn, emulator := testbed.NewTPM(t, v)
	defer conn.Close()
	chip, err := aem.NewChip(conn, v)
	must(err)
	m := &aem.Machine{Chip: chip, Now: time.Now, Log: func() (*aem.LaunchLog, error) { return nil, nil }}
	folder := t.TempDir()
	_, err = m.Init(home, folder, nil)
	must(err)
	must(m.SetText(home, []byte(chainSecret)))
	boot, err := m.Boot()
	must(err)
	state, err := home.Predicted(boot, "the chain")
	must(err)
	_, err = m.Seal(home, []seal.State{*state}, nil)
	must(err)
	must(testbed.Ext4Image(medium, 16, folder))
	must(testbed.PowerOff(conn, v))
	return emulator
}
