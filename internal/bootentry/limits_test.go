package bootentry_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/antievilmaid/aem/internal/bootentry"
)

// Configurations that would take for ever, or all memory, end in an error.
func TestHostileConfigurations(t *testing.T) {
	entries := func(n int) string { return strings.Repeat("menuentry x { true }\n", n) }
	for _, test := range []struct{ name, config, word string }{
		{"endless loop", "while true; do true; done", "runs longer"},
		{"endless nothing", "while true; do $nothing; done", "runs longer"},
		{"nested loops", strings.Repeat("for i in 1 2 3 4 5 6 7 8 9; do\n", 10) + "true\n" + strings.Repeat("done\n", 10), "runs longer"},
		{"recursion", "function f {\nf\n}\nf", "nested"},
		{"recursion by two", "function f {\nif true; then g; fi\n}\nfunction g {\nf\n}\nf", "nested"},
		{"source of itself", "source /grub/grub.cfg", "nested"},
		{"many sources", "while true; do source /k2; done", "configuration files"},
		{"growing value", "set a=0123456789\nwhile true; do set a=$a$a; done", "bytes"},
		{"growing words", "set a='0 1 2 3 4 5 6 7 8 9'\nwhile true; do set a=\"$a $a\"; test $a $a; done", "bytes"},
		{"many variables", "set v=" + strings.Repeat("x", 60000) + "\nset n=x\nwhile true; do set n=x$n; set $n=$v; done", "variables"},
		{"many entries", entries(1001), "1000 entries"},
		{"entries in a loop", "while true; do menuentry x { true }; done", "1000 entries"},
		{"long titles", "set v=" + strings.Repeat("x", 60000) + "\nwhile true; do menuentry $v { true }; done", "titles"},
		{"nested submenus", strings.Repeat("submenu x {\n", 20) + "menuentry y { true }\n" + strings.Repeat("}\n", 20), "submenus are nested"},
		{"submenu of itself", "function f {\nsubmenu a { f }\n}\nf", "submenus are nested"},
		{"doubling submenus", "function f {\nsubmenu a { f }\nsubmenu b { f }\n}\nf", "1000 entries"},
		{"nested ifs", strings.Repeat("if true; then\n", 200) + "true\n" + strings.Repeat("fi\n", 200), "nested more than 40"},
		{"nested blocks", strings.Repeat("menuentry x {\n", 5000), "nested more than 40"},
		{"brackets", "test " + strings.Repeat("( ", 5000), "brackets"},
		{"conditions in loop", "while true; do if cpuid -l; then set a=1$a; fi; done", "runs longer"},
		{"eval of itself", "set a='eval \"$a\"'\neval \"$a\"", "nested"},
		{"long elif", "if false; then true\n" + strings.Repeat("elif false; then true\n", 2000) + "fi", "nested more than 40"},
		{"large file", strings.Repeat("#", 1<<20) + "\n", "limit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := small(test.config)
			f.FS.(fstest.MapFS)["k2"].Data = []byte("true\n")
			m, err := bootentry.Read(bootentry.Options{Filesystems: []bootentry.Filesystem{f}})
			if err == nil {
				// What one entry runs into is that entry's error.
				for _, e := range m.Entries {
					if e.Err != nil {
						err = e.Err
					}
				}
			}
			if !errors.Is(err, bootentry.ErrTooLarge) && !errors.Is(err, bootentry.ErrUnsupported) {
				t.Fatalf("it ends with %v", err)
			}
			containsBoth(t, err.Error(), test.word)
		})
	}
}

// What real machines have is far below the limits.
func TestAMenuOfManyKernels(t *testing.T) {
	var b strings.Builder
	for i := range 200 {
		fmt.Fprintf(&b, "menuentry 'Kernel %d' { load_video; for i in 1 2 3; do set x=$x$i; done; linux /k root=/dev/sda%d; initrd /i1 }\n", i, i)
	}
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{small(b.String())}})
	last := m.Entries[199]
	if last.Err != nil {
		t.Fatal(last.Err)
	}
	same(t, "line", "BOOT_IMAGE=/k root=/dev/sda199", last.Kernel.Line)
}
