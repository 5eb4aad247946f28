package testbed_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
)

// A program of this machine comes with its libraries, and two that share them bring them once.
func TestInstalledProgramsBringTheirLibraries(t *testing.T) {
	testbed.Need(t, "ldd", "cpio", "mke2fs", "debugfs")
	var im testbed.Image
	if err := im.Installed("cpio", "mke2fs", "debugfs"); err != nil {
		t.Fatal(err)
	}
	b, err := im.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/cpio\x00", "/mke2fs\x00", "/debugfs\x00", "/libc.so.6\x00", "/libext2fs.so.2\x00", "/ld-linux"} {
		if n := bytes.Count(b, []byte(name)); n == 0 {
			t.Errorf("the archive has no %q", name)
		}
	}
	if err := im.Installed("no-such-program"); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("a program that is not installed: %v", err)
	}
}
