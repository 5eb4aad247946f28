package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/stage1/image"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// Stage 1 says all that stood in its way, runs nothing else, and ends by a typed word.
func TestStageOneRefusesInQEMU(t *testing.T) {
	testbed.Need(t, "qemu-system-x86_64", "swtpm")
	kernel, err := testbed.FindKernel()
	if err != nil {
		t.Fatal(err)
	}
	d := launch.Description{Kernel: launch.File{Path: "/target/vmlinuz"}}
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(initrd, stageOneImage(t, kernel, d, image.Config{Mounts: []image.Mount{{Disk: "/dev/vda", Folder: "/target"}}}), 0o600); err != nil {
		t.Fatal(err)
	}
	conn, emulator := testbed.NewTPM(t, tpm.V20)
	conn.Close()
	g := testbed.NewGuest(t, testbed.Config{Kernel: kernel.Image, Initrd: initrd, Append: "console=ttyS0 panic=-1 quiet sh init=/bin/sh", TPM: emulator.Socket()})
	for _, step := range []struct{ expect, answer string }{
		{`will not be in this boot:\s+the next stage was not launched .check.: .*no dynamic launch[\s\S]*Type off or restart`, "sh\r"},
		{`off or restart:`, "off\r"},
	} {
		if _, err := g.Expect(t.Context(), step.expect); err != nil {
			t.Fatal(err)
		}
		if err := g.Type(step.answer); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// stageOneImage is what aem-setup stage1 build makes.
func stageOneImage(t *testing.T, kernel testbed.Kernel, d launch.Description, c image.Config) []byte {
	t.Helper()
	program, err := testbed.Program("./cmd/aem")
	if err != nil {
		t.Fatal(err)
	}
	modules, err := initramfs.ReadModules(kernel.Modules)
	if err != nil {
		t.Fatal(err)
	}
	description, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	im, err := image.Build(image.Options{Config: c, Program: program, Description: description, Modules: modules, Load: testbed.DiskModules()})
	if err != nil {
		t.Fatal(err)
	}
	return im.Bytes
}
