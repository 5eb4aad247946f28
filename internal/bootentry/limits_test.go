package bootentry_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/bootentry"
)

// Configurations that would take for ever, or all memory, end in an error.
func TestHostileConfigurations(t *testing.T) {
	entries := func(n int) string { return strings.Repeat("menuentry x { true }\n", n) }
	for name, config := range map[string]string{
		"endless loop":       "while true; do true; done",
		"endless nothing":    "while true; do $nothing; done",
		"nested loops":       strings.Repeat("for i in 1 2 3 4 5 6 7 8 9; do\n", 10) + "true\n" + strings.Repeat("done\n", 10),
		"recursion":          "function f {\nf\n}\nf",
		"recursion by two":   "function f {\nif true; then g; fi\n}\nfunction g {\nf\n}\nf",
		"source of itself":   "source /grub/grub.cfg",
		"growing value":      "set a=0123456789\nwhile true; do set a=$a$a; done",
		"growing words":      "set a='0 1 2 3 4 5 6 7 8 9'\nwhile true; do set a=\"$a $a\"; test $a $a; done",
		"many variables":     "set v=" + strings.Repeat("x", 60000) + "\nset n=x\nwhile true; do set n=x$n; set $n=$v; done",
		"many entries":       entries(1001),
		"entries in a loop":  "while true; do menuentry x { true }; done",
		"nested submenus":    strings.Repeat("submenu x {\n", 20) + "menuentry y { true }\n" + strings.Repeat("}\n", 20),
		"submenu of itself":  "function f {\nsubmenu a { f }\n}\nf",
		"doubling submenus":  "function f {\nsubmenu a { f }\nsubmenu b { f }\n}\nf",
		"nested ifs":         strings.Repeat("if true; then\n", 200) + "true\n" + strings.Repeat("fi\n", 200),
		"nested blocks":      strings.Repeat("menuentry x {\n", 5000),
		"brackets":           "test " + strings.Repeat("( ", 5000),
		"conditions in loop": "while true; do if cpuid -l; then set a=1$a; fi; done",
		"eval of itself":     "set a='eval \"$a\"'\neval \"$a\"",
		"long elif":          "if false; then true\n" + strings.Repeat("elif false; then true\n", 2000) + "fi",
		"large file":         strings.Repeat("#", 1<<20) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			m, err := bootentry.Read(bootentry.Options{Filesystems: []bootentry.Filesystem{small(config)}})
			if err == nil {
				// What one entry runs into is that entry's error.
				for _, e := range m.Entries {
					if e.Err != nil {
						err = e.Err
					}
				}
			}
			if !errors.Is(err, bootentry.ErrTooLarge) && !errors.Is(err, bootentry.ErrUnsupported) {
				t.Errorf("it ends with %v", err)
			}
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
