package bootentry_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/bootentry"
)

// onDisk writes files into a new folder.
func onDisk(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFilesOfThisMachine(t *testing.T) {
	dir := onDisk(t, map[string]string{"boot/grub/grub.cfg": "menuentry only { linux /boot//./k x\ninitrd /link }\n", "boot/k": "KERNEL", "i": "INITRD"})
	if err := os.Symlink("i", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{{Dir: dir}}})
	e := &m.Entries[0]
	if e.Err != nil {
		t.Fatal(e.Err)
	}
	same(t, "file", filepath.Join(dir, "boot/k"), e.Kernel.File)
	same(t, "path", "/boot//./k", e.Kernel.Path)
	same(t, "command line", "BOOT_IMAGE=/boot//./k x", e.Kernel.Line)
	l, err := m.Load(e, 0)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "kernel", "KERNEL", string(l.Kernel))
	same(t, "initrd", "INITRD", string(l.Initrd))
}

// An initramfs may be a large part of the memory that there is: what was read is what is
// loaded, and a log fits behind it.
func TestInitramfsIsNotCopied(t *testing.T) {
	dir := onDisk(t, map[string]string{"boot/grub/grub.cfg": "menuentry one { linux /k\ninitrd /i }\nmenuentry two { linux /k\ninitrd /i /k }\n", "k": "KERNEL", "i": "INITRD"})
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{{Dir: dir}}})
	l, err := m.Load(&m.Entries[0], 0)
	if err != nil {
		t.Fatal(err)
	}
	file := l.Files[len(l.Files)-1].Content
	if &l.Initrd[0] != &file[0] || cap(l.Initrd)-len(l.Initrd) < bootentry.RoomBehind {
		t.Errorf("it is a copy, or has only %d bytes behind it", cap(l.Initrd)-len(l.Initrd))
	}
	if l, err = m.Load(&m.Entries[1], 0); err != nil {
		t.Fatal(err)
	}
	same(t, "initrd", "INITRD\x00\x00KERNEL", string(l.Initrd))
	same(t, "first file", "INITRD", string(l.Files[1].Content))
}

// Whoever wrote the boot partition must not make a prediction read other files.
func TestNothingOutsideIsRead(t *testing.T) {
	dir := onDisk(t, map[string]string{"boot/grub/grub.cfg": `
menuentry up { linux /../secret }
menuentry link { linux /link }
menuentry absolute { linux /absolute }
menuentry folder { linux /folder/secret }
`, "secret": "SECRET"})
	root := filepath.Join(dir, "boot")
	for name, target := range map[string]string{"link": "../secret", "absolute": filepath.Join(dir, "secret"), "folder": ".."} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{{Dir: root}}})
	for _, e := range m.Entries {
		if e.Err == nil {
			t.Errorf("%s: %s is read", e.Title, e.Kernel.File)
		}
	}
}

// Opening a pipe waits for a writer.
func TestAPipeIsNotOpened(t *testing.T) {
	dir := onDisk(t, map[string]string{"grub/grub.cfg": "source /pipe\n"})
	if err := mkfifo(filepath.Join(dir, "pipe")); err != nil {
		t.Fatal(err)
	}
	_, err := bootentry.Read(bootentry.Options{Filesystems: []bootentry.Filesystem{{Dir: dir}}})
	refused(t, err, "regular file")
}

// On btrfs GRUB's paths begin with the subvolume's.
func TestPartOfAFilesystem(t *testing.T) {
	f := boot(with(map[string]string{"grub/grub.cfg": `
menuentry inside { multiboot2 /@/boot/k $prefix/x }
menuentry outside { multiboot2 /k }
menuentry doubt { if [ -f /other ]; then multiboot2 /@/boot/k; fi }
menuentry beside { multiboot2 /@/bootk }
`}, "k"))
	f.At, f.Devices = "/@/boot", []string{"hd0,gpt1"}
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{f}})
	if m.Entries[0].Err != nil {
		t.Fatal(m.Entries[0].Err)
	}
	same(t, "path", "/@/boot/k", m.Entries[0].Kernel.Path)
	same(t, "name", "k", m.Entries[0].Kernel.Name)
	same(t, "line", "(hd0,gpt1)/@/boot/grub/x", m.Entries[0].Kernel.Line)
	for _, e := range m.Entries[1:] {
		refused(t, e.Err, "")
	}
}

func TestSeveralFilesystems(t *testing.T) {
	a := boot(map[string]string{"grub/grub.cfg": `
menuentry label { search --label --set=root two; multiboot2 /k }
menuentry uuid { search -u -s root ABCD-0123; multiboot2 /k }
menuentry hint { search --no-floppy --fs-uuid --set=root --hint-bios=hd0 --hint hd1 abcd-0123; multiboot2 /k }
menuentry device { multiboot2 (hd1,gpt1)/k }
menuentry first { multiboot2 /k }
menuentry other { search --fs-uuid --set=root 9999-9999; multiboot2 /k }
menuentry file { search --file --set=root /k; multiboot2 /k }
menuentry variable { search --fs-uuid --set=x abcd-0123; multiboot2 ($x)/k }
`, "k": "1"})
	b := boot(map[string]string{"k": "2"})
	a.UUID, a.Label, b.UUID, b.Label, b.Devices = "1111-1111", "one", "abcd-0123", "two", []string{"hd1,gpt1"}
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{a, b}})
	for i, want := range []int{1, 1, 1, 1, 0, -1, -1, 1} {
		e := m.Entries[i]
		if want < 0 {
			refused(t, e.Err, "")
			continue
		}
		if e.Err != nil {
			t.Errorf("%s: %v", e.Title, e.Err)
			continue
		}
		same(t, e.Title, want, e.Kernel.Filesystem)
	}
}

// One identifier is taken for the boot file system's own; of two it can't be told
// which one is.
func TestTwoIdentifiersAndNoneKnown(t *testing.T) {
	const config = "menuentry a { search -u -s root 1; linux /k }\nmenuentry b { search -u -s root 2; linux /k }\n"
	_, err := bootentry.Read(bootentry.Options{Filesystems: []bootentry.Filesystem{small(config)}})
	refused(t, err, "UUID")
	f := small(config)
	f.UUID = "2"
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{f}})
	refused(t, m.Entries[0].Err, "fs-uuid 1")
	if m.Entries[1].Err != nil {
		t.Error(m.Entries[1].Err)
	}
}

func packed(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Name = "x"
	if _, err := z.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// GRUB decompresses kernels and modules, but not what --nounzip says and no initrd.
func TestLoad(t *testing.T) {
	files := map[string]string{"grub/grub.cfg": `
menuentry xen { slaunch; multiboot2 /xen.gz; module2 /m.gz; module2 --nounzip /m.gz; slaunch_module /sinit }
menuentry linux { linux /k; initrd /five /m.gz /five }
menuentry nothing { reboot }
menuentry xz { linux /k.xz }
menuentry trailing { linux /trailing.gz }
menuentry twice { multiboot2 /twice.gz }
menuentry broken { multiboot2 /broken.gz }
menuentry raw { multiboot2 /k; module2 --nounzip /broken.gz; module2 --nounzip /k.xz }
menuentry flags { multiboot2 /flags.gz }
`, "xen.gz": packed(t, "XEN"), "m.gz": packed(t, "MODULE"), "sinit": "SINIT", "k": "K", "five": "12345", "k.xz": "\xfd7zXZ\x00data",
		"trailing.gz": packed(t, "A") + "B", "twice.gz": packed(t, packed(t, "X")), "broken.gz": packed(t, "ABCDEF")[:20],
		"flags.gz": "\x1f\x8b\x08\x22" + packed(t, "A")[4:]}
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{boot(files)}})
	load := func(name string) (*bootentry.Loaded, error) {
		e, err := m.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		return m.Load(e, 0)
	}
	l, err := load("xen")
	if err != nil {
		t.Fatal(err)
	}
	var onDisk []string
	for _, f := range l.Files {
		onDisk = append(onDisk, f.Path+" "+string(f.Content))
	}
	l.Files = nil
	same(t, "files as they lie on the disk", []string{"/xen.gz " + packed(t, "XEN"), "/m.gz " + packed(t, "MODULE"), "/m.gz " + packed(t, "MODULE"), "/sinit SINIT"}, onDisk)
	same(t, "Xen", &bootentry.Loaded{Kernel: []byte("XEN"), Modules: [][]byte{[]byte("MODULE"), []byte(packed(t, "MODULE"))},
		SlaunchModules: [][]byte{[]byte("SINIT")}}, l)
	if l, err = load("linux"); err != nil {
		t.Fatal(err)
	}
	gz := packed(t, "MODULE")
	same(t, "initrd", "12345\x00\x00\x00"+gz+strings.Repeat("\x00", -len(gz)&3)+"12345", string(l.Initrd))
	if l, err = load("nothing"); err != nil || l.Kernel != nil {
		t.Errorf("an entry that loads nothing loads %v, %v", l, err)
	}
	if l, err = load("twice"); err != nil {
		t.Fatal(err)
	}
	same(t, "packed twice", packed(t, "X"), string(l.Kernel)) // the filter is applied once
	for _, name := range []string{"xz", "trailing", "flags"} {
		_, err := load(name)
		refused(t, err, "")
	}
	if _, err := load("broken"); err == nil {
		t.Error("a cut file is loaded")
	}
	if _, err := load("raw"); err != nil {
		t.Error(err)
	}
}

func TestLoadKeepsToTheLimit(t *testing.T) {
	files := map[string]string{"grub/grub.cfg": "menuentry a { linux /k; initrd /k }\nmenuentry bomb { linux /bomb }\n",
		"k": strings.Repeat("k", 600), "bomb": packed(t, strings.Repeat("\x00", 1<<20))}
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{boot(files)}})
	if _, err := m.Load(&m.Entries[0], 1200); err != nil {
		t.Errorf("exactly the limit: %v", err)
	}
	for i := range m.Entries {
		limit := []int64{1199, 1<<20 - 1}[i]
		if _, err := m.Load(&m.Entries[i], limit); !errors.Is(err, bootentry.ErrTooLarge) {
			t.Errorf("%s: %v", m.Entries[i].Title, err)
		}
	}
}

func TestNoConfiguration(t *testing.T) {
	_, err := bootentry.Read(bootentry.Options{Filesystems: []bootentry.Filesystem{boot(nil)}})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
	if _, err := bootentry.Read(bootentry.Options{}); err == nil {
		t.Error("without a file system there is a menu")
	}
}

func TestAMissingFileIsNamed(t *testing.T) {
	e := entry(t, "linux /gone")
	if !errors.Is(e.Err, fs.ErrNotExist) {
		t.Errorf("the error is %v", e.Err)
	}
	var at *bootentry.Error
	if !errors.As(e.Err, &at) {
		t.Fatalf("the error is a %T", e.Err)
	}
	same(t, "place", bootentry.Error{File: "/grub/grub.cfg", Line: 2, Command: "linux", Reason: "there is no file /gone"},
		bootentry.Error{File: at.File, Line: at.Line, Command: at.Command, Reason: at.Reason})
}
