package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Alone has a test run in a process of its own, and reports whether this is that process; in the other one
// there is nothing left to do. It is for what holds for a whole process, such as a limit on the size of
// files: go test writes files of its own meanwhile, and would fail by the limit.
func Alone(t *testing.T) bool {
	t.Helper()
	const variable = "ALONE"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run=^"+t.Name()+"$", fmt.Sprintf("-test.short=%t", testing.Short()))
	cmd.Env = append(os.Environ(), variable+"="+t.Name())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	return false
}
