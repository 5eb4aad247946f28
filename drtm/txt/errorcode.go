package txt

import (
	"fmt"
	"strings"
)

// ErrorCode is TXT.ERRORCODE: why the last launch did not succeed. It survives a
// warm reset (SDG, appendix H).
type ErrorCode uint32

// success is what a module writes when it has succeeded.
const success = 0xc0000001

// OK reports whether the code tells of no error.
func (c ErrorCode) OK() bool { return c == 0 || c == success || c>>31 == 0 }

// Fields of a code from software.
func (c ErrorCode) minor() uint32  { return uint32(c) >> 16 & 0xfff }
func (c ErrorCode) major() uint32  { return uint32(c) >> 10 & 0x1f }
func (c ErrorCode) class() uint32  { return uint32(c) >> 4 & 0x3f }
func (c ErrorCode) module() uint32 { return uint32(c) & 0xf }

// String is the code in words.
func (c ErrorCode) String() string {
	text, _ := c.explain()
	return text
}

// Advice is what the owner can do, or empty.
func (c ErrorCode) Advice() string {
	_, advice := c.explain()
	return advice
}

func (c ErrorCode) explain() (text, advice string) {
	switch {
	case c == 0:
		return "no error", ""
	case c == success:
		return "the last launch succeeded", ""
	case c>>31 == 0:
		return fmt.Sprintf("%#x is not marked as valid", uint32(c)), ""
	case c&(1<<30) == 0:
		return c.cpu()
	case c&(1<<15) != 0:
		return c.environment()
	}
	return c.acm()
}

// cpuErrors are written by the CPU itself, before any module runs.
var cpuErrors = map[uint32][2]string{
	0x00: {"shutdown in the style of the CPUs before", ""},
	0x05: {"the SINIT module has a type that can't be launched", "put the right SINIT module into the boot entry"},
	0x06: {"the SINIT module is for another CPU", "get the SINIT module for this chipset from Intel"},
	0x07: {"the SINIT module's signature is wrong", "get the SINIT module for this chipset from Intel again; the file may be damaged"},
	0x08: {"the SINIT module's format is wrong", "get the SINIT module for this chipset from Intel again; the file may be damaged"},
	0x09: {"a snoop hit a modified line during the launch", ""},
	0x0a: {"an event arrived during the launch that must not", "switch the machine off and try again"},
	0x0b: {"the structure with which other cores join is wrong", "update the boot loader"},
	0x0c: {"a machine check during the launch", "look for faulty memory"},
	0x0d: {"virtual machines were active", "update the boot loader"},
	0x0e: {"the module in memory was damaged", "look for faulty memory"},
	0x0f: {"illegal voltage or bus ratio", "reset overclocking in the firmware's setup"},
	0x10: {"the module's SGX version is older than one that ran before", "get a newer SINIT module from Intel, and switch the power off in between"},
}

func (c ErrorCode) cpu() (text, advice string) {
	e, ok := cpuErrors[uint32(c)&0x7fff]
	if !ok {
		return fmt.Sprintf("the CPU stopped the launch: unknown code %#x", uint32(c)&0x7fff), ""
	}
	return "the CPU stopped the launch: " + e[0], e[1]
}

// environmentErrors are written by the launched kernel or hypervisor. From 0x17 on
// Xen and Linux number differently.
var environmentErrors = map[uint32]string{
	1: "unspecified error", 2: "the TPM could not be started", 3: "the launch's event log is not valid", 4: "the launch could not be logged",
	5: "a region straddles 4 GiB", 6: "a measurement could not be extended into the TPM", 7: "wrong number of variable MTRRs", 8: "wrong default memory type",
	9: "wrong base in an MTRR", 0xa: "wrong mask in an MTRR", 0xb: "wrong IA32_MISC_ENABLE", 0xc: "an interrupt on another core",
	0xd: "an integer overflow in a table", 0xe: "the TXT heap could not be walked", 0xf: "the TXT heap could not be mapped",
	0x10: "a region lies above 4 GiB", 0x11: "the DMAR table in the heap is not valid", 0x12: "the DMAR table has a wrong size",
	0x13: "the DMAR table could not be mapped", 0x14: "wrong base of the high protected region", 0x15: "wrong size of the high protected region",
	0x16: "wrong base of the low protected region",
}

var linuxErrors = map[uint32]string{
	0x17: "the kernel lies outside the protected region", 0x18: "the initramfs is too large", 0x21: "an event in the log is not valid",
	0x22: "the SLRT is not valid", 0x23: "the SLRT lacks an entry", 0x24: "the SLRT could not be mapped",
}

var xenErrors = map[uint32]string{0x17: "wrong size of the low protected region", 0x22: "an event in the log is not valid"}

func (c ErrorCode) environment() (text, advice string) {
	n := uint32(c) & 0xfff
	if s, ok := environmentErrors[n]; ok {
		return "the launched system stopped: " + s, ""
	}
	var readings []string
	if s, ok := linuxErrors[n]; ok {
		readings = append(readings, "if it was Linux: "+s)
	}
	if s, ok := xenErrors[n]; ok {
		readings = append(readings, "if it was Xen: "+s)
	}
	if readings == nil {
		readings = []string{fmt.Sprintf("unknown code %#x", n)}
	}
	return "the launched system stopped; " + strings.Join(readings, "; "), ""
}

// acmClasses name what a module was doing.
var acmClasses = map[uint32]string{
	1: "entry", 2: "MTRRs", 4: "TPM", 6: "launch control policy", 9: "TXT heap", 0xe: "DMA protection", 0xf: "kernel's MLE header",
	0x10: "kernel's page tables", 0x14: "event log",
}

// acmErrors are those that mean the same in all modules, by class and major code.
var acmErrors = map[[2]uint32][2]string{
	{1, 1}: {"it was not started by SENTER, or EDX was not zero", "update the boot loader"},
	{1, 3}: {"it does not fit the chipset's fuses", "get the SINIT module for this chipset from Intel"},
	{1, 9}: {"it was revoked", "get a newer SINIT module from Intel"},

	{2, 7}: {"an MTRR has an invalid mask", "update the firmware; the boot loader may set MTRRs that this CPU rejects"},

	{4, 1}:    {"the TPM returned an error", ""},
	{4, 5}:    {"the TPM is disabled", "enable the TPM in the firmware's setup"},
	{4, 6}:    {"the TPM is deactivated", "activate the TPM in the firmware's setup"},
	{4, 0xd}:  {"the TPM's interface is wrong", "switch between CRB and TIS in the firmware's setup, if it can"},
	{4, 0xe}:  {"it does not know this family of TPM", "get a newer SINIT module, or switch the TPM to the other family"},
	{4, 0xf}:  {"the TPM has more than three banks", "switch banks off with tpm2_pcrallocate"},
	{4, 0x10}: {"the TPM has no bank that it can use", "switch the SHA-256 bank on with tpm2_pcrallocate"},

	{6, 2}:   {"the policy wants a newer SINIT module", "get a newer SINIT module from Intel"},
	{6, 4}:   {"no element of the policy allows this launch", "delete the launch control policy from the TPM, or add this kernel to it"},
	{6, 5}:   {"the policy's automatic promotion failed", ""},
	{6, 6}:   {"the policy's fail-safe or firmware interface table", "update the firmware"},
	{6, 7}:   {"the owner's policy is damaged", "write the launch control policy anew"},
	{6, 8}:   {"the supplier's policy is damaged", "reset the TPM's TXT indices in the firmware's setup"},
	{6, 9}:   {"the policy forbids a module that is not for production", "get a production SINIT module from Intel"},
	{6, 0xa}: {"a supplier's policy is needed and absent", "the TPM was not provisioned for TXT; look for that in the firmware's setup"},

	{9, 1}: {"a table has a wrong size", "update the firmware"}, {9, 2}: {"a table has a version that it does not know", "update the boot loader, or use an older SINIT module"},
	{9, 3}: {"the low protected region is not aligned", "update the boot loader"}, {9, 4}: {"the high protected region is not aligned", "update the boot loader"},
	{9, 5}: {"the kernel lies above 4 GiB", "update the boot loader"}, {9, 6}: {"the kernel's capabilities are wrong", "update the boot loader"},
	{9, 7}: {"it is overfilled", "update the firmware"}, {9, 8}: {"an extended element is not supported", "update the boot loader"},
	{9, 9}: {"an extended element has a wrong size", "update the boot loader"}, {9, 0xa}: {"the extended elements have no end", "update the boot loader"},
	{9, 0xb}: {"the pointer to the event log is wrong", "update the boot loader"}, {9, 0xc}: {"the pointer to ACPI's tables is wrong", "update the boot loader"},

	{0xe, 1}: {"DMA remapping is on", "switch the IOMMU off before the launch: update the boot loader"},
	{0xe, 2}: {"wrong low protected region", "update the boot loader"}, {0xe, 3}: {"wrong high protected region", "update the boot loader"},

	{0xf, 1}: {"wrong linear address", "update the boot loader"}, {0xf, 2}: {"wrong identification", "this kernel or hypervisor can't be launched by TXT"},
	{0xf, 3}: {"wrong version", "update the SINIT module"}, {0xf, 4}: {"wrong first page", "update the boot loader"},
	{0xf, 5}: {"the size differs from the one that the loader gave", "update GRUB: versions before mid-2025 give a wrong size"},
	{0xf, 6}: {"wrong entry point", ""}, {0xf, 7}: {"no method to wake other cores in common", "update the SINIT module"},

	{0x10, 1}: {"they lie at a wrong place", "update the boot loader"}, {0x10, 2}: {"wrong order", "update the boot loader"}, {0x10, 3}: {"a page of 2 MiB", "update the boot loader"},
	{0x10, 4}: {"wrong order", "update the boot loader"}, {0x10, 5}: {"the hashed size is wrong", "update the boot loader"}, {0x10, 6}: {"the other cores' entry is wrong", "update the boot loader"},

	{0x14, 1}: {"wrong identification", "update the boot loader"}, {0x14, 2}: {"wrong version", "update the boot loader"}, {0x14, 3}: {"fields contradict each other", "update the boot loader"},
	{0x14, 4}: {"it is too small", "update the boot loader"}, {0x14, 5}: {"wrong version of records", "update the boot loader"},
}

func (c ErrorCode) acm() (text, advice string) {
	module := "SINIT module"
	if c.module() == 0 {
		module = "firmware's module"
	}
	class, ok := acmClasses[c.class()]
	if !ok {
		return fmt.Sprintf("the %s stopped: class %#x, error %#x, detail %#x", module, c.class(), c.major(), c.minor()),
			"look the code up in the error table that came with the SINIT module"
	}
	e, ok := acmErrors[[2]uint32{c.class(), c.major()}]
	switch {
	case c.class() == 2 && c.major() >= 1 && c.major() <= 6:
		e = [2]string{fmt.Sprintf("rule %d is broken", c.major()), "update the firmware; the boot loader may set MTRRs that this CPU rejects"}
	case !ok:
		e = [2]string{fmt.Sprintf("error %#x", c.major()), "look the code up in the error table that came with the SINIT module"}
	}
	text = fmt.Sprintf("the %s stopped at the %s: %s", module, class, e[0])
	if c.minor() != 0 {
		text += fmt.Sprintf(" (detail %#x)", c.minor())
	}
	return text, e[1]
}
