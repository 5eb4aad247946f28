package bootentry_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/bootentry"
)

// FuzzRead gives all three kinds of text that lie on the boot partition.
func FuzzRead(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.cfg")
	if err != nil || len(seeds) < 4 {
		f.Fatalf("there are only %d configurations in testdata (%v)", len(seeds), err)
	}
	env := envBlock("saved_entry=1>0\nkernelopts=root=/dev/x \"a b\"\n")
	for _, name := range seeds {
		t, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(t), env, fragment("6.8.9-300.fc40.x86_64", "$kernelopts quiet"))
	}
	f.Add(twoKernels, env, "")
	f.Add("function f {\nfor i in \"$@\"; do a=$a$i; if cpuid; then break; fi; done\n}\nf 1 $2\nblscfg\n", env, "linux /k\n")
	f.Fuzz(func(t *testing.T, config, grubenv, entry string) {
		fsys := boot(with(map[string]string{"grub2/grub.cfg": config, "grub2/grubenv": grubenv, "loader/entries/a-1-1.conf": entry,
			"loader/entries/a-2-1.conf": "linux /k\n"}, "k i m vmlinuz-6.8.9-300.fc40.x86_64 initramfs-6.8.9-300.fc40.x86_64.img "+debianFiles))
		fsys.Devices = []string{"hd0,gpt2"}
		m, err := bootentry.Read(bootentry.Options{Filesystems: []bootentry.Filesystem{fsys}})
		if err != nil {
			if !errors.Is(err, bootentry.ErrUnsupported) && !errors.Is(err, bootentry.ErrTooLarge) {
				t.Fatalf("the error has no kind: %v", err)
			}
			return
		}
		if (m.DefaultErr == nil) != (m.Default >= 0 && m.Default < len(m.Entries)) {
			t.Fatalf("default %d of %d, %v", m.Default, len(m.Entries), m.DefaultErr)
		}
		for i := range m.Entries {
			check(t, m, &m.Entries[i])
		}
	})
}

// check demands what every entry promises.
func check(t *testing.T, m *bootentry.Menu, e *bootentry.Entry) {
	if e.Err != nil {
		if e.Kind != bootentry.Nothing || len(e.Modules)+len(e.Initrds)+len(e.SlaunchModules) > 0 {
			t.Fatalf("an entry that is refused loads something: %+v", e)
		}
		return
	}
	if _, err := m.Find(e.Number); err != nil && !strings.Contains(err.Error(), "give the number") {
		t.Fatalf("entry %s is not found by its number: %v", e.Number, err)
	}
	if e.Kind == bootentry.Nothing {
		return
	}
	if e.Kind == bootentry.Linux && !strings.HasPrefix(e.Kernel.Line, "BOOT_IMAGE=") {
		t.Fatalf("the kernel's command line is %q", e.Kernel.Line)
	}
	all := append([]bootentry.Module{e.Kernel}, e.Modules...)
	all = append(append(all, e.Initrds...), e.SlaunchModules...)
	for _, mod := range all {
		if strings.ContainsRune(mod.Line+mod.Path+e.Title+e.ID, 0) {
			t.Fatalf("a mark is left in %+v", mod)
		}
		if strings.Contains(mod.Name, "..") {
			t.Fatalf("the path %q leads upwards", mod.Name)
		}
	}
	if _, err := m.Load(e, 1<<20); err != nil && !errors.Is(err, bootentry.ErrUnsupported) {
		t.Fatalf("what was found can't be loaded: %v", err)
	}
}
