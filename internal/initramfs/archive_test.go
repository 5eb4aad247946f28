package initramfs_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/testbed"
)

// fill makes the same contents in two orders.
func fill(backwards bool) *initramfs.Archive {
	a := new(initramfs.Archive)
	add := []func(){
		func() { a.File("init", 0o755, []byte("#!")) },
		func() { a.File("/etc/aem/config", 0o600, []byte("x = 1\n")) },
		func() { a.Symlink("bin/sh", "/init") },
		func() { a.CharDevice("dev/console", 0o600, 5, 1) },
		func() { a.Dir("etc/aem", 0o700) },
	}
	for i := range add {
		if backwards {
			i = len(add) - 1 - i
		}
		add[i]()
	}
	return a
}

func mustBytes(t *testing.T, a *initramfs.Archive) []byte {
	t.Helper()
	b, err := a.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEverythingIsThereWithItsParentsFirst(t *testing.T) {
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(mustBytes(t, fill(true)))))
	if err != nil {
		t.Fatal(err)
	}
	type entry struct {
		Name         string
		Mode         uint64
		Content      string
		Major, Minor uint64
	}
	var got []entry
	for _, r := range records {
		content, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, entry{r.Name, r.Mode, string(content), r.Rmajor, r.Rminor})
	}
	want := []entry{
		{Name: "bin", Mode: 0o040755},
		{Name: "bin/sh", Mode: 0o120777, Content: "/init"},
		{Name: "dev", Mode: 0o040755},
		{Name: "dev/console", Mode: 0o020600, Major: 5, Minor: 1},
		{Name: "etc", Mode: 0o040755},
		{Name: "etc/aem", Mode: 0o040700},
		{Name: "etc/aem/config", Mode: 0o100600, Content: "x = 1\n"},
		{Name: "init", Mode: 0o100755, Content: "#!"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// The initramfs is measured: two builds of the same must be one and the same.
func TestOrderOfAddingDoesNotMatter(t *testing.T) {
	if !bytes.Equal(mustBytes(t, fill(false)), mustBytes(t, fill(true))) {
		t.Error("the same contents, added in two orders, gave two archives")
	}
}

func TestGzipHoldsTheSameArchive(t *testing.T) {
	packed, err := fill(false).Gzip()
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, mustBytes(t, fill(false))) {
		t.Error("unpacking gave another archive")
	}
	if !z.ModTime.IsZero() || z.Name != "" {
		t.Errorf("the gzip header says when (%v) or from what (%q) it was made", z.ModTime, z.Name)
	}
}

// GNU cpio is another's reading of the format.
func TestCpioListsIt(t *testing.T) {
	testbed.Need(t, "cpio")
	cmd := exec.Command("cpio", "--quiet", "-t")
	cmd.Stdin = bytes.NewReader(mustBytes(t, fill(false)))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	want := "bin\nbin/sh\ndev\ndev/console\netc\netc/aem\netc/aem/config\ninit\n"
	if string(out) != want {
		t.Errorf("cpio lists\n%s\nwant\n%s", out, want)
	}
}

func TestMistakesAreReported(t *testing.T) {
	for name, c := range map[string]struct {
		make func(*initramfs.Archive)
		want string
	}{
		"twice":             {func(a *initramfs.Archive) { a.File("a", 0, nil); a.File("/a", 0, nil) }, "twice"},
		"outside":           {func(a *initramfs.Archive) { a.File("a/../../b", 0, nil) }, "nothing inside"},
		"the root":          {func(a *initramfs.Archive) { a.Dir("/", 0) }, "nothing inside"},
		"below a file":      {func(a *initramfs.Archive) { a.File("a", 0, nil); a.File("a/b", 0, nil) }, "a is not a directory"},
		"a file that isn't": {func(a *initramfs.Archive) { a.CopyFile("a", 0, filepath.Join(t.TempDir(), "none")) }, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			var a initramfs.Archive
			c.make(&a)
			if _, err := a.Bytes(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v; want one with %q", err, c.want)
			}
		})
	}
}
