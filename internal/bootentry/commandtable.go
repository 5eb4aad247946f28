package bootentry

import "strings"

// Commands that load nothing and set no variable that matters. Of the first it is
// known that they succeed.
var (
	harmless = words("clear echo insmod keymap list_env ls lscoreboot lsfonts lsmmap lsmod lsacpi lspci " +
		"help history save_default slaunch_state true usb videoinfo vbeinfo terminfo")
	harmlessIfItWorks = words("authenticate background_color background_image cat cpuid cryptomount date " +
		"gptsync hello keystatus loadfont nativedisk outb outl outw password password_pbkdf2 play rmmod " +
		"sendkey serial sleep terminal_input terminal_output videotest vbetest")
)

// builtin finds a command that is modelled. A name that is neither here nor in one
// of the tables is refused, unless it is a function's.
func (c *call) builtin() func() (string, error) {
	switch c.name {
	case "[", "test":
		return c.test
	case "false":
		return func() (string, error) { return untrue, nil }
	case "set":
		return c.setCommand
	case "unset":
		return c.unsetCommand
	case "export":
		return c.exportCommand
	case "increment", "decrement":
		return c.increment
	case "break", "continue":
		return c.breakCommand
	case "shift":
		return c.shift
	case "setparams":
		return c.setparams
	case "return":
		return c.returnCommand
	case "eval":
		return c.eval
	case "source", ".":
		return c.source
	case "configfile":
		return c.configfile
	case "normal":
		return c.normal
	case "load_env":
		return c.loadEnv
	case "save_env":
		return c.saveEnv
	case "search":
		return c.search
	case "search.file", "search.fs_label", "search.fs_uuid":
		return c.searchOne
	case "hwmatch":
		return c.hwmatch
	case "probe", "smbios":
		return c.setsUnknown
	case "menuentry", "submenu":
		return c.menuentry
	case "blscfg", "bls_import":
		return c.blscfg
	}
	return c.loader()
}

// refused are commands of GRUB's that change what runs in ways that are not
// modelled, or that exist only where neither TXT nor SKINIT does. They are listed
// so that a function of that name is noticed: GRUB would never call it.
var refused = words("acpi appleloader badram cmosset cutmem devicetree drivemap efiemu_loadcore efiemu_prepare " +
	"extract_entries_configfile extract_entries_source extract_legacy_entries_configfile extract_legacy_entries_source " +
	"extract_syslinux_entries_configfile extract_syslinux_entries_source freedos hashsum kfreebsd kfreebsd_loadenv " +
	"kfreebsd_module kfreebsd_module_elf knetbsd knetbsd_module knetbsd_module_elf kopenbsd kopenbsd_ramdisk " +
	"legacy_configfile legacy_initrd legacy_initrd_nounzip legacy_kernel legacy_source loopback net_bootp net_dhcp " +
	"normal_exit ntldr parttool plan9 pxechainloader rdmsr read regexp setpci shim_lock syslinux_configfile " +
	"syslinux_source tr truecrypt trust uki verify_detached write_byte write_dword write_word wrmsr xen_hypervisor " +
	"xen_initrd xen_linux xen_module xen_xsm xnu_kernel xnu_kernel64 xnu_kext xnu_kextdir xnu_mkext xnu_ramdisk zfskey")

// isCommand tells whether GRUB takes a name for a command's before it looks for a
// function of that name.
func isCommand(name string) bool {
	return name == "!" || harmless[name] || harmlessIfItWorks[name] || refused[name] || (&call{name: name}).builtin() != nil
}

func words(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}
