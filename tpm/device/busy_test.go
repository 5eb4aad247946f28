package device_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
)

// A TPM 1.2 has one opener: who comes second waits as long as he was told to, and then hears that
// somebody has it. strace answers in the kernel's place, so the second opener is a process of its own.
func TestADeviceThatAnotherProgramHas(t *testing.T) {
	if root := os.Getenv("BUSY_ROOT"); root != "" {
		wait, err := time.ParseDuration(os.Getenv("BUSY_WAIT"))
		if err != nil {
			t.Fatal(err)
		}
		d, err := device.Open(device.Options{Root: root, Wait: wait})
		if busy := os.Getenv("BUSY_ENDS") == ""; busy != errors.Is(err, tpm.ErrBusy) || busy != (err != nil) {
			t.Fatal(err)
		}
		if err == nil && d.Version != tpm.V12 {
			t.Errorf("it is a %s", d.Version)
		}
		return
	}
	testbed.Need(t, "strace")
	root := fakeRoot(t, map[string]string{"dev/tpm0": "", "sys/class/tpm/tpm0/tpm_version_major": "1\n"})
	for name, c := range map[string]struct{ when, wait, ends string }{
		"for good":       {"1+", "0s", ""},
		"for some tries": {"1..5", "1h", "yes"},
	} {
		t.Run(name, func(t *testing.T) {
			trace := filepath.Join(t.TempDir(), "trace")
			run := exec.Command("strace", "-f", "-qq", "-o", trace, "-P", filepath.Join(root, "dev/tpm0"), "-e", "trace=openat",
				"-e", "inject=openat:error=EBUSY:when="+c.when, os.Args[0], "-test.run=^TestADeviceThatAnotherProgramHas$")
			run.Env = append(os.Environ(), "BUSY_ROOT="+root, "BUSY_WAIT="+c.wait, "BUSY_ENDS="+c.ends, "GOMAXPROCS=1")
			said, err := run.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			b, err := os.ReadFile(trace)
			if err != nil || !strings.Contains(string(b), "INJECTED") {
				t.Errorf("nothing was injected: %s, %v", b, err)
			}
		})
	}
}
