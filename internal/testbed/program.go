package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// programs remembers what was built, for as long as the process runs.
var programs sync.Map // package path to func() ([]byte, error)

// Program builds one of this module's programs as it is shipped, static and
// stripped, and returns its bytes. The package is named from the module's root,
// such as ./cmd/aem.
func Program(pkg string) ([]byte, error) {
	build, _ := programs.LoadOrStore(pkg, sync.OnceValues(func() ([]byte, error) { return buildProgram(pkg) }))
	return build.(func() ([]byte, error))()
}

func buildProgram(pkg string) ([]byte, error) {
	root, err := ModuleRoot()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "aem-program-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-gcflags=all=-l", "-ldflags=-s -w -buildid= -funcalign=16", "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w\n%s", pkg, err, said)
	}
	return os.ReadFile(out)
}
