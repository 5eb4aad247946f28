//go:build debian

package debian_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/debian"
)

func TestPartitions(t *testing.T) {
	disk := newDisk(t, debian.Variant{Initramfs: debian.InitramfsTools})
	file := filepath.Join(t.TempDir(), "partition")

	must(t, disk.Extract(debian.Root, file))
	b, err := os.ReadFile(file)
	must(t, err)
	if want := "LUKS\xba\xbe\x00\x02"; string(b[:8]) != want {
		t.Errorf("the root begins with %q", b[:8])
	}
	// The second header's place is the first one's size (LUKS2 on-disk format, clause 2.1).
	copy(b[24:], "a label\x00")
	must(t, os.WriteFile(file, b, 0o600))
	must(t, disk.Replace(debian.Root, file))
	again := file + " again, with a comma"
	must(t, disk.Extract(debian.Root, again))
	got, err := os.ReadFile(again)
	must(t, err)
	if !bytes.Equal(got, b) {
		t.Error("the root is not what was written there")
	}

	for _, p := range []debian.Partition{0, -1, debian.Home, 128, 129} {
		if err := disk.Extract(p, file); err == nil {
			t.Errorf("partition %d was read", p)
		}
	}
}

// Machines that branch off one another don't see each other's writes.
func TestOverlays(t *testing.T) {
	first := newDisk(t, debian.Variant{Initramfs: debian.InitramfsTools})
	must(t, first.WriteBoot("note", []byte("first")))
	must(t, os.WriteFile(first.Vars, []byte("variables"), 0o600))
	second, err := first.Overlay(t.TempDir())
	must(t, err)
	if got := booted(t, second, "note"); string(got) != "first" {
		t.Errorf("the second machine has %q", got)
	}
	if vars, err := os.ReadFile(second.Vars); err != nil || string(vars) != "variables" {
		t.Errorf("the second machine's variables are %q, %v", vars, err)
	}
	must(t, second.WriteBoot("note", []byte("second")))
	if got := booted(t, first, "note"); string(got) != "first" {
		t.Errorf("the first machine has %q", got)
	}
	if _, err := first.Overlay(filepath.Dir(second.Path)); err == nil {
		t.Error("a disk was overwritten")
	}
}

func TestNextBootFollowsGRUB(t *testing.T) {
	disk := newDisk(t, debian.Variant{Initramfs: debian.InitramfsTools})
	must(t, disk.WriteBoot("first", []byte("12345")))
	must(t, disk.WriteBoot("second", []byte("678")))
	must(t, disk.WriteBoot("grub/grub.cfg", []byte(`set default=other
menuentry one { linux /second; }
menuentry two --id other {
	if [ $grub_platform = efi ]; then fw=uefi; else fw=bios; fi
	linux /first root=/dev/vda4 firmware=$fw
	initrd /first /second
}
`)))
	for firmware, name := range map[debian.Firmware]string{debian.BIOS: "bios", debian.UEFI: "uefi"} {
		next, err := disk.NextBoot(firmware, t.TempDir())
		must(t, err)
		if want := "BOOT_IMAGE=/first root=/dev/vda4 firmware=" + name; next.Line != want {
			t.Errorf("the command line is %q", next.Line)
		}
		kernel, err := os.ReadFile(next.Kernel)
		must(t, err)
		initrd, err := os.ReadFile(next.Initrd)
		must(t, err)
		if string(kernel) != "12345" || string(initrd) != "12345\x00\x00\x00678" {
			t.Errorf("loaded are %q and %q", kernel, initrd)
		}
	}

	must(t, disk.WriteBoot("grub/grub.cfg", []byte("menuentry none { true; }\n")))
	if _, err := disk.NextBoot(debian.BIOS, t.TempDir()); err == nil || !strings.Contains(err.Error(), "no Linux kernel") {
		t.Errorf("of an entry that starts nothing: %v", err)
	}
}

func TestImpossibleStarts(t *testing.T) {
	disk := newDisk(t, debian.Variant{Initramfs: debian.InitramfsTools})
	for name, c := range map[string]debian.Config{
		"a launch without a TPM":     {Launch: &debian.Launch{Platform: drtm.TXT}},
		"a direct start of nothing":  {Direct: true},
		"a launch of what is absent": {TPM: 20, TPMDir: t.TempDir(), Launch: &debian.Launch{Platform: drtm.TXT}, Next: &debian.Next{Kernel: "absent", Initrd: "absent"}},
	} {
		if m, err := disk.Boot(c); err == nil {
			m.Kill()
			t.Errorf("%s was started", name)
		}
	}
}

func TestUnknownVariant(t *testing.T) {
	if _, err := debian.Build(t.Context(), debian.Variant{Initramfs: "booster"}); err == nil || !strings.Contains(err.Error(), "usage") {
		t.Errorf("%v", err)
	}
}
