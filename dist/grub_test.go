package dist_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/bootentry"
)

func paths(list ...bootentry.Module) []string {
	var out []string
	for _, m := range list {
		out = append(out, m.Path)
	}
	return out
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

const linuxWords = "root=UUID=" + uuid + " ro cryptdevice=UUID=1:root net.ifnames=0 quiet"

var sinits = []string{"/6th_gen_i5_i7_sinit_79.bin", "/3rd_gen_i5_i7_SINIT_67.BIN"}

// On both vendors' machines and both firmwares, the entry launches the newest kernel
// with its initramfs and the words that the distribution's own entry has.
func TestLaunchOfLinux(t *testing.T) {
	for _, cpu := range []string{intel, amd} {
		for _, efi := range []bool{false, true} {
			t.Run(fmt.Sprintf("%.23q EFI %t", cpu, efi), func(t *testing.T) {
				m := newMachine(t, cpu, efi).typical()
				menu := m.menu(m.mkconfig(true))
				e := m.find(menu, "aem-launch-linux")
				same(t, "launch", true, e.Slaunch)
				same(t, "kernel", "/vmlinuz-6.1.0-37-amd64", e.Kernel.Path)
				same(t, "command line", "BOOT_IMAGE=/vmlinuz-6.1.0-37-amd64 "+linuxWords, e.Kernel.Line)
				same(t, "initrds", []string{"/intel-ucode.img", "/initrd.img-6.1.0-37-amd64"}, paths(e.Initrds...))
				want := sinits
				if cpu == amd {
					want = []string{"/skl.bin"}
				}
				same(t, "loaders", want, paths(e.SlaunchModules...))
				old := m.find(menu, "aem-launch-advanced>aem-launch-linux-6.1.0-9-amd64")
				same(t, "old kernel", []string{"/vmlinuz-6.1.0-9-amd64", "/initrd.img-6.1.0-9-amd64"}, paths(old.Kernel, old.Initrds[1]))

				// The distribution's entry of the same kernel loads the same, without a launch.
				d := m.find(menu, "default")
				same(t, "default launch", false, d.Slaunch)
				same(t, "the default's line", d.Kernel.Line, e.Kernel.Line)
				same(t, "the default's initrds", paths(d.Initrds...), paths(e.Initrds...))
			})
		}
	}
}

func TestLaunchOfXenByBIOS(t *testing.T) {
	m := newMachine(t, intel, false).typical()
	menu := m.menu(m.mkconfig(true))
	e := m.find(menu, "aem-launch-xen")
	same(t, "kind", bootentry.Multiboot2, e.Kind)
	same(t, "launch", true, e.Slaunch)
	same(t, "Xen", "/xen-4.17-amd64.gz", e.Kernel.Path)
	same(t, "Xen's words", "placeholder dom0_mem=2G,max:2G", e.Kernel.Line)
	same(t, "modules", []string{"/vmlinuz-6.1.0-37-amd64", "/initrd.img-6.1.0-37-amd64"}, paths(e.Modules...))
	same(t, "Linux' words", "placeholder "+linuxWords, e.Modules[0].Line)
	same(t, "loaders", sinits, paths(e.SlaunchModules...))
	d := m.find(menu, "xen-gnulinux-simple-"+uuid)
	same(t, "as the distribution starts Xen", []string{d.Kernel.Line, d.Modules[0].Line}, []string{e.Kernel.Line, e.Modules[0].Line})
	m.find(menu, "aem-launch-advanced>aem-launch-xen-4.17-amd64-6.1.0-9-amd64")
}

// GRUB launches nothing that it starts by Multiboot 2 from EFI, so there Xen is
// started as the EFI program that it is, where it has a configuration.
func TestLaunchOfXenByEFI(t *testing.T) {
	m := newMachine(t, amd, true).typical()
	menu := m.menu(m.mkconfig(true))
	if _, err := menu.Find("aem-launch-xen"); err == nil {
		t.Error("without Xen on the EFI system partition there is an entry for it")
	}
	m.file("boot/efi/EFI/qubes/xen-4.17.efi", "xen")
	m.file("boot/efi/EFI/qubes/xen-4.17.cfg", "[global]\n")
	m.file("boot/efi/EFI/other/xen.efi", "no configuration beside it")
	menu = m.menu(m.mkconfig(true))
	e := m.find(menu, "aem-launch-xen")
	same(t, "kind", bootentry.Chainloader, e.Kind)
	same(t, "launch", true, e.Slaunch)
	same(t, "Xen", []any{"/EFI/qubes/xen-4.17.efi", 1}, []any{e.Kernel.Path, e.Kernel.Filesystem})
	same(t, "loaders", []any{"/skl.bin", 0}, []any{e.SlaunchModules[0].Path, e.SlaunchModules[0].Filesystem})
	if _, err := menu.Find("aem-launch-advanced>aem-launch-xen-xen.efi"); err == nil {
		t.Error("a Xen without a configuration has an entry")
	}
}

// The script installed but not switched on, grub-mkconfig writes what it would write
// without it, to the byte: but for the two lines with which it names each script.
func TestNothingChangesWhereAEMIsNotInstalled(t *testing.T) {
	m := newMachine(t, intel, false).typical()
	m.remove("etc/aem/grub.conf")
	without, with := m.mkconfig(false), m.mkconfig(true)
	if !strings.Contains(without, "menuentry 'Debian GNU/Linux'") || !strings.Contains(without, "multiboot2") {
		t.Fatalf("the distribution's scripts made no entries:\n%s", without)
	}
	name := m.root + "/etc/grub.d/90_aem_launch"
	same(t, "grub.cfg", without+"\n### BEGIN "+name+" ###\n### END "+name+" ###\n", with)
	if out, why := m.script(); out+why != "" {
		t.Errorf("it says %q, %q", out, why)
	}
}

// Switched on, no entry that was there changes its number, and the default stays.
func TestTheDefaultStays(t *testing.T) {
	m := newMachine(t, intel, false).typical()
	before, after := m.menu(m.mkconfig(false)), m.menu(m.mkconfig(true))
	if len(after.Entries) <= len(before.Entries) {
		t.Fatalf("%d entries before, %d after", len(before.Entries), len(after.Entries))
	}
	for i, e := range before.Entries {
		same(t, "entry", []string{e.Number, e.Title, e.ID}, []string{after.Entries[i].Number, after.Entries[i].Title, after.Entries[i].ID})
	}
	same(t, "default", m.find(before, "default").Number, m.find(after, "default").Number)

	m.file("etc/default/grub", "GRUB_DEFAULT=aem-launch-linux\n")
	e := m.find(m.menu(m.mkconfig(true)), "default")
	same(t, "a default that the owner chose", "aem-launch-linux", e.ID)
}

// Where a launch can't be, there is no entry, and it is said why.
func TestNoEntryAndWhy(t *testing.T) {
	for _, test := range []struct {
		name, why string
		change    func(m *machine)
	}{
		{"another vendor", "CentaurHauls", func(m *machine) { m.file("proc/cpuinfo", "vendor_id\t: CentaurHauls\nflags\t\t: smx\n") }},
		{"no TXT", "no smx", func(m *machine) { m.file("proc/cpuinfo", "vendor_id\t: GenuineIntel\nflags\t\t: smxx vmx\n") }},
		{"no slaunch", "no module slaunch in", func(m *machine) { m.remove("boot/grub/i386-pc/slaunch.mod") }},
		{"no loader", "no Secure Kernel Loader", func(m *machine) { m.file("proc/cpuinfo", amd); m.remove("boot/skl.bin") }},
		{"no kernel that can", "nothing in", func(m *machine) {
			for _, v := range []string{"6.1.0-9-amd64", "6.1.0-37-amd64"} {
				m.file("boot/config-"+v, "# CONFIG_SECURE_LAUNCH is not set\n")
			}
		}},
		{"no initramfs", "no initramfs", func(m *machine) {
			m.remove("boot/initrd.img-6.1.0-9-amd64")
			m.remove("boot/initrd.img-6.1.0-37-amd64")
		}},
		{"a command line with an open quote", "can't read the entry", func(m *machine) {
			m.file("etc/default/grub", `GRUB_CMDLINE_LINUX="it's"`+"\n")
		}},
		{"a settings file that no shell reads", "", func(m *machine) { m.file("etc/default/grub", "GRUB_X=\"") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t, intel, false).typical()
			if out, why := m.script(); !strings.Contains(out, "'aem-launch-linux'") {
				t.Fatalf("there is no entry to begin with: %s", why)
			}
			test.change(m)
			if out, why := m.script(); out != "" || !strings.Contains(why, test.why) || why == "" {
				t.Errorf("it says %q, and prints:\n%s", why, out)
			}
		})
	}
}

func TestWhatIsNoObstacle(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(m *machine)
	}{
		{"slaunch is built in", func(m *machine) {
			m.remove("boot/grub/i386-pc/slaunch.mod")
			m.file("etc/aem/grub.conf", "AEM_GRUB_HAS_SLAUNCH=yes\n")
		}},
		{"Xen hides the processor", func(m *machine) {
			m.file("proc/cpuinfo", "vendor_id\t: GenuineIntel\nflags\t\t: fpu\n")
			m.file("sys/hypervisor/type", "xen\n")
		}},
		{"the firmware may have a SINIT module", func(m *machine) { m.remove("boot" + sinits[0]); m.remove("boot" + sinits[1]) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t, intel, false).typical()
			test.change(m)
			out, why := m.script()
			if !strings.Contains(out, "'aem-launch-linux'") {
				t.Errorf("there is no entry: %s", why)
			}
			m.check(out)
		})
	}
}

// Whoever can name files in /boot must not be able to write GRUB's menu with that.
func TestNoNameOfAFileIsExecuted(t *testing.T) {
	evil := []string{
		"a b", "it's", `say "x"`, "$(reboot)", "`reboot`", "$root", "x;halt", "x\nmenuentry evil { halt }\n", "{", "}", "x'\nhalt\n'", `back\slash`, "#", "x&&halt", "é", "*",
	}
	m := newMachine(t, intel, false).typical()
	clean, _ := m.script()
	efi := newMachine(t, intel, true).typical()
	cleanEFI, _ := efi.script()
	for _, e := range evil {
		for _, m := range []*machine{m, efi} {
			for _, name := range []string{
				"boot/vmlinuz-6.9" + e, "boot/initrd.img-6.9" + e, "boot/xen-" + e + ".gz", "boot/" + e + "SINIT.bin", "boot/config-6.9" + e,
				"boot/efi/EFI/" + e + "/xen.efi", "boot/efi/EFI/" + e + "/xen.cfg", "boot/efi/EFI/debian/xen" + e + ".efi", "boot/efi/EFI/debian/xen" + e + ".cfg",
			} {
				m.file(name, "CONFIG_SECURE_LAUNCH=y\nCONFIG_XEN_DOM0=y\n")
			}
		}
	}
	out, why := m.script()
	same(t, "the entries for a BIOS", clean, out)
	out, _ = efi.script()
	same(t, "the entries for EFI", cleanEFI, out)
	odd := func(c rune) bool { return c != '\n' && (c < ' ' || c > '~') }
	if !strings.Contains(why, "Passed over") || strings.ContainsFunc(why, odd) {
		t.Errorf("the owner is told %q", why)
	}
}

// The names that are no file's, of the system and its disk, are quoted.
func TestTheSystemsNameIsQuoted(t *testing.T) {
	m := newMachine(t, intel, false).typical()
	m.file("etc/default/grub", `GRUB_DISTRIBUTOR="Bob's \$root; halt #{"`+"\n")
	out, why := m.script()
	m.check(out)
	header := "function load_video { true; }\nmenuentry_id_option=--id\n"
	menu := m.menu(header + out)
	if len(menu.Entries) != 4 {
		t.Fatalf("%d entries; %s\n%s", len(menu.Entries), why, out)
	}
	same(t, "title", "AEM: Bob's $root; halt #{, with Linux 6.1.0-37-amd64", menu.Entries[0].Title)
}

func TestNoSubmenuWhereTheOwnerWantsNone(t *testing.T) {
	m := newMachine(t, intel, false).typical()
	m.file("etc/default/grub", "GRUB_DISABLE_SUBMENU=y\n")
	out, _ := m.script()
	if strings.Contains(out, "submenu") || strings.Count(out, "menuentry ") != 4 {
		t.Error(out)
	}
}

// Every way to read the file system of the root is the distribution's own.
func TestTheRootIsNamedAsTheDistributionNamesIt(t *testing.T) {
	for name, change := range map[string]func(m *machine){
		"no such UUID":    func(m *machine) { m.remove("dev/disk/by-uuid/" + uuid) },
		"UUIDs forbidden": func(m *machine) { m.file("etc/default/grub", "GRUB_DISABLE_LINUX_UUID=true\n") },
		"btrfs": func(m *machine) {
			b, err := os.ReadFile(filepath.Join(m.root, "probe"))
			m.must(err)
			m.program("probe", strings.ReplaceAll(string(b), "ext2", "btrfs"))
			m.program("relpath", `path=${1#`+m.root+`}; path=${path#/boot}; [ "$1" != / ] || path=/@root; printf '%s\n' "$path"`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, intel, false).typical()
			change(m)
			menu := m.menu(m.mkconfig(true))
			words := func(id string) map[string]bool {
				set := map[string]bool{}
				for _, w := range strings.Fields(m.find(menu, id).Kernel.Line) {
					set[w] = true
				}
				return set
			}
			same(t, "words", words("0"), words("aem-launch-linux"))
		})
	}
}
