package bootentry_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/bootentry"
)

const debianFiles = "vmlinuz-6.1.0-37-amd64 initrd.img-6.1.0-37-amd64 intel-ucode.img xen-4.17-amd64.gz tboot.gz " +
	"3rd_gen_i5_i7_SINIT_67.BIN"

const bootUUID = "fs-uuid 1f0c9a53-1111-4111-8111-11111111boot"

func debian(t *testing.T, platform, grubenv string) *bootentry.Menu {
	t.Helper()
	files := with(map[string]string{"grub/grub.cfg": sample(t, "debian-xen.cfg")}, debianFiles)
	if grubenv != "" {
		files["grub/grubenv"] = envBlock(grubenv)
	}
	return read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{boot(files)}, Platform: platform, CPU: "x86_64"})
}

func envBlock(vars string) string {
	b := "# GRUB Environment Block\n" + vars
	for len(b) < 1024 {
		b += "#"
	}
	return b
}

// module is what the tests compare of a bootentry.Module.
type module struct{ Path, Device, Line string }

func modules(list ...bootentry.Module) []module {
	var out []module
	for _, m := range list {
		out = append(out, module{m.Path, m.Device, m.Line})
	}
	return out
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestDebianLinux(t *testing.T) {
	e, err := debian(t, "pc", "").Find("0")
	if err != nil {
		t.Fatal(err)
	}
	if e.Err != nil {
		t.Fatal(e.Err)
	}
	same(t, "kind", bootentry.Linux, e.Kind)
	same(t, "kernel", modules(e.Kernel), []module{{"/vmlinuz-6.1.0-37-amd64", bootUUID,
		`BOOT_IMAGE=/vmlinuz-6.1.0-37-amd64 root=/dev/mapper/vg-root ro quiet "dyndbg=file drivers/usb/* +p"`}})
	same(t, "initrds", modules(e.Initrds...), []module{{"/intel-ucode.img", bootUUID, ""}, {"/initrd.img-6.1.0-37-amd64", bootUUID, ""}})
	same(t, "launch", false, e.Slaunch)
}

func TestDebianXen(t *testing.T) {
	for platform, options := range map[string]string{"pc": "", "efi": " no-real-mode edd=off"} {
		t.Run(platform, func(t *testing.T) {
			e, err := debian(t, platform, "").Find("xen-gnulinux-simple-7c2e")
			if err != nil {
				t.Fatal(err)
			}
			if e.Err != nil {
				t.Fatal(e.Err)
			}
			same(t, "kind", bootentry.Multiboot2, e.Kind)
			same(t, "what is loaded", []module{
				{"/xen-4.17-amd64.gz", bootUUID, "placeholder dom0_mem=4G" + options},
				{"/vmlinuz-6.1.0-37-amd64", bootUUID, "placeholder root=/dev/mapper/vg-root ro quiet"},
				{"/initrd.img-6.1.0-37-amd64", bootUUID, ""},
			}, modules(append([]bootentry.Module{e.Kernel}, e.Modules...)...))
			same(t, "compressed modules", []bool{false, true}, []bool{e.Modules[0].Packed, e.Modules[1].Packed})
		})
	}
}

// Without the platform the Xen entries can't be told, and the others still can.
func TestDebianWithoutPlatform(t *testing.T) {
	m := debian(t, "", "")
	xen, err := m.Find("2")
	if err != nil {
		t.Fatal(err)
	}
	refused(t, xen.Err, "grub_platform")
	linux, err := m.Find("0")
	if err != nil {
		t.Fatal(err)
	}
	if linux.Err != nil {
		t.Error(linux.Err)
	}
}

func TestDebianMenu(t *testing.T) {
	type line struct{ Number, Title string }
	var got []line
	for _, e := range debian(t, "efi", "").Entries {
		got = append(got, line{e.Number, e.Title})
	}
	same(t, "menu", []line{
		{"0", "Debian GNU/Linux"},
		{"1>0", "Debian GNU/Linux, with Linux 6.1.0-37-amd64 (recovery mode)"},
		{"2", "Debian GNU/Linux, with Xen hypervisor"},
		{"3>0>0", "Debian GNU/Linux, with Xen 4.17-amd64 and Linux 6.1.0-37-amd64"},
		{"4", "UEFI Firmware Settings"},
	}, got)
}

// Whether the firmware has a menu is not known, so neither is that entry's being there.
func TestAnEntryThatMayBeMissing(t *testing.T) {
	e, err := debian(t, "efi", "").Find("uefi-firmware")
	if err != nil {
		t.Fatal(err)
	}
	if e.Maybe == "" {
		t.Error("the entry of the firmware's menu is taken for certain")
	}
	same(t, "kind", bootentry.Nothing, e.Kind)
	if m := debian(t, "efi", "saved_entry=uefi-firmware\n"); m.DefaultErr == nil {
		t.Error("an entry that may be missing is the default")
	}
}

func TestDebianDefault(t *testing.T) {
	for _, test := range []struct{ name, env, number string }{
		{"none", "", "0"},
		{"saved identifier", "saved_entry=xen-gnulinux-simple-7c2e\n", "2"},
		{"saved title", "saved_entry=Debian GNU/Linux, with Xen hypervisor\n", "2"},
		{"saved number", "saved_entry=2\n", "2"},
		{"saved number in submenu", "saved_entry=1>0\n", "1>0"},
		{"saved identifiers in submenus", "saved_entry=gnulinux-advanced-7c2e>gnulinux-6.1.0-37-amd64-recovery-7c2e\n", "1>0"},
		{"saved titles in submenus", "saved_entry=Advanced options for Debian GNU/Linux (with Xen hypervisor)>0>0\n", "3>0>0"},
		{"only the submenu", "saved_entry=3\n", "3>0>0"},
		{"no such entry", "saved_entry=windows\n", "0"},
		{"number too large", "saved_entry=17\n", "0"},
		{"once", "saved_entry=2\nnext_entry=1>0\n", "1>0"},
		{"before once", "saved_entry=0\nprev_saved_entry=2\n", "0"},
		{"digits at the start", "saved_entry=2nd\n", "2"},
		{"hexadecimal", "saved_entry=0x2\n", "2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := debian(t, "pc", test.env)
			e, err := m.Find("default")
			if err != nil {
				t.Fatal(err)
			}
			same(t, "default", test.number, e.Number)
		})
	}
}

func TestQubesWithTrenchBoot(t *testing.T) {
	files := with(map[string]string{"grub2/grub.cfg": sample(t, "qubes-aem.cfg"), "aem/tpms/x": ""},
		"xen-4.17.2.gz vmlinuz-6.1.62-1.qubes.fc37.x86_64 initramfs-6.1.62-1.qubes.fc37.x86_64.img SNB_IVB_SINIT_20190708_PW.bin skl.bin")
	o := bootentry.Options{Platform: "pc", Filesystems: []bootentry.Filesystem{boot(files)}}
	e, err := read(t, o).Find("default")
	if err != nil {
		t.Fatal(err)
	}
	if e.Err != nil {
		t.Fatal(e.Err)
	}
	same(t, "title", "AEM Qubes, with Xen hypervisor", e.Title)
	same(t, "launch", true, e.Slaunch)
	const uuid = "fs-uuid 8f4cabcd-0000-4000-8000-aaaaaaaaaaaa"
	same(t, "launch modules", []module{{"/SNB_IVB_SINIT_20190708_PW.bin", uuid, ""}, {"/skl.bin", uuid, ""}}, modules(e.SlaunchModules...))
	same(t, "what is loaded", []module{
		{"/xen-4.17.2.gz", uuid, "placeholder console=none dom0_mem=min:1024M dom0_mem=max:4096M ucode=scan smt=off " +
			"gnttab_max_frames=2048 gnttab_max_maptrack_frames=4096"},
		{"/vmlinuz-6.1.62-1.qubes.fc37.x86_64", uuid, "placeholder root=/dev/mapper/qubes_dom0-root ro rd.luks.uuid=luks-5b10 " +
			"plymouth.ignore-serial-consoles rhgb quiet aem.uuid=8f4cabcd-0000-4000-8000-aaaaaaaaaaaa rd.luks.key=/tmp/aem-keyfile rd.luks.crypttab=no"},
		{"/initramfs-6.1.62-1.qubes.fc37.x86_64.img", uuid, ""},
	}, modules(append([]bootentry.Module{e.Kernel}, e.Modules...)...))
	same(t, "assumed", []string{"the search for " + uuid + " finds the file system in which GRUB's configuration lies"}, read(t, o).Assumed)
}

// AEM's entries are in the menu only where the boot partition has the folder /aem.
func TestQubesWithoutAEM(t *testing.T) {
	files := with(map[string]string{"grub2/grub.cfg": sample(t, "qubes-aem.cfg")},
		"xen-4.17.2.gz vmlinuz-6.1.62-1.qubes.fc37.x86_64 initramfs-6.1.62-1.qubes.fc37.x86_64.img")
	m := read(t, bootentry.Options{Platform: "pc", Filesystems: []bootentry.Filesystem{boot(files)}})
	if len(m.Entries) != 1 || m.Entries[0].Title != "Qubes, with Xen hypervisor" {
		t.Fatalf("the menu is %+v", m.Entries)
	}
	same(t, "launch", false, m.Entries[0].Slaunch)
}

// Both of Qubes' entries have the same identifier.
func TestANameThatTwoEntriesHave(t *testing.T) {
	files := with(map[string]string{"grub2/grub.cfg": sample(t, "qubes-aem.cfg"), "aem/x": ""}, "")
	m := read(t, bootentry.Options{Platform: "pc", Filesystems: []bootentry.Filesystem{boot(files)}})
	if e, err := m.Find("xen-gnulinux-simple-/dev/mapper/qubes_dom0-root"); err == nil {
		t.Errorf("entry %s is found by a name that two entries have", e.Number)
	}
}

func TestTboot(t *testing.T) {
	files := with(map[string]string{"grub/grub.cfg": sample(t, "tboot.cfg")}, debianFiles)
	m := read(t, bootentry.Options{Platform: "pc", Filesystems: []bootentry.Filesystem{boot(files)}})
	e, err := m.Find("default")
	if err != nil {
		t.Fatal(err)
	}
	if e.Err != nil {
		t.Fatal(e.Err)
	}
	same(t, "version 2", []module{
		{"/tboot.gz", bootUUID, "logging=serial,memory serial=115200,8n1,0x3f8"},
		{"/vmlinuz-6.1.0-37-amd64", bootUUID, "root=/dev/mapper/vg-root ro intel_iommu=on noefi"},
		{"/initrd.img-6.1.0-37-amd64", bootUUID, ""},
		{"/3rd_gen_i5_i7_SINIT_67.BIN", bootUUID, ""},
	}, modules(append([]bootentry.Module{e.Kernel}, e.Modules...)...))
	old := m.Entries[1]
	same(t, "kind", bootentry.Multiboot, old.Kind)
	same(t, "version 1", []module{
		{"/tboot.gz", bootUUID, "placeholder logging=memory,serial"},
		{"/xen-4.17-amd64.gz", bootUUID, "placeholder dom0_mem=4G"},
		{"/vmlinuz-6.1.0-37-amd64", bootUUID, "placeholder root=/dev/mapper/vg-root ro"},
		{"/initrd.img-6.1.0-37-amd64", bootUUID, ""},
		{"/3rd_gen_i5_i7_SINIT_67.BIN", bootUUID, ""},
	}, modules(append([]bootentry.Module{old.Kernel}, old.Modules...)...))
}
