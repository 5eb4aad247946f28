package bootentry_test

import (
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/bootentry"
)

// The lines are those that GRUB 2.06 (Debian) passed for the same words: a kernel that prints
// what it was given was started by it in QEMU.
func TestCommandLineOfMultiboot2(t *testing.T) {
	e := configured(t, `
set xargs="dom0_mem=2G loglvl=all"
menuentry only {
	set rm="no-real-mode edd=off"
	multiboot2 /k placeholder ${xargs} "${rm}" $rm a\"b 'c d\' "e'f" "" g\\h "i \"j\" k" '\x20' tab"	"x $nothing end
	module2 --nounzip /m1 placeholder root=UUID=1-2 ro "two words" it\'s
	module2 /m1
	module2 /m2 "/boot/m1 again"
}
`)
	if e.Err != nil {
		t.Fatal(e.Err)
	}
	same(t, "command lines", []string{
		`placeholder dom0_mem=2G loglvl=all "no-real-mode edd=off" no-real-mode edd=off a\"b "c d\\" e\'f  g\\h "i \"j\" k" \\x20 tab` + "\tx end",
		`placeholder root=UUID=1-2 ro "two words" it\'s`,
		``,
		`"/boot/m1 again"`,
	}, []string{e.Kernel.Line, e.Modules[0].Line, e.Modules[1].Line, e.Modules[2].Line})
}

// As above, with Linux in the kernel's place.
func TestCommandLineOfLinux(t *testing.T) {
	got := line(t, `menuentry only {
	linux /k console=ttyS0 panic=-1 "a b" it\'s "q\"r" b\\s '\x20' ""
	}`)
	same(t, "command line", `BOOT_IMAGE=/k console=ttyS0 panic=-1 "a b" it\'s q\"r b\\s \\x20 `, got)
}

// Red Hat's GRUB passes \x20 on with one backslash, and does not drop it in a bare word.
func TestHexEscapes(t *testing.T) {
	for _, test := range []struct {
		dialect bootentry.Dialect
		word    string
		want    string // empty: refused
	}{
		{bootentry.Upstream, `'a\x20'`, `a\\x20`},
		{bootentry.Upstream, `a\x20`, `ax20`},
		{bootentry.RedHat, `'a\x20'`, `a\x20`},
		{bootentry.RedHat, `a\x20`, `a\x20`},
		{bootentry.RedHat, `'a\xg0'`, `a\\xg0`},
		{bootentry.Unknown, `'a\x20'`, ``},
		{bootentry.Unknown, `a\x20`, ``},
		{bootentry.Unknown, `'a\xg0'`, `a\\xg0`},
	} {
		f := boot(with(map[string]string{"grub2/grub.cfg": "menuentry only {\nmultiboot2 /k " + test.word + "\n}\n"}, "k"))
		m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{f}, Dialect: test.dialect})
		e := m.Entries[0]
		if test.want == "" {
			refused(t, e.Err, `\x`)
			continue
		}
		if e.Err != nil {
			t.Fatal(e.Err)
		}
		same(t, test.word, test.want, e.Kernel.Line)
	}
}

// GRUB drops the words that the kernel has no room for, and the kernel says how much it has.
func TestLongCommandLine(t *testing.T) {
	for _, n := range []int{2046, 2047} {
		body := "linux /k " + strings.Repeat("x", n-len("BOOT_IMAGE=/k "))
		e := entry(t, body)
		if n == 2047 {
			refused(t, e.Err, "2047 bytes")
			continue
		}
		if e.Err != nil {
			t.Fatal(e.Err)
		}
		same(t, "length", n, len(e.Kernel.Line))
	}
}

// An EFI program gets its words as they are.
func TestCommandLineOfChainloader(t *testing.T) {
	f := small("menuentry only {\nslaunch\nchainloader /k placeholder \"two  words\" q\\\"q\nslaunch_module /sinit.bin\n}\n")
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{f}, Platform: "efi"})
	e := m.Entries[0]
	if e.Err != nil {
		t.Fatal(e.Err)
	}
	same(t, "kind", bootentry.Chainloader, e.Kind)
	same(t, "launch", true, e.Slaunch)
	same(t, "load options", `placeholder two  words q"q`, e.Kernel.Line)
}
