package bootentry

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Kind says by which of GRUB's protocols an entry starts what it loads.
type Kind byte

// The kinds of entries. Of the first nothing is loaded: the entry reboots, say.
const (
	Nothing Kind = iota
	Linux
	Multiboot  // version 1
	Multiboot2 // version 2
	Chainloader
)

func (k Kind) String() string {
	switch k {
	case Nothing:
		return "nothing"
	case Linux:
		return "linux"
	case Multiboot:
		return "multiboot"
	case Multiboot2:
		return "multiboot2"
	case Chainloader:
		return "chainloader"
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// An Entry is one entry of the menu, evaluated as GRUB would when it is chosen.
type Entry struct {
	Number string // its place in the menu, as GRUB_DEFAULT takes it: "0", or "1>2" in a submenu
	Title  string
	ID     string // the title again where the entry has no --id

	Submenus []Submenu // in which it lies, from the outermost

	// Err says why nothing can be predicted for this entry; what it loads is empty then.
	// A submenu that can't be evaluated is an entry with an Err too.
	Err error
	// Maybe says on what it depends whether the menu has this entry at all. Its number
	// and those of the entries after it may be lower. Empty: the menu has it.
	Maybe string

	Kind    Kind
	Command string // "linux", "linuxefi", "multiboot2", ...: GRUB's command for the kernel
	Kernel  Module // or Xen or tboot
	Modules []Module
	Initrds []Module // in memory one after the other, each but the last padded with zeros to 4 bytes

	// Slaunch: the entry asks for a dynamic launch (TrenchBoot's GRUB). SlaunchMode is
	// the word after the command, which older versions demand: "txt" or "skinit".
	Slaunch     bool
	SlaunchMode string
	// SlaunchModules are the SINIT modules or secure loaders in order, also those that
	// the entry offers only if the ones before did not fit. GRUB uses the one that fits
	// the machine.
	SlaunchModules []Module
}

// MakesLaunch reports whether the entry asks for a dynamic launch: itself, or by tboot.
func (e *Entry) MakesLaunch() bool {
	return e.Slaunch || strings.HasPrefix(path.Base(e.Kernel.Path), "tboot")
}

// A Submenu is one that leads to an entry.
type Submenu struct{ Title, ID string }

// A Module is one file that GRUB loads.
type Module struct {
	Path   string // as in the configuration, without the device
	Device string // how GRUB came to the file system: "fs-uuid ...", or empty for the one it started from
	File   string // on this machine; the path inside the file system where it has no folder
	Line   string // the command line exactly as GRUB passes it

	Filesystem int    // index into Options.Filesystems
	Name       string // for fs.FS
	Packed     bool   // GRUB takes the file as it is, also when it is compressed
}

// loaded is what an entry's commands have loaded so far.
type loaded struct {
	kind    Kind
	command string
	kernel  Module
	modules []Module
	initrds []Module
	slaunch bool
	mode    string
	skinits []Module // SINIT modules or secure loaders
}

func (l loaded) clone() loaded {
	l.modules, l.initrds, l.skinits = slices.Clone(l.modules), slices.Clone(l.initrds), slices.Clone(l.skinits)
	return l
}

func (l *loaded) differs(m *loaded) bool {
	return l.kind != m.kind || l.command != m.command || l.kernel != m.kernel || l.slaunch != m.slaunch || l.mode != m.mode ||
		!slices.Equal(l.modules, m.modules) || !slices.Equal(l.initrds, m.initrds) || !slices.Equal(l.skinits, m.skinits)
}

// offerAll takes over the modules that only the other way of a condition offers, after
// the same ones as here: of those the launch uses one, and its log tells which.
func (l *loaded) offerAll(m *loaded) {
	short, long := l, m
	if len(short.skinits) > len(long.skinits) {
		short, long = long, short
	}
	if slices.Equal(short.skinits, long.skinits[:len(short.skinits)]) {
		short.skinits = slices.Clone(long.skinits)
	}
}
