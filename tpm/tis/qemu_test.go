package tis_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// guestReport is what internal/tisguest writes.
type guestReport struct {
	Path, PathAfter                           string
	Alg, Claimed, Locality0, Opened, Extended string
	Kind                                      string
	Before, Seen, After                       tpm.Digest
	Nodes                                     map[string]string
}

// After an emulated launch, a program in the guest extends PCR 17 at locality 2, which
// the kernel's driver can't; then the driver has the TPM again. QEMU's CRB
// has locality 0 alone: there the refusal must say so, and leave the driver its TPM.
func TestLocality2InQEMU(t *testing.T) {
	testbed.Need(t, "qemu-system-x86_64", "swtpm")
	for _, c := range []struct {
		name, device, kind, driver, refused string
		version                             tpm.Version
	}{
		{"TPM 2.0, FIFO", "tpm-tis", "FIFO", "tpm_tis", "", tpm.V20},
		{"TPM 1.2, FIFO", "tpm-tis", "FIFO", "tpm_tis", "", tpm.V12},
		{"TPM 2.0, CRB", "tpm-crb", "CRB", "tpm_crb", "locality 0 alone", tpm.V20},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := inGuest(t, c.version, c.device, "2")
			if !strings.Contains(r.Claimed, "a driver claims the TPM's registers: ") || !strings.Contains(r.Claimed, " has them by /proc/iomem") {
				t.Errorf("while the driver has it, the mapping says: %q", r.Claimed)
			}
			if r.Before.All(0xff) || len(r.Before) == 0 || r.Locality0 == "" {
				t.Fatalf("there was no launch: PCR 17 is %s, an extend at locality 0 says %q", r.Before, r.Locality0)
			}
			if r.Nodes[filepath.Base(strings.Replace(r.PathAfter, "tpmrm", "tpm", 1))] != c.driver {
				t.Errorf("afterwards %s is opened, and the kernel has %v", r.PathAfter, r.Nodes)
			}
			want := r.Before
			if c.refused != "" {
				if !strings.Contains(r.Opened, c.refused) {
					t.Errorf("opening it says %q", r.Opened)
				}
			} else {
				if r.Opened != "" || r.Extended != "" || r.Kind != c.kind {
					t.Fatalf("a %q; opening it says %q, extending %q", r.Kind, r.Opened, r.Extended)
				}
				want = extended(t, r)
				if !r.Seen.Equal(want) {
					t.Errorf("PCR 17 is %s, want %s", r.Seen, want)
				}
			}
			if !r.After.Equal(want) {
				t.Errorf("by the driver, PCR 17 is %s, want %s", r.After, want)
			}
		})
	}
	t.Run("TPM 2.0, CRB, locality 0", func(t *testing.T) {
		r := inGuest(t, tpm.V20, "tpm-crb", "0")
		if r.Opened != "" || r.Kind != "CRB" || !r.Seen.Equal(r.Before) || !r.After.Equal(r.Before) {
			t.Errorf("a %q; opening it says %q; PCR 17 was %s, is %s, and is %s by the driver", r.Kind, r.Opened, r.Before, r.Seen, r.After)
		}
		// The TPM itself refuses: the command came at the locality that was asked for.
		if !strings.Contains(r.Extended, "LOCALITY") {
			t.Errorf("an extend of PCR 17 at locality 0 says %q", r.Extended)
		}
	})
}

// extended is what PCR 17 must be after the guest's extend.
func extended(t *testing.T, r *guestReport) tpm.Digest {
	t.Helper()
	for _, a := range []tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512} {
		if a.String() == r.Alg {
			h := a.New()
			h.Write(r.Before)
			h.Write(bytes.Repeat([]byte{0x5a}, a.Size()))
			return h.Sum(nil)
		}
	}
	t.Fatalf("the guest's bank is %q", r.Alg)
	return nil
}

// inGuest boots a guest behind drtmsim and returns what tisguest reports in it.
func inGuest(t *testing.T, v tpm.Version, tpmDevice, locality string) *guestReport {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	kernel, err := testbed.FindKernel()
	must(err)
	dir, err := os.MkdirTemp("", "aem-tis-") // a socket's path must be short
	must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := func(name string, b []byte, err error) string {
		t.Helper()
		must(err)
		path := filepath.Join(dir, name)
		must(os.WriteFile(path, b, 0o700))
		return path
	}
	im := &testbed.Image{Load: testbed.DiskModules(), Steps: []testbed.Step{testbed.Run("/bin/tisguest", locality)}}
	must(im.Program("bin/tisguest", "./internal/tisguest"))
	b, err := im.Build(kernel)
	initrd := file("initrd", b, err)
	b, err = testbed.Program("./cmd/drtmsim")
	drtmsim := file("drtmsim", b, err)
	loader := filepath.Join(dir, "loader")
	if out, err := exec.CommandContext(t.Context(), drtmsim, "loader", "--platform", "txt", loader).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	conn, emulator := testbed.NewTPM(t, v)
	conn.Close()
	const line = "console=ttyS0 panic=-1 quiet"
	c := testbed.Config{
		Kernel: kernel.Image, Initrd: initrd, Append: line,
		TPM: filepath.Join(dir, "sim"), TPMDevice: tpmDevice, HandOver: filepath.Join(dir, "handover"),
	}
	sim := exec.CommandContext(t.Context(), drtmsim, "--platform", "txt", "--loader", loader, "--target", "linux", "--kernel", kernel.Image,
		"--append", line, "--initrd", initrd, "--listen", c.TPM, "--swtpm", emulator.Socket(), "--handover", c.HandOver)
	testbed.StartSim(t, sim)
	g := testbed.NewGuest(t, c)
	m, err := g.Expect(t.Context(), `(?s)(\{"Path":.*\}|tisguest:[^\n]*)\s+GUEST exit`)
	must(err)
	var r guestReport
	if err := json.Unmarshal([]byte(m[1]), &r); err != nil {
		t.Fatalf("%v: %.2000s", err, m[1])
	}
	return &r
}
