package stage1_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/internal/unpack"
)

// evilLog is a log that holds a whole archive, as text that somebody made it log.
func evilLog(t *testing.T) []byte {
	t.Helper()
	var a initramfs.Archive
	a.File("init", 0o755, []byte("evil"))
	b, err := a.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("log "), b...)
}

func archive(t *testing.T, fill func(*initramfs.Archive)) []byte {
	t.Helper()
	var a initramfs.Archive
	a.File("init", 0o755, []byte("the real init"))
	fill(&a)
	b, err := a.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The archive is the one that the general writer makes, which the kernel reads.
func TestArchiveOfTheLog(t *testing.T) {
	for n := range 5 {
		log := bytes.Repeat([]byte{7}, n)
		var a initramfs.Archive
		a.Dir("aem", 0o700)
		a.File("aem/eventlog", 0o600, log)
		want, err := a.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		got, err := stage1.WithLog(nil, log)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of log, %v:\n%q\n%q", n, err, got, want)
		}
	}
}

// The log arrives, and it alone, whatever the initramfs has in its place.
func TestLogInAnInitramfs(t *testing.T) {
	plain := archive(t, func(*initramfs.Archive) {})
	gz := zipped(t, string(plain))
	for name, initrd := range map[string][]byte{
		"plain":            plain,
		"compressed":       []byte(gz),
		"of an odd length": append([]byte(gz), 0),
		"microcode first":  append(archive(t, func(a *initramfs.Archive) { a.File("kernel/x86/microcode", 0o600, []byte("u")) }), gz...),
		"with another log": archive(t, func(a *initramfs.Archive) {
			a.File("aem/eventlog", 0o600, []byte("a log that says all is well, and is long"))
		}),
		"with a link to its init": archive(t, func(a *initramfs.Archive) { a.Symlink("aem/eventlog", "/init") }),
		"with a link for folder":  archive(t, func(a *initramfs.Archive) { a.Symlink("aem", "/etc"); a.Dir("etc", 0o755) }),
		"none":                    nil,
	} {
		t.Run(name, func(t *testing.T) {
			log := evilLog(t)
			before := len(initrd)
			got, err := stage1.WithLog(bytes.Clone(initrd), log)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got[:before], initrd) {
				t.Error("the initramfs that was measured is another one now")
			}
			tree, err := unpack.Read(got)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string][]byte{"aem/eventlog": log}
			if before > 0 {
				want["init"] = []byte("the real init")
			}
			found := map[string]bool{}
			for _, f := range tree.Files {
				if f.Mode&unix.S_IFMT != unix.S_IFREG && f.Mode&unix.S_IFMT != unix.S_IFLNK || f.Path == "kernel/x86/microcode" {
					continue
				}
				found[f.Path] = true
				if content, ok := want[f.Path]; !ok || f.Sum != sha256.Sum256(content) {
					t.Errorf("the next stage has %s, of %d bytes", f.Path, f.Size)
				}
				if f.Path == "aem/eventlog" && f.Mode != unix.S_IFREG|0o600 {
					t.Errorf("the log has mode %o", f.Mode)
				}
			}
			if len(found) != len(want) {
				t.Errorf("the next stage has %v", found)
			}
		})
	}
}
