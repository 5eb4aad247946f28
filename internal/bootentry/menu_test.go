package bootentry_test

import (
	"errors"
	"testing"

	"github.com/antievilmaid/aem/internal/bootentry"
)

const twoKernels = `
menuentry 'First > one' --id first { multiboot2 /k one }
submenu More --id more {
	menuentry Second --id second { multiboot2 /k two }
	menuentry "2" --id third { multiboot2 /k three }
}
menuentry Second { multiboot2 /k four }
`

func TestFind(t *testing.T) {
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{small(twoKernels)}})
	for name, want := range map[string]string{
		"0": "one", "First > one": "one", "First >> one": "one", "first": "one", "default": "one", "": "one",
		"1>0": "two", "More>Second": "two", "more>second": "two", "1>second": "two", "second": "two", "more>0": "two",
		"1>1": "three", "More>2": "three", "third": "three",
	} {
		e, err := m.Find(name)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		same(t, name, want, e.Kernel.Line)
	}
	for _, name := range []string{"Second", "1", "more", "3", "1>2>0", "First", "2", "More>More"} {
		if e, err := m.Find(name); !errors.Is(err, bootentry.ErrNoEntry) {
			t.Errorf("%q finds %v, %v", name, e, err)
		}
	}
}

// The two dialects differ in these.
func TestDefaultOfTheDialects(t *testing.T) {
	for _, test := range []struct{ deflt, upstream, redhat string }{
		{"1>0", "two", "one"},
		{"more>second", "two", "two"},
		{"More>1", "three", "three"},
		{"More>2", "two", "three"}, // upstream: the number 2, which the submenu does not have
		{"2", "four", "four"},
		{"2 x", "four", "one"},
		{"second", "one", "one"}, // only in the submenu
		{"Second", "four", "four"},
		{"First >> one", "one", "one"},
		{"Second x", "one", "one"},
		{"99", "one", "one"},
		{"-1", "one", "one"},
		{"99999999999999999999", "one", "one"},
	} {
		for dialect, want := range map[bootentry.Dialect]string{bootentry.Upstream: test.upstream, bootentry.RedHat: test.redhat} {
			f := boot(with(map[string]string{"grub2/grub.cfg": "set default='" + test.deflt + "'\n" + twoKernels}, "k"))
			o := bootentry.Options{Filesystems: []bootentry.Filesystem{f}, Dialect: dialect}
			m := read(t, o)
			if m.DefaultErr != nil {
				t.Fatal(m.DefaultErr)
			}
			same(t, test.deflt, want, m.Entries[m.Default].Kernel.Line)
			o.Dialect = bootentry.Unknown
			if m = read(t, o); (m.DefaultErr == nil) != (test.upstream == test.redhat) {
				t.Errorf("default=%q without a dialect: %v", test.deflt, m.DefaultErr)
			}
		}
	}
}

// Only exported variables are there in a submenu, and functions.
func TestContextOfASubmenu(t *testing.T) {
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{small(`
set a=1; set b=2; export b; set c=lost; set default=0
function f {
	multiboot2 /k "$a" $b $chosen "$c$default"
}
menuentry top { f }
submenu "x>y" { set a=3; menuentry below --id id { f } }
`)}})
	same(t, "top", "1 2 top lost", m.Entries[0].Kernel.Line)
	same(t, "below", "3 2 x>>y>id ", m.Entries[1].Kernel.Line)
}

// What one entry does, the next does not see.
func TestEntriesAreIndependent(t *testing.T) {
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{small(`
set a=1
menuentry x { a=2; slaunch; multiboot2 /k $a; module2 /m1 }
menuentry y { multiboot2 /k $a }
`)}})
	same(t, "second entry", "1", m.Entries[1].Kernel.Line)
	same(t, "launch", false, m.Entries[1].Slaunch)
	same(t, "modules", 0, len(m.Entries[1].Modules))
}

func TestWhatALaterCommandReplaces(t *testing.T) {
	for _, test := range []struct {
		name, body string
		kind       bootentry.Kind
		modules    int
		initrds    int
	}{
		{"new kernel", "multiboot2 /k; module2 /m1; multiboot2 /k2; module2 /m2", bootentry.Multiboot2, 1, 0},
		{"other protocol", "linux /k; initrd /i1 /i2; multiboot /k2", bootentry.Multiboot, 0, 0},
		{"new initrd", "linux /k; initrd /i1 /i2; initrd /i1", bootentry.Linux, 0, 1},
		{"after boot", "linux /k; boot; initrd /i1; frobnicate", bootentry.Linux, 0, 0},
		{"reboot", "linux /k; reboot", bootentry.Nothing, 0, 0},
		{"both ways of launching", "slaunch skinit; slaunch_module /sinit.bin; multiboot2 /k", bootentry.Multiboot2, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := entry(t, test.body)
			if e.Err != nil {
				t.Fatal(e.Err)
			}
			same(t, "kind", test.kind, e.Kind)
			same(t, "modules", test.modules, len(e.Modules))
			same(t, "initrds", test.initrds, len(e.Initrds))
		})
	}
}

// Entries that may be missing leave the default alone where it does not depend on them.
func TestDefaultAndEntriesThatMayBeMissing(t *testing.T) {
	for _, test := range []struct {
		deflt string
		known bool
	}{{"0", true}, {"1", false}, {"2", false}, {"first", true}, {"perhaps", false}, {"last", true}, {"none", true}} {
		m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{small("set default=" + test.deflt + `
menuentry first { multiboot2 /k }
if cpuid -l; then menuentry perhaps { multiboot2 /k }; fi
menuentry last { multiboot2 /k }
`)}})
		same(t, test.deflt, test.known, m.DefaultErr == nil)
		if test.deflt == "last" {
			same(t, "last", "last", m.Entries[m.Default].Title)
		}
	}
}

// Two entries made by one function are two, even where they look the same.
func TestEntriesOfOneFunctionThatMayBeMissing(t *testing.T) {
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{small(`
function f {
	menuentry same --id same $1 { multiboot2 /k $2 }
}
if cpuid -l; then f one; fi
f two
`)}})
	if m.DefaultErr == nil {
		t.Errorf("the default is told: %+v", m.Entries[m.Default])
	}
}

func TestASubmenuThatLoads(t *testing.T) {
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{small("submenu x { linux /k; menuentry y { linux /k } }\n")}})
	if len(m.Entries) != 1 {
		t.Fatalf("the menu has %d entries", len(m.Entries))
	}
	refused(t, m.Entries[0].Err, "loads something itself")
	same(t, "default", 0, m.Default)
}

func TestOtherConfigurations(t *testing.T) {
	for _, test := range []struct{ name, main, other, want string }{
		{"source", "set a=1; source /o.cfg; set b=$a", "set a=2\nset c=$config_file", "2"},
		{"dot", ". $prefix/../o.cfg", "", ""},
		{"directory", "source $config_directory/o.cfg; set b=$a", "set a=4", "4"},
		{"missing", "source /none; set b=5", "", "5"},
		{"entries of both", "source /o.cfg; set b=6", "if false; then menuentry x { true }; fi", "6"},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := with(map[string]string{"grub/grub.cfg": test.main + "\nmenuentry only { multiboot2 /k $b }\n", "o.cfg": test.other, "grub/o.cfg": test.other}, "k")
			m, err := bootentry.Read(bootentry.Options{Filesystems: []bootentry.Filesystem{boot(files)}})
			if test.name == "dot" {
				refused(t, err, "upwards")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			same(t, "line", test.want, m.Entries[0].Kernel.Line)
		})
	}
}

// On EFI a small configuration leads to the real one, whose menu takes its place.
func TestConfigfile(t *testing.T) {
	const uuid = "0c7d2c5c-2222-4222-8222-22222222boot"
	esp := boot(map[string]string{"EFI/debian/grub.cfg": "search.fs_uuid " + uuid + " root hd0,gpt2 \nset prefix=($root)'/grub'\nset lost=1\nconfigfile $prefix/grub.cfg\nmenuentry never { true }\n"})
	main := boot(with(map[string]string{"grub/grub.cfg": "menuentry only { multiboot2 /k x$lost }\n"}, "k"))
	main.UUID = uuid
	esp.UUID = "ABCD-0123"
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{esp, main}, Config: "/EFI/debian/grub.cfg", Platform: "efi"})
	if len(m.Entries) != 1 {
		t.Fatalf("the menu has %d entries", len(m.Entries))
	}
	e := m.Entries[0]
	if e.Err != nil {
		t.Fatal(e.Err)
	}
	same(t, "line", "x", e.Kernel.Line)
	same(t, "file system", 1, e.Kernel.Filesystem)
	same(t, "device", "fs-uuid "+uuid, e.Kernel.Device)
}

func TestEnvironmentBlock(t *testing.T) {
	for _, test := range []struct{ name, block, load, want string }{
		{"values", envBlock("a=1\nb=x y\n"), "load_env", `1 "x y"`},
		{"only some", envBlock("a=1\nb=2\n"), "load_env a", "1 "},
		{"escapes", envBlock("a=1\\\\2\nb=x\\\ny\n"), "load_env", "1\\\\2 x\ny"},
		{"other file", envBlock("a=1\n"), "load_env -f /grub/grubenv", "1 "},
		{"other file, long", envBlock("a=1\n"), "load_env --file=/grub/grubenv --skip-sig a", "1 "},
		{"no signature", "a=1\n####", "load_env", " "},
		{"too short", "# GRUB Environment Block\n", "load_env", " "},
		{"cut", "# GRUB Environment Block\na=1\nb=2", "load_env", "1 "},
		{"comments", envBlock("#b=2\na=1\n#\n"), "load_env", "1 "},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := boot(with(map[string]string{"grub/grubenv": test.block,
				"grub/grub.cfg": test.load + "\nmenuentry only { multiboot2 /k \"$a\" \"$b\" }\n"}, "k"))
			e := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{f}}).Entries[0]
			if e.Err != nil {
				t.Fatal(e.Err)
			}
			same(t, "line", test.want, e.Kernel.Line)
		})
	}
}

// What save_env writes is not modelled, so it must not be read back.
func TestEnvironmentBlockThatChanged(t *testing.T) {
	f := boot(map[string]string{"grub/grubenv": envBlock("a=1\n"), "grub/grub.cfg": "set a=2; save_env a; load_env\n"})
	_, err := bootentry.Read(bootentry.Options{Filesystems: []bootentry.Filesystem{f}})
	refused(t, err, "save_env")
}
