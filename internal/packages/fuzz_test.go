package packages_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/packages"
)

// records are the files of a small Debian that a fuzz target changes.
var records = []string{
	"var/lib/dpkg/status", "var/lib/dpkg/info/" + kernel + ".list", "var/lib/dpkg/info/" + kernel + ".md5sums",
	"var/lib/dpkg/diversions", "var/log/dpkg.log", "var/log/apt/history.log", "var/lib/dpkg/triggers/update-initramfs",
}

func seeds(f *testing.F) []string {
	f.Helper()
	r := withInitrd(f)
	r.add("var/lib/dpkg/status", "Conffiles:\n /etc/x "+sum("x")+" obsolete\n")
	r.write("var/lib/dpkg/diversions", "/boot/vmlinuz-"+release+"\n/boot/x\n:\n")
	var list []string
	for _, name := range records {
		b, err := os.ReadFile(r.path(name))
		if err != nil || len(b) == 0 {
			f.Fatalf("%s: %d bytes, %v", name, len(b), err)
		}
		list = append(list, string(b))
	}
	return list
}

// Names must not become paths, nor anything but a sum be taken for one, and changes
// be in order.
func FuzzParsers(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		names, sums, when := packages.ParseAll(s)
		for _, name := range names {
			if name == "" || strings.ContainsAny(name, "/\x00") || name[0] == '.' {
				t.Errorf("a package has the name %q", name)
			}
		}
		for _, sum := range sums {
			if len(sum) != 32 {
				t.Errorf("a file has the sum %q", sum)
			}
		}
		if !slices.IsSortedFunc(when, time.Time.Compare) {
			t.Errorf("the changes are not in order: %v", when)
		}
		if len(when) > len(s) {
			t.Errorf("%d bytes have %d changes", len(s), len(when))
		}
	})
}

// Whatever stands in the records, nothing is verified whose sum they don't hold.
func FuzzDatabase(f *testing.F) {
	s := seeds(f)
	f.Add(s[0], s[1], s[2], s[3], s[4], s[5], s[6])
	f.Add(s[0], s[1], s[2], "", s[4], s[5], s[6])
	f.Add("Package: "+kernel+"\nArchitecture: a\nStatus: a b installed\n\n", "/../../boot/x\n//\n\n", sum("KERNEL 3")+"  ../boot/x", "a\nb\nc\nd\n", "", "", "/noawait\n\n")
	f.Fuzz(func(t *testing.T, status, list, sums, diversions, log, history, trigger string) {
		r := newRoot(t)
		for i, content := range []string{status, list, sums, diversions, log, history, trigger} {
			r.write(records[i], content)
		}
		r.write(vmlinuz, "KERNEL 3")
		r.write(initrd, "INITRD")
		r.age(initrd, at("2026-03-01 10:00:14"))
		d, err := packages.Open(r.dir)
		if err != nil {
			return
		}
		for _, name := range []string{vmlinuz, initrd, "/boot/x", "/", "/lib/x"} {
			e, err := d.Explain(name, at("2026-03-01 09:30:00"))
			if err != nil {
				continue
			}
			if e.Verified && !strings.Contains(status+sums, sum("KERNEL 3")) && !strings.Contains(status+sums, sum("INITRD")) {
				t.Errorf("%s is verified: %s", name, e.Why)
			}
			if e.Generated && (e.Verified || name != initrd) || e.Verified && e.Package == "" {
				t.Errorf("%s: %+v", name, e)
			}
			if strings.ContainsFunc(e.Why, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%q reaches the terminal", e.Why)
			}
		}
	})
}
