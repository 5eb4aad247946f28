package bootentry_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/antievilmaid/aem/internal/bootentry"
)

// boot makes a boot file system: files by path, each with its content.
func boot(files map[string]string) bootentry.Filesystem {
	m := fstest.MapFS{}
	for name, content := range files {
		m[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return bootentry.Filesystem{FS: m}
}

// sample reads a configuration of testdata.
func sample(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// with adds files whose content does not matter, named by the blank-separated list.
func with(files map[string]string, list string) map[string]string {
	for _, name := range strings.Fields(list) {
		files[name] = "content of " + name
	}
	return files
}

func read(t *testing.T, o bootentry.Options) *bootentry.Menu {
	t.Helper()
	m, err := bootentry.Read(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// entry evaluates a configuration whose only entry has this body.
func entry(t *testing.T, body string) bootentry.Entry {
	t.Helper()
	return configured(t, "menuentry only {\n"+body+"\n}\n")
}

// configured evaluates a configuration with one entry, on a file system with a few files.
func configured(t *testing.T, config string) bootentry.Entry {
	t.Helper()
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{small(config)}, Platform: "pc", CPU: "i386"})
	if len(m.Entries) != 1 {
		t.Fatalf("the menu has %d entries, not one", len(m.Entries))
	}
	return m.Entries[0]
}

func small(config string) bootentry.Filesystem {
	return boot(with(map[string]string{"grub/grub.cfg": config}, "k k2 m1 m2 i1 i2 sinit.bin dir/f"))
}

// line gives the kernel's command line of a configuration's only entry.
func line(t *testing.T, config string) string {
	t.Helper()
	e := configured(t, config)
	if e.Err != nil {
		t.Fatal(e.Err)
	}
	return e.Kernel.Line
}

// refused demands that an error is a refusal whose text has a word in it.
func refused(t *testing.T, err error, word string) {
	t.Helper()
	if !errors.Is(err, bootentry.ErrUnsupported) {
		t.Fatalf("the error is %v, not a refusal", err)
	}
	if !strings.Contains(err.Error(), word) {
		t.Errorf("the refusal does not speak of %q: %v", word, err)
	}
}

func containsBoth(t *testing.T, s string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(s, p) {
			t.Errorf("%q does not speak of %q", s, p)
		}
	}
}
