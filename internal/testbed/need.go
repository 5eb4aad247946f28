// Package testbed builds the machines that tests run on: emulated TPMs of both
// families with real dynamic launches, and QEMU guests that boot from them. The
// demo plays on the same ones.
package testbed

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Need ends the test where a program, or a file by its path, is missing: by failing in
// CI, by skipping on a developer's machine.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := os.Stat(p); err == nil && filepath.IsAbs(p) {
			continue
		}
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed; scripts/install-deps installs it", p)
		}
		t.Skipf("%s is not installed; scripts/install-deps installs it", p)
	}
}
