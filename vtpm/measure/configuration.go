package measure

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/antievilmaid/aem/vtpm"
)

// Configuration is what a guest's xl.cfg(5) says of how the guest starts.
type Configuration struct {
	Name string
	Type string // "pv" or "pvh"
	// Kernel and Ramdisk are paths; Ramdisk is empty where there is none.
	Kernel, Ramdisk string
	CommandLine     string // as xl makes it of cmdline, or of root and extra
	VTPMs           []vtpm.UUID

	raw             []byte
	kernel, ramdisk token
	loader          []setting // by which libxl asks us, in place of a boot loader
}

// maxLinePV is how long the command line of a PV guest may be: libxenguest cuts it off
// without a word where Xen's page for it ends (MAX_GUEST_CMDLINE, with a zero byte), and then
// the line that was measured would not be the line that was started.
const maxLinePV = 1023

// unmeasurable are the parameters by which something else is started than kernel and
// ramdisk, and what that is.
var unmeasurable = map[string]string{
	"bootloader":        "the boot loader takes the kernel out of the guest's disk while the guest is built",
	"bootloader_args":   "the boot loader takes the kernel out of the guest's disk while the guest is built",
	"firmware":          "the guest's firmware loads the kernel",
	"firmware_override": "the guest's firmware loads the kernel",
	"acpi_firmware":     "the guest gets tables from one more file",
	"smbios_firmware":   "the guest gets tables from one more file",
	"device_tree":       "the guest gets tables from one more file",
	"pvshim":            "Xen's shim starts before the kernel",
	"pvshim_path":       "Xen's shim starts before the kernel",
	"pvshim_cmdline":    "Xen's shim starts before the kernel",
	"builder":           `it is obsolete; write type="pv" or type="pvh"`,
	"pvh":               `it is obsolete; write type="pvh"`,
}

// ParseConfiguration reads a configuration with Xen's grammar, and gives a meaning to the few
// parameters that say how the guest starts. What can't be read, or would start something
// that can't be measured, is a [*ConfigurationError].
//
// With our own boot loader, the program vtpm-bootloader, a guest starts with what its kernel= and ramdisk= say.
// Nobody measured what another one takes out of the guest's disk.
func ParseConfiguration(b []byte) (*Configuration, error) {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		// A program in C may take this for the file's end.
		return nil, &ConfigurationError{1 + bytes.Count(b[:i], []byte{'\n'}), "there is a zero byte"}
	}
	s, settings, err := parseSettings(b)
	if err != nil {
		return nil, err
	}
	c := &Configuration{raw: bytes.Clone(b)}
	r := settingReader{s: s, settings: settings}
	c.Name, _ = r.text("name")
	c.Type, _ = r.text("type")
	c.Kernel, c.kernel = r.text("kernel")
	c.Ramdisk, c.ramdisk = r.text("ramdisk")
	c.CommandLine = r.commandLine()
	c.VTPMs = r.vtpms()
	c.loader = r.loader()
	for _, set := range settings {
		ours := slices.ContainsFunc(c.loader, func(l setting) bool { return l.name == set.name })
		if why := unmeasurable[set.name]; why != "" && !ours {
			r.fail(set.line, "what a guest with %s= starts with can't be measured: %s", set.name, why)
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return c, nil
}

// check refuses what could not be started as it was measured.
func (c *Configuration) check() error {
	end := 1 + bytes.Count(c.raw, []byte{'\n'})
	switch c.Type {
	case "":
		c.Type = "pv" // as xl has it
	case "pv", "pvh":
	default:
		return fmt.Errorf("what a guest with type=%q starts with can't be measured here: its firmware loads the kernel", c.Type)
	}
	switch {
	case c.Name == "":
		return &ConfigurationError{end, "the guest has no name="}
	case c.Kernel == "":
		return &ConfigurationError{end, "there is no kernel=, so there is nothing to measure before the guest starts"}
	case !strings.HasPrefix(c.Kernel, "/"):
		return &ConfigurationError{c.kernel.line, "kernel= is not an absolute path; what another one leads to depends on who starts the guest"}
	case c.Ramdisk != "" && !strings.HasPrefix(c.Ramdisk, "/"):
		return &ConfigurationError{c.ramdisk.line, "ramdisk= is not an absolute path; what another one leads to depends on who starts the guest"}
	case c.Ramdisk == "" && c.ramdisk.kind != tokenEnd:
		return &ConfigurationError{c.ramdisk.line, "ramdisk= is empty; leave it out"}
	case c.Type == "pv" && len(c.CommandLine) > maxLinePV:
		return fmt.Errorf("the command line has %d bytes, and Xen cuts that of a PV guest off after %d", len(c.CommandLine), maxLinePV)
	}
	return nil
}

// With is the configuration for xl: the owner's, byte for byte, but for the values of kernel=
// and ramdisk=, in whose places stand the paths of what was measured, and for our boot loader, which is not asked
// any more. The paths are not measured themselves: PCR 1 is for what the owner wrote, and can recompute.
func (c *Configuration) With(kernel, ramdisk string) ([]byte, error) {
	if (ramdisk == "") != (c.Ramdisk == "") {
		return nil, fmt.Errorf("the configuration's ramdisk is %q, and %q was to take its place", c.Ramdisk, ramdisk)
	}
	for _, path := range []string{kernel, ramdisk} {
		if strings.Trim(path, "/."+lower+digits) != "" || path == "" && ramdisk != "" {
			return nil, fmt.Errorf("%q is not the path of a file in memory", path)
		}
	}
	type change struct {
		from, to int
		text     string
	}
	changes := []change{{c.kernel.from, c.kernel.to, `"` + kernel + `"`}}
	if ramdisk != "" {
		changes = append(changes, change{c.ramdisk.from, c.ramdisk.to, `"` + ramdisk + `"`})
	}
	for _, set := range c.loader {
		// What xl finds fault with shall have the line that it has in the owner's file.
		lines := bytes.Count(c.raw[set.from:set.to], []byte{'\n'})
		changes = append(changes, change{set.from, set.to, strings.Repeat("\n", lines)})
	}
	slices.SortFunc(changes, func(a, b change) int { return a.from - b.from })
	var out []byte
	at := 0
	for _, ch := range changes {
		out = append(append(out, c.raw[at:ch.from]...), ch.text...)
		at = ch.to
	}
	return append(out, c.raw[at:]...), nil
}
