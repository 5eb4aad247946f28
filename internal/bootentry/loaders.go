package bootentry

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
)

// maxLinuxLine is how long a command line may be for Linux on x86 before GRUB drops
// the words that do not fit. The limit stands in the kernel (cmdline_size in its
// setup header, 2047 since 2.6.28) and linuxefi takes one byte less than linux.
const maxLinuxLine = 2046

// loader finds a command that loads something or ends an entry.
func (c *call) loader() func() (string, error) {
	switch c.name {
	case "linux", "linuxefi", "linux16":
		return c.linux
	case "initrd", "initrdefi", "initrd16":
		return c.initrd
	case "multiboot", "multiboot2":
		return c.multiboot
	case "module", "module2":
		return c.module
	case "chainloader":
		return c.chainloader
	case "slaunch":
		return c.slaunch
	case "slaunch_module":
		return c.slaunchModule
	case "boot":
		return c.bootCommand
	case "reboot", "halt", "exit":
		return c.leaveGRUB
	case "fwsetup":
		return c.fwsetup
	}
	return nil
}

// load checks that a loader runs inside an entry and finds the file that the first
// of its words names.
func (c *call) load(args []string) (Module, error) {
	if !c.s.inEntry {
		return Module{}, c.refuse("it stands outside a menu entry")
	}
	if len(args) == 0 {
		return Module{}, c.refuse("it names no file")
	}
	f, err := c.e.resolve(c.s, args[0])
	if err != nil {
		return Module{}, c.refuse("%v", err)
	}
	fsys := c.e.fs[f.device.fs]
	info, err := fs.Stat(fsys.files, f.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Module{}, &Error{File: c.at.file, Line: c.at.line, Command: c.name, Reason: "there is no file " + f.path, Err: fs.ErrNotExist}
	case err != nil:
		return Module{}, c.refuse("%v", err)
	case !info.Mode().IsRegular():
		return Module{}, c.refuse("%.80q is not a regular file", f.path)
	}
	m := Module{Path: f.path, Device: f.device.name, File: f.name, Filesystem: f.device.fs, Name: f.name}
	if fsys.Dir != "" {
		m.File = filepath.Join(fsys.Dir, filepath.FromSlash(f.name))
	}
	return m, c.e.write(c.at, 2*len(f.path))
}

// linux loads a kernel. The file's name, with the device if the configuration has
// one, is the first word of the command line: BOOT_IMAGE=/vmlinuz root=...
func (c *call) linux() (string, error) {
	m, err := c.load(c.args)
	if err != nil {
		return "", err
	}
	line, err := c.commandLine(c.args)
	if err != nil {
		return "", err
	}
	if m.Line = "BOOT_IMAGE=" + line; len(m.Line) > maxLinuxLine {
		return "", c.refuse("the command line has %d bytes, of which GRUB drops what the kernel does not take", len(m.Line))
	}
	c.start(Linux, m)
	return success, nil
}

// start notes a kernel. What was loaded before it for another one is forgotten.
func (c *call) start(k Kind, m Module) {
	b := &c.s.boot
	b.kind, b.command, b.kernel, b.modules, b.initrds = k, c.name, m, nil, nil
}

// initrd loads one or more files into one run of memory (loader/linux.c).
func (c *call) initrd() (string, error) {
	b := &c.s.boot
	if b.kind != Linux || strings.TrimPrefix(b.command, "linux") != strings.TrimPrefix(c.name, "initrd") {
		return "", c.refuse("no kernel is loaded by the command that it belongs to")
	}
	b.initrds = nil
	for i, a := range c.args {
		if strings.HasPrefix(a, "newc:") {
			return "", c.refuse("files that GRUB itself puts into an archive (newc:) are not modelled")
		}
		m, err := c.load(c.args[i : i+1])
		if err != nil {
			return "", err
		}
		m.Packed = true
		b.initrds = append(b.initrds, m)
	}
	if len(c.args) == 0 {
		return "", c.refuse("it names no file")
	}
	return success, nil
}

// multiboot loads Xen, tboot or another kernel. The command line holds the words
// after the file's name, for version 1 as for version 2.
func (c *call) multiboot() (string, error) {
	args := c.args
	kind := Multiboot2
	if c.name == "multiboot" {
		kind = Multiboot
		for len(args) > 0 && (args[0] == "--quirk-bad-kludge" || args[0] == "--quirk-modules-after-kernel") {
			args = args[1:]
		}
	}
	m, err := c.load(args)
	if err != nil {
		return "", err
	}
	if m.Line, err = c.commandLine(args[1:]); err != nil {
		return "", err
	}
	c.start(kind, m)
	return success, nil
}

func (c *call) module() (string, error) {
	b := &c.s.boot
	if b.kind != Multiboot && b.kind != Multiboot2 || strings.TrimPrefix(b.command, "multiboot") != strings.TrimPrefix(c.name, "module") {
		return "", c.refuse("no kernel is loaded by the command that it belongs to")
	}
	args := c.args
	packed := len(args) > 0 && args[0] == "--nounzip"
	if packed {
		args = args[1:]
	}
	m, err := c.load(args)
	if err != nil {
		return "", err
	}
	m.Packed = packed
	if m.Line, err = c.commandLine(args[1:]); err != nil {
		return "", err
	}
	b.modules = append(b.modules, m)
	return success, nil
}

// chainloader starts an EFI program. Its load options are the words after the file's
// name joined by spaces, with no quoting, in UTF-16 (loader/efi/chainloader.c).
func (c *call) chainloader() (string, error) {
	if c.e.opts.Platform == "pc" {
		return "", c.refuse("starting another boot loader's sectors is not modelled")
	}
	m, err := c.load(c.args)
	if err != nil {
		return "", err
	}
	if m.Line, err = c.named(strings.Join(c.args[1:], " ")); err != nil {
		return "", err
	}
	for i := range len(m.Line) {
		if m.Line[i] >= 0x80 {
			return "", c.refuse("its words are not plain ASCII, and versions of GRUB differ in what they make of that")
		}
	}
	c.start(Chainloader, m)
	return success, c.e.write(c.at, len(m.Line))
}

// slaunch asks for a dynamic launch. On a machine that can't do one the command
// fails and the entry goes on without: a prediction is for one that can.
func (c *call) slaunch() (string, error) {
	b := &c.s.boot
	switch {
	case !c.s.inEntry:
		return "", c.refuse("it stands outside a menu entry")
	case c.known() != nil:
		return "", c.known()
	case len(c.args) > 1 || len(c.args) == 1 && c.args[0] != "txt" && c.args[0] != "skinit":
		return "", c.refuse("its words are not known here")
	case b.kind != Nothing:
		return "", c.refuse("it comes after the kernel, which then is not prepared for a launch")
	}
	b.slaunch, b.mode = true, strings.Join(c.args, "")
	return success, nil
}

// slaunchModule offers a module to the launch. Whether the module fits the machine
// is not known from here, so the command's status isn't either: a configuration may
// offer the next one only where this one was refused.
func (c *call) slaunchModule() (string, error) {
	if len(c.args) > 1 {
		return "", c.refuse("it names more than one file")
	}
	if !c.s.boot.slaunch {
		return "", c.refuse("slaunch did not come before it")
	}
	m, err := c.load(c.args)
	if err != nil {
		return "", err
	}
	c.s.boot.skinits = append(c.s.boot.skinits, m)
	return c.e.unknown("whether a launch module fits this machine"), nil
}

// bootCommand boots at once: nothing after it runs.
func (c *call) bootCommand() (string, error) {
	if !c.s.inEntry || c.s.boot.kind == Nothing {
		return "", c.refuse("nothing is loaded")
	}
	c.s.over = true
	return success, nil
}

// leaveGRUB is for commands that end in the firmware. What was loaded is not started.
func (c *call) leaveGRUB() (string, error) {
	if !c.s.inEntry {
		return "", c.refuse("it stands outside a menu entry")
	}
	c.s.boot, c.s.over = loaded{}, true
	return success, nil
}

// fwsetup enters the firmware's menu, or only asks whether there is one.
func (c *call) fwsetup() (string, error) {
	if len(c.args) > 0 && c.args[0] == "--is-supported" {
		return c.e.unknown("whether the firmware has a menu that GRUB can ask for"), nil
	}
	return c.leaveGRUB()
}
