package drtm

import (
	"fmt"

	"github.com/antievilmaid/aem/drtm/txt"
	"github.com/antievilmaid/aem/tpm"
)

// Kind is what is launched.
type Kind uint8

// The kinds.
const (
	Linux  Kind = iota + 1 // a kernel with the secure launch built in
	Xen                    // by Multiboot 2
	XenEFI                 // xen.efi
	Tboot                  // which starts a kernel, or Xen, itself
)

var kindNames = map[Kind]string{Linux: "linux", Xen: "xen", XenEFI: "xen-efi", Tboot: "tboot"}

// String is the name that command lines use.
func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// ParseKind is the inverse of String.
func ParseKind(s string) (Kind, error) {
	for k, name := range kindNames {
		if name == s {
			return k, nil
		}
	}
	return 0, fmt.Errorf("%q can't be launched; there are linux, xen, xen-efi and tboot", s)
}

// Boot are the files and lines of a boot entry.
type Boot struct {
	Kind    Kind
	Loader  []byte // the SINIT module or the Secure Loader Block; nil for the one of the good launch
	Image   []byte // the kernel, Xen or tboot
	Line    string // its command line
	Initrd  []byte // of a Linux launch; nil without one
	Modules []Module
}

// Target is the launch of these files on a machine whose own part of the launch is
// that of the simulator.
func (b *Boot) Target(p Platform, v tpm.Version, algs []tpm.Alg) (Target, error) {
	switch b.Kind {
	case Linux:
		return LinuxLaunch{p, v, algs, b.Loader, b.Image, b.Initrd, b.Line}, nil
	case Xen, XenEFI:
		return XenLaunch{p, v, algs, b.Loader, b.Image, b.Line, b.Modules, b.Kind == XenEFI}, nil
	case Tboot:
		if p != TXT {
			return nil, fmt.Errorf("%w: tboot is for Intel TXT", ErrTarget)
		}
		return TbootLaunch{v, algs, b.Loader, b.Image, b.Modules}, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrTarget, b.Kind)
}

// Things are what a launch measures of a boot entry, for [Next]. before is the entry
// that the good launch booted, or nil where its files are not at hand. unpack, which
// may be nil, returns what is inside a compressed image, or nil.
func Things(before, after *Boot, unpack func([]byte) []byte) ([]Thing, error) {
	if after.Kind == Linux {
		if _, err := BootParams(after.Image); err != nil {
			return nil, err
		}
	}
	t := builder{before: before, after: after, unpack: unpack, known: before != nil}
	if before == nil {
		t.before = &Boot{Kind: after.Kind}
	}
	t.loader()
	t.image()
	switch after.Kind {
	case Linux:
		t.linux()
	case Xen:
		t.multiboot()
		t.modules(moduleRole)
	case XenEFI:
		t.add(RoleCommandLine, "Xen's command line", lines(t.before.Line, after.Line)...)
		t.modules(moduleRole)
		t.moduleLines()
	case Tboot:
		t.tboot()
	}
	return t.list, nil
}

type builder struct {
	before, after *Boot
	unpack        func([]byte) []byte
	known         bool
	list          []Thing
}

func (t *builder) add(r Role, name string, forms ...Form) {
	t.list = append(t.list, Thing{Role: r, Name: name, Forms: forms, Known: t.known})
}

// loader is what the CPU hashes; on TXT the good log shows which of the two.
func (t *builder) loader() {
	if t.after.Loader == nil { // nobody says that it changed
		t.list = append(t.list, Thing{Role: RoleLoader, Name: "loader", Unchanged: true})
		return
	}
	var forms []Form
	for _, f := range []struct {
		name string
		p    Platform
		v    tpm.Version
	}{{"", SKINIT, tpm.V20}, {"SINIT module", TXT, tpm.V20}, {"SINIT module, SHA-1", TXT, tpm.V12}} {
		before, _ := launchData(f.p, f.v, t.before.Loader)
		after, err := launchData(f.p, f.v, t.after.Loader)
		if err == nil {
			forms = append(forms, Form{Name: f.name, Before: before, After: after})
		}
	}
	t.add(RoleLoader, "loader", forms...)
}

// images are an image's forms: the file, what is inside it, and the parts of a
// kernel that a loader puts into memory.
func (t *builder) images(before, after []byte) []Form {
	forms := []Form{{Before: before, After: after}}
	part := func(name string, cut func([]byte) []byte) {
		if b, a := cut(before), cut(after); a != nil {
			forms = append(forms, Form{Name: name, Before: b, After: a})
		}
	}
	plain := func(b []byte) []byte {
		if t.unpack != nil {
			if inside := t.unpack(b); inside != nil {
				return inside
			}
		}
		return b
	}
	if t.unpack != nil {
		part("decompressed", t.unpack)
	}
	part("protected-mode part", protectedMode)
	part("measured part", func(b []byte) []byte { return measuredPart(plain(b)) })
	part("loaded image", func(b []byte) []byte { return loadedELF(plain(b)) })
	part("measured part of the loaded image", func(b []byte) []byte { return measuredPart(loadedELF(plain(b))) })
	return forms
}

func (t *builder) image() {
	role := map[Kind]Role{Linux: RoleKernel, Xen: RoleHypervisor, XenEFI: RoleHypervisor, Tboot: RoleTboot}[t.after.Kind]
	t.add(role, role.String(), t.images(t.before.Image, t.after.Image)...)
	// Only a launch by SKINIT logs it; a TXT launch's SINIT takes it from the header.
	t.optional(RoleEntryOffset, "entry point", Form{Before: entryOffset(t.before.Image), After: entryOffset(t.after.Image)})
}

// optional adds a thing that not every launch measures.
func (t *builder) optional(r Role, name string, forms ...Form) {
	t.add(r, name, forms...)
	t.list[len(t.list)-1].Optional = true
}

func (t *builder) linux() {
	before, _ := BootParams(t.before.Image)
	after, _ := BootParams(t.after.Image) // Things looked at it
	t.add(RoleBootParams, "boot parameters", Form{Before: before, After: after})
	t.add(RoleCommandLine, "command line", lines(t.before.Line, t.after.Line)...)
	if t.after.Initrd != nil {
		t.add(RoleInitrd, "initramfs", Form{Before: t.before.Initrd, After: t.after.Initrd})
	}
}

// lines are a command line's forms: some loaders measure the zero at its end.
func lines(before, after string) []Form {
	return []Form{
		{Before: []byte(before), After: []byte(after)},
		{Name: "with its zero", Before: append([]byte(before), 0), After: append([]byte(after), 0)},
	}
}

// Shape is what the information that Xen is started with depends on: all lines, and the
// sizes of the modules, by which they get their addresses. It is a digest in hexadecimal.
func (b *Boot) Shape() string {
	text := fmt.Sprintf("%s %q", b.Kind, b.Line)
	for _, m := range b.Modules {
		text += fmt.Sprintf(" %q %d", m.Line, len(m.Content))
	}
	return tpm.SHA256.Sum([]byte(text)).String()
}

// multiboot is the information that Xen is started with. A machine's holds its
// memory map, so only a simulated one can be computed; it stays as it is as long as
// no line and no module's size changes.
func (t *builder) multiboot() {
	same := t.known && t.before.Line == t.after.Line && len(t.before.Modules) == len(t.after.Modules)
	for i := range t.after.Modules {
		if same {
			b, a := &t.before.Modules[i], &t.after.Modules[i]
			same = b.Line == a.Line && len(b.Content) == len(a.Content)
		}
	}
	thing := Thing{Role: RoleBootInfo, Name: "multiboot information", Known: t.known, Unchanged: same, Optional: true}
	if t.known {
		thing.Forms = []Form{{
			Name: "simulated", Before: multibootInfo(t.before.Line, t.before.Modules), After: multibootInfo(t.after.Line, t.after.Modules),
		}}
	}
	t.list = append(t.list, thing)
}

// module is the one that stood at a position before, or an empty one.
func (b *Boot) module(i int) Module {
	if i < len(b.Modules) {
		return b.Modules[i]
	}
	return Module{}
}

func (t *builder) modules(role func(int) Role) {
	for i, m := range t.after.Modules {
		t.add(role(i), fmt.Sprintf("module %d", i+1), t.images(t.before.module(i).Content, m.Content)...)
	}
}

func (t *builder) moduleLines() {
	for i, m := range t.after.Modules {
		t.add(RoleModuleLine, fmt.Sprintf("command line of module %d", i+1), lines(t.before.module(i).Line, m.Line)...)
	}
}

func (t *builder) tboot() {
	for i, m := range t.after.Modules {
		b := t.before.module(i)
		t.add(moduleRole(i), fmt.Sprintf("module %d", i+1), Form{
			Name: "with its command line", Before: append([]byte(b.Line), b.Content...), After: append([]byte(m.Line), m.Content...),
			HashBefore: func(a tpm.Alg) []byte { return TbootContent(a, b) },
			HashAfter:  func(a tpm.Alg) []byte { return TbootContent(a, m) },
		})
	}
}

// protectedMode is the part of a bzImage behind its real-mode sectors.
func protectedMode(kernel []byte) []byte {
	const sector, defaultSectors = 512, 4
	if _, err := BootParams(kernel); err != nil {
		return nil
	}
	n := int(kernel[headerStart])
	if n == 0 {
		n = defaultSectors
	}
	if at := (n + 1) * sector; at < len(kernel) {
		return kernel[at:]
	}
	return nil
}

// measuredPart is what the MLE header says is measured, of the protected-mode part
// of a kernel or of an image itself.
func measuredPart(image []byte) []byte {
	m, err := txt.FindMLE(image)
	if err != nil || m.End <= m.Start {
		return nil
	}
	if part := protectedMode(image); part != nil {
		image = part
	}
	if uint64(m.End) > uint64(len(image)) {
		return nil
	}
	return image[m.Start:m.End]
}
