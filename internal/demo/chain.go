package main

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/stage1/config"
	"github.com/antievilmaid/aem/internal/stage1/image"
	"github.com/antievilmaid/aem/internal/testbed"
)

// chained is the story of a launch that goes on: the launched Linux holds stage 1, which
// starts Xen and dom0 from a disk, after it asked a policy. The evil maid tries each link.
var chained = tale{build: buildChain, story: []chapter{
	{
		title: "before stage 1 is installed", name: "1-first-boot", screen: `FIRST BOOT[\s\S]*nothing has been sealed`, exit: "0",
		outcome: "sealed to the chain, which never booted", act: sealOnFirstDay, cut: true,
		change: func(m *machine, p *parts) error {
			p.initrd = filepath.Join(m.dir, systemFile)
			return nil
		},
	},
	{
		title: "the chain's first boot", name: "2-proof", screen: shownProof, exit: "0",
		outcome: "the sentence appears, the boot goes on", act: enter,
	},
	{
		title: "one byte of stage 1 differs", name: "3-stage-1", screen: shownRefusal + `\* stage 1's initramfs`, exit: "4", cut: true,
		outcome: "refused: stage 1's initramfs changed", act: enter,
		change: func(m *machine, p *parts) error {
			p.initrd = filepath.Join(m.dir, "evil.img")
			b, err := os.ReadFile(m.good.initrd)
			if err != nil {
				return err
			}
			if b, err = repacked(b, "Type off or restart, and Enter", "type off or restart, and Enter"); err != nil {
				return err
			}
			return os.WriteFile(p.initrd, b, 0o644)
		},
	},
	{
		title: "one byte of Xen differs", name: "4-xen", screen: shownRefusal + `\* hypervisor\s`, exit: "4", cut: true,
		outcome: "refused: hypervisor changed", act: enter,
		change: onStartDisk("xen.gz", func(_ *machine, b []byte) ([]byte, error) {
			return repacked(b, "Scrubbing Free RAM in background", "Scrubbing free RAM in background")
		}),
	},
	{
		title: "another command line for Xen", name: "5-xen-line", screen: shownRefusal + `\* hypervisor's command line`, exit: "4", cut: true,
		outcome: "refused: hypervisor's command line changed", act: enter,
		change: onStartDisk(menuFile, func(_ *machine, b []byte) ([]byte, error) {
			return bytes.Replace(b, []byte("spec-ctrl="), []byte("iommu=no spec-ctrl="), 1), nil
		}),
	},
	{
		title: "one byte of dom0's kernel differs", name: "6-kernel", screen: shownRefusal + `\* dom0's kernel\s`, exit: "4", cut: true,
		outcome: "refused: dom0's kernel changed", act: enter,
		change: onStartDisk("vmlinuz", func(_ *machine, b []byte) ([]byte, error) {
			return changed(b, "No setup signature found", "no setup signature found")
		}),
	},
	{
		title: "another command line for dom0", name: "7-kernel-line", screen: shownRefusal + `\* dom0's kernel command line`, exit: "4", cut: true,
		outcome: "refused: dom0's kernel command line changed", act: enter,
		change: onStartDisk(menuFile, func(_ *machine, b []byte) ([]byte, error) {
			return bytes.Replace(b, []byte(" quiet"), []byte(" quiet init=/bin/sh"), 1), nil
		}),
	},
	{
		title: "one byte of dom0's initramfs differs", name: "8-initramfs", screen: shownRefusal + `\* dom0's initramfs`, exit: "4", cut: true,
		outcome: "refused: dom0's initramfs changed", act: enter,
		change: onStartDisk("initrd.img", func(m *machine, b []byte) ([]byte, error) {
			return repacked(b, "made by its owner", "mads by its owner")
		}),
	},
	{
		title: "a policy signed with another key", name: "9-policy", screen: shownRefusal + `\* launch policy's answer`, exit: "4", cut: true,
		outcome: "refused: launch policy's answer changed", act: enter,
		change: onStartDisk(policyFile, func(_ *machine, b []byte) ([]byte, error) { return resigned(b) }),
	},
	{
		title: "the original again", name: "10-proof-again", screen: shownProof, exit: "0",
		outcome: "the sentence appears", act: enter,
	},
}}

// systemFile is the system's own initramfs, which the launch starts until stage 1 does.
const systemFile = "without-stage1.img"

// menuFile is GRUB's menu, on the disk that stage 1 starts from.
const menuFile = "grub.cfg"

// menu names what stage 1 starts. Xen leaves the BIOS alone, because Linux has taken the
// disks from it; under emulation, dom0 needs an FPU that is not switched lazily.
const menu = `search --no-floppy --fs-uuid --set=root %s
menuentry 'Xen' {
	multiboot2 /xen.gz console=com1 com1=115200,8n1 loglvl=none guest_loglvl=none dom0_mem=640M,max:640M no-real-mode edd=off bootscrub=off spec-ctrl=eager-fpu
	module2 /vmlinuz guest.console=tty1 console=hvc0 panic=-1 quiet loglevel=1
	module2 /initrd.img
}
`

// buildChain makes the owner's key, stage 1, and the disk that it starts Xen from.
func buildChain(m *machine) error {
	m.guest = testbed.Config{Memory: 1536, Extra: []string{"-cpu", "max,-smap"}} // dom0 has no SMAP under emulation
	m.good.start, m.good.cmdline = filepath.Join(m.dir, "start.img"), cmdline
	key := newPolicyKey()
	defer clear(key)
	uuid, err := m.writeStartDisk(key)
	if err != nil {
		return err
	}
	program, err := testbed.Program("./cmd/aem")
	if err != nil {
		return err
	}
	modules, err := initramfs.ReadModules(m.kernel.Modules)
	if err != nil {
		return err
	}
	im, err := image.Build(image.Options{
		Config: config.Config{
			Mounts: []config.Mount{{Disk: "UUID=" + uuid, Folder: config.BootFolder}}, Entry: "default",
			// What is not approved is started and measured as such, so that dom0 can name the
			// link that differs.
			Policy: &config.Policy{File: config.BootFolder + "/" + policyFile, Oldest: 1, LaunchUnapproved: true},
		},
		PolicyKey: launch.PublicKeyFile(key.Public().(ed25519.PublicKey)),
		Program:   program, Modules: modules, Load: testbed.DiskModules(),
	})
	if err != nil {
		return fmt.Errorf("build stage 1: %w", err)
	}
	return os.WriteFile(m.good.initrd, im.Bytes, 0o644)
}

// writeStartDisk makes the disk with Xen, dom0 and a policy that approves of both, and
// returns its file system's UUID.
func (m *machine) writeStartDisk(key ed25519.PrivateKey) (uuid string, err error) {
	dir := filepath.Join(m.dir, "start")
	xenFile, err := testbed.FindXen()
	if err != nil {
		return "", err
	}
	xen, err := os.ReadFile(xenFile)
	if err != nil {
		return "", err
	}
	kernel, err := os.ReadFile(m.kernel.Image)
	if err != nil {
		return "", err
	}
	initrd, err := m.systemInitrd("made by its owner\n")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(m.dir, systemFile), initrd, 0o644); err != nil {
		return "", err
	}
	if initrd, err = packed(initrd); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(dir, "grub"), 0o755); err != nil {
		return "", err
	}
	for name, b := range map[string][]byte{"xen.gz": xen, "vmlinuz": kernel, "initrd.img": initrd, menuFile: nil, policyFile: nil} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return "", err
		}
	}
	if err := os.Symlink("../"+menuFile, filepath.Join(dir, "grub", menuFile)); err != nil {
		return "", err
	}
	if err := testbed.Ext4Image(m.good.start, 64, dir); err != nil {
		return "", err
	}
	if uuid, err = testbed.Ext4UUID(m.good.start); err != nil {
		return "", err
	}
	content := fmt.Appendf(nil, menu, uuid)
	if err := os.WriteFile(filepath.Join(dir, menuFile), content, 0o644); err != nil {
		return "", err
	}
	policy, err := signedPolicy(dir, uuid, key)
	if err != nil {
		return "", err
	}
	if err := testbed.WriteExt4(m.good.start, menuFile, content); err != nil {
		return "", err
	}
	return uuid, testbed.WriteExt4(m.good.start, policyFile, policy)
}

// onStartDisk is the evil maid's way to a file on the disk that stage 1 starts from.
func onStartDisk(name string, change func(*machine, []byte) ([]byte, error)) func(*machine, *parts) error {
	return func(m *machine, p *parts) error {
		p.start = filepath.Join(m.dir, "evil-start.img")
		disk, err := os.ReadFile(m.good.start)
		if err != nil {
			return err
		}
		if err := os.WriteFile(p.start, disk, 0o644); err != nil {
			return err
		}
		good, err := testbed.ReadExt4(p.start, name)
		if err != nil {
			return err
		}
		evil, err := change(m, good)
		if err != nil {
			return err
		}
		if bytes.Equal(good, evil) {
			return fmt.Errorf("%s was not changed", name)
		}
		return testbed.WriteExt4(p.start, name, evil)
	}
}

// repacked changes one byte in what is compressed with gzip.
func repacked(b []byte, from, to string) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	if plain, err = changed(plain, from, to); err != nil {
		return nil, err
	}
	return packed(plain)
}

func packed(b []byte) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		return nil, err
	}
	err := z.Close()
	return out.Bytes(), err
}
