package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/stage1/config"
	"github.com/antievilmaid/aem/internal/stage1/image"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// Stage 1 says all that stood in its way, runs nothing else, and ends by a typed word.
func TestStageOneRefusesInQEMU(t *testing.T) {
	testbed.Need(t, "qemu-system-x86_64", "swtpm")
	refusesWithoutALaunch(t, func(kernel, initrd []byte, line string) testbed.Config {
		dir := t.TempDir()
		c := testbed.Config{Kernel: filepath.Join(dir, "kernel"), Initrd: filepath.Join(dir, "initrd"), Append: line}
		for path, b := range map[string][]byte{c.Kernel: kernel, c.Initrd: initrd} {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return c
	})
}

// The same from a unified kernel image, which UEFI starts.
func TestUnifiedImageInQEMU(t *testing.T) {
	const stub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
	testbed.Need(t, "qemu-system-x86_64", "swtpm", stub)
	firmware := uefi(t)
	refusesWithoutALaunch(t, func(kernel, initrd []byte, line string) testbed.Config {
		dir := t.TempDir()
		must := func(b []byte, err error) []byte {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		unified := must(image.Unify(must(os.ReadFile(stub)), kernel, initrd, line))
		c := testbed.Config{Kernel: filepath.Join(dir, "stage1.efi"), Extra: firmware}
		must(nil, os.WriteFile(c.Kernel, unified, 0o600))
		return c
	})
}

// uefi are the options that give QEMU OVMF as its firmware, with variables of its own.
func uefi(t *testing.T) []string {
	t.Helper()
	const code, vars = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
	testbed.Need(t, code, vars)
	b, err := os.ReadFile(vars)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "vars")
	if err := os.WriteFile(own, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"-drive", "if=pflash,format=raw,readonly=on,file=" + code, "-drive", "if=pflash,format=raw,file=" + own}
}

func refusesWithoutALaunch(t *testing.T, machine func(kernel, initrd []byte, line string) testbed.Config) {
	t.Helper()
	kernel, err := testbed.FindKernel()
	if err != nil {
		t.Fatal(err)
	}
	vmlinuz, err := os.ReadFile(kernel.Image)
	if err != nil {
		t.Fatal(err)
	}
	d := launch.Description{Kernel: launch.File{Path: "/target/vmlinuz"}}
	initrd := stageOneImage(t, kernel, d, config.Config{Mounts: []config.Mount{{Disk: "/dev/vda", Folder: "/target"}}}, nil)
	conn, emulator := testbed.NewTPM(t, tpm.V20)
	conn.Close()
	c := machine(vmlinuz, initrd, "console=ttyS0 panic=-1 quiet no_timer_check sh init=/bin/sh")
	c.TPM = emulator.Socket()
	g := testbed.NewGuest(t, c)
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
func stageOneImage(t *testing.T, kernel testbed.Kernel, d launch.Description, c config.Config, key []byte) []byte {
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
	im, err := image.Build(image.Options{Config: c, Program: program, Description: description, PolicyKey: key, Modules: modules, Load: testbed.DiskModules()})
	if err != nil {
		t.Fatal(err)
	}
	return im.Bytes
}
