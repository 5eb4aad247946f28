package packages_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/packages"
)

// A log that unpacks to gigabytes is not read to its end.
func TestPackedLogOfGigabytes(t *testing.T) {
	r := kernels(t)
	f, err := os.Create(r.path("var/log/dpkg.log.3.gz"))
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	if _, err := io.Copy(z, io.LimitReader(letters{}, 1<<28)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := packages.Open(r.dir); err == nil || !strings.Contains(err.Error(), "more than 67108864 bytes") {
		t.Errorf("%v", err)
	}
}

type letters struct{}

func (letters) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestDamagedPackedLog(t *testing.T) {
	r := kernels(t)
	whole := gz(t, "2026-01-01 07:00:01 install x:amd64 <none> 1\n")
	for _, content := range []string{"", "no gzip", whole[:len(whole)-5]} {
		r.write("var/log/dpkg.log.2.gz", content)
		if _, err := packages.Open(r.dir); err == nil {
			t.Errorf("%q is read", content)
		}
	}
}

// A pipe in the place of a file would make the program wait for ever.
func TestPipes(t *testing.T) {
	for _, name := range []string{vmlinuz, "var/lib/dpkg/diversions", "var/lib/dpkg/info/" + kernel + ".md5sums"} {
		r := kernels(t)
		if err := os.RemoveAll(r.path(name)); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(r.path(name), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := packages.Open(r.dir)
		if err == nil {
			_, err = d.Explain(vmlinuz, time.Time{})
		}
		if err == nil || !strings.Contains(err.Error(), "is not a regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file with a hole of terabytes must not be read for hours.
func TestContentWithoutEnd(t *testing.T) {
	r := kernels(t)
	if err := os.Truncate(r.path(vmlinuz), 1<<42); err != nil {
		t.Fatal(err)
	}
	if _, err := r.open().Explain(vmlinuz, time.Time{}); err == nil || !strings.HasPrefix(err.Error(), "open boot/vmlinuz") {
		t.Errorf("%v", err)
	}
}

func TestTooManyLogs(t *testing.T) {
	r := kernels(t)
	for i := range 200 {
		r.write(fmt.Sprintf("var/log/dpkg.log.%d", i+10), "")
	}
	if _, err := packages.Open(r.dir); err == nil || !strings.Contains(err.Error(), "more than 200 logs") {
		t.Errorf("%v", err)
	}
}

// Names of packages must not become paths.
func TestNamesThatAreNoNames(t *testing.T) {
	r := newRoot(t)
	r.write("usr/bin/x", "X")
	r.write("var/lib/dpkg/info/../../evil.list", "/usr/bin/x\n")
	r.write("var/lib/dpkg/info/../../evil.md5sums", sum("X")+"  usr/bin/x\n")
	r.write("var/lib/dpkg/status", "Package: ../../evil\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\nPackage: good\nArchitecture: all\nVersion: 1\nStatus: install ok installed\n")
	r.verified("/usr/bin/x", false, "", "no package")
}
