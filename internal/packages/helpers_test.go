package packages_test

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/packages"
)

// root is a folder with a small Debian in it.
type root struct {
	t   testing.TB
	dir string
}

func newRoot(t testing.TB) root {
	r := root{t, t.TempDir()}
	for _, dir := range []string{"bin", "sbin", "lib"} {
		r.write("usr/"+dir+"/.keep", "")
		r.link(dir, "usr/"+dir)
	}
	return r
}

func (r root) path(name string) string { return filepath.Join(r.dir, filepath.FromSlash(name)) }

func (r root) write(name, content string) {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.path(name), []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r root) link(name, target string) {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Symlink(target, r.path(name)); err != nil {
		r.t.Fatal(err)
	}
}

func (r root) add(name, content string) {
	r.t.Helper()
	old, _ := os.ReadFile(r.path(name))
	r.write(name, string(old)+content)
}

func (r root) age(name string, at time.Time) {
	r.t.Helper()
	if err := os.Chtimes(r.path(name), at, at); err != nil {
		r.t.Fatal(err)
	}
}

// deb writes dpkg's records of a package, as dpkg would after unpacking it.
type deb struct {
	name, arch, version string
	state               string // installed if empty
	fields              string // more lines of its paragraph
	files               map[string]string
	noSums              bool
	info                map[string]string // more files about it, such as triggers
}

func (r root) install(p deb) {
	r.t.Helper()
	if p.state == "" {
		p.state = "installed"
	}
	r.add("var/lib/dpkg/status", fmt.Sprintf("Package: %s\nStatus: install ok %s\nPriority: optional\nArchitecture: %s\n%sVersion: %s\nDescription: a package\n with a long text\n .\n and another line\n\n",
		p.name, p.state, p.arch, p.fields, p.version))
	base := "var/lib/dpkg/info/" + p.name
	if strings.Contains(p.fields, "Multi-Arch: same") {
		base += ":" + p.arch
	}
	list, sums := "/.\n", ""
	for name, content := range p.files {
		list += "/" + filepath.Dir(name) + "\n/" + name + "\n"
		sums += sum(content) + "  " + name + "\n"
	}
	r.write(base+".list", list)
	if !p.noSums {
		r.write(base+".md5sums", sums)
	}
	for kind, content := range p.info {
		r.write(base+"."+kind, content)
	}
}

func sum(content string) string { return fmt.Sprintf("%x", md5.Sum([]byte(content))) }

func (r root) open() packages.Database {
	r.t.Helper()
	d, err := packages.Open(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

func (r root) explain(name string, since time.Time) packages.Explanation {
	r.t.Helper()
	e, err := r.open().Explain(name, since)
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// verified checks that a file is explained, or not, and that the sentence has a word.
func (r root) verified(name string, want bool, pkg, word string) {
	r.t.Helper()
	e := r.explain(name, time.Time{})
	if e.Verified != want || e.Package != pkg || !strings.Contains(e.Why, word) {
		r.t.Errorf("%s: verified %v, package %q: %s", name, e.Verified, e.Package, e.Why)
	}
}

func at(s string) time.Time {
	when, err := time.Parse(time.DateTime, s)
	if err != nil {
		panic(err)
	}
	return when
}

func gz(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
