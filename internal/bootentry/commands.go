package bootentry

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// call is one command that runs.
type call struct {
	e     *evaluator
	s     *state
	at    place
	name  string
	args  []string
	loose int    // index into args, as in arguments
	wild  string // as in arguments
	block []node
}

func (c *call) refuse(format string, args ...any) error { return c.at.refuse(c.name, format, args...) }

// known refuses the call unless all its words are known.
func (c *call) known() error {
	for i, a := range c.args {
		if marked(a) {
			return c.refuse("its word %d is not known: %s", i+1, c.e.why(a))
		}
	}
	return nil
}

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

// run looks a name up as GRUB does: commands, then functions, then assignments.
func (c *call) run() (string, error) {
	if harmless[c.name] {
		return success, nil
	}
	if harmlessIfItWorks[c.name] {
		return c.e.unknown(fmt.Sprintf("whether %q succeeds depends on the machine", c.name)), nil
	}
	if c.wild != "" {
		return "", c.refuse("%.40q stands for the names of files, if any match", c.wild)
	}
	if run := c.builtin(); run != nil {
		return run()
	}
	if f := c.s.funcs[c.name]; f != nil && !refused[c.name] {
		return c.callFunction(f)
	}
	if name, value, ok := strings.Cut(c.name, "="); ok && !refused[c.name] {
		if name == "" || special(name) {
			return success, nil // GRUB prints an error and goes on
		}
		return success, c.s.set(c.at, name, value)
	}
	// Red Hat's blscfg makes entries that call these whether or not they are there.
	if c.name == "load_video" || c.name == "savedefault" {
		return success, nil
	}
	return "", c.refuse("this command is not known here")
}

func (c *call) setCommand() (string, error) {
	if len(c.args) == 0 {
		return success, nil
	}
	name, value, ok := strings.Cut(c.args[0], "=")
	if marked(name) {
		return "", c.refuse("the variable's name is not known: %s", c.e.why(name))
	}
	if !ok {
		return failure, nil
	}
	return success, c.s.set(c.at, name, value)
}

func (c *call) unsetCommand() (string, error) {
	if len(c.args) == 0 {
		return failure, nil
	}
	if marked(c.args[0]) {
		return "", c.refuse("the variable's name is not known: %s", c.e.why(c.args[0]))
	}
	c.s.unset(c.args[0])
	return success, nil
}

func (c *call) exportCommand() (string, error) {
	if len(c.args) == 0 {
		return failure, nil
	}
	if err := c.known(); err != nil {
		return "", err
	}
	for _, name := range c.args {
		if err := c.s.export(c.at, name); err != nil {
			return "", err
		}
	}
	return success, nil
}

// increment is Red Hat's command for counting boots (commands/increment.c).
func (c *call) increment() (string, error) {
	if err := c.known(); err != nil {
		return "", err
	}
	if len(c.args) != 1 {
		return failure, nil
	}
	old, ok := c.s.vars[c.args[0]]
	if !ok {
		return failure, nil
	}
	if marked(old.value) {
		return success, nil // unknown before, unknown after
	}
	n, err := strconv.ParseInt(old.value, 10, 32)
	if err != nil {
		return "", c.refuse("%.40q is no number", old.value)
	}
	if c.name == "increment" {
		n++
	} else {
		n--
	}
	return success, c.s.set(c.at, c.args[0], strconv.FormatInt(n, 10))
}

// count reads the one number that break, shift and return may have.
func (c *call) count() (int, error) {
	if len(c.args) == 0 {
		return 1, nil
	}
	if err := c.known(); err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(c.args[0])
	if len(c.args) > 1 || err != nil || n < 0 || n > 1000 {
		return 0, c.refuse("its words are not one small number")
	}
	return n, nil
}

func (c *call) breakCommand() (string, error) {
	n, err := c.count()
	if err != nil {
		return "", err
	}
	if n == 0 {
		return failure, nil
	}
	c.s.cont = c.name == "continue"
	c.s.breaks = min(n, c.s.loops)
	return success, nil
}

func (c *call) shift() (string, error) {
	n, err := c.count()
	if err != nil {
		return "", err
	}
	sc := c.s.scope
	if sc == nil {
		return success, nil
	}
	if n > len(sc.args) || sc.loose >= 0 && n > sc.loose {
		if sc.loose >= 0 {
			return "", c.refuse("how many words there are is not known")
		}
		return failure, nil
	}
	shifted := &scope{args: sc.args[n:], loose: sc.loose}
	if sc.loose >= 0 {
		shifted.loose -= n
	}
	c.s.scope = shifted
	return success, nil
}

func (c *call) setparams() (string, error) {
	if c.s.scope == nil {
		return failure, nil
	}
	c.s.scope = &scope{c.args, c.loose}
	return success, nil
}

// returnCommand leaves a function. Elsewhere GRUB takes it too, and then runs the
// first command of each line that follows, which nobody can have meant.
func (c *call) returnCommand() (string, error) {
	if c.s.calls == 0 {
		return "", c.refuse("it stands outside a function")
	}
	status := c.s.status
	if len(c.args) > 0 {
		n, err := c.count()
		if err != nil {
			return "", err
		}
		status = strconv.Itoa(n)
	}
	c.s.returning = true
	return status, nil
}

// eval runs its words as a script.
func (c *call) eval() (string, error) {
	if err := c.known(); err != nil {
		return "", err
	}
	return c.e.source(c.s, c.at, strings.Join(c.args, " "))
}

// source parses and runs text that GRUB holds in memory.
func (e *evaluator) source(s *state, at place, text string) (string, error) {
	if err := e.spend(at, 1+len(text)/16); err != nil {
		return "", err
	}
	nodes, err := parse(newSourceLexer(at, text))
	if err != nil {
		return "", err
	}
	status := success
	for _, n := range nodes {
		if s.over {
			break
		}
		if status, err = e.list(s, []node{n}); err != nil {
			return "", err
		}
	}
	return status, nil
}

// open finds and reads a file that a command names.
func (c *call) open(p string, limit int64) (file, []byte, error) {
	f, err := c.e.resolve(c.s, p)
	if err != nil {
		return file{}, nil, c.refuse("%v", err)
	}
	b, err := c.e.read(f, limit)
	switch {
	case errors.Is(err, ErrTooLarge):
		return file{}, nil, &Error{File: c.at.file, Line: c.at.line, Command: c.name, Reason: err.Error(), Err: ErrTooLarge}
	case errors.Is(err, fs.ErrNotExist):
		return f, nil, err
	case err != nil:
		return file{}, nil, c.refuse("%v", err)
	}
	return f, b, nil
}

// hwmatch compares the machine's hardware with a list, and says so in $match.
func (c *call) hwmatch() (string, error) {
	v := c.e.unknown("hwmatch looks at the machine's hardware")
	return v, c.s.set(c.at, "match", v)
}

// setsUnknown is for commands that put what they find into a variable.
func (c *call) setsUnknown() (string, error) {
	if err := c.known(); err != nil {
		return "", err
	}
	v := c.e.unknown(fmt.Sprintf("%q asks the machine", c.name))
	for i, a := range c.args {
		name, ok := strings.CutPrefix(a, "--set=")
		if !ok && (a == "--set" || a == "-s") && c.name == "probe" || a == "--set" {
			if i+1 == len(c.args) {
				return "", c.refuse("the option %s lacks its value", a)
			}
			name, ok = c.args[i+1], true
		}
		if ok {
			if err := c.s.set(c.at, name, v); err != nil {
				return "", err
			}
		}
	}
	return v, nil
}
