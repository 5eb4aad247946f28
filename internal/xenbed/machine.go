package xenbed

import (
	"os"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// NewMachine starts a machine with a TPM 2.0 that nothing launched, until the test ends. What it printed is logged
// then.
func NewMachine(t *testing.T, dom0 *testbed.Image) *testbed.Guest {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	config, err := Config(t.TempDir(), dom0)
	must(err)
	dir, err := os.MkdirTemp("", "aem-tpm-") // short, for the socket's path
	must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	chip, err := testbed.StartEmulator(dir, tpm.V20)
	must(err)
	t.Cleanup(chip.Stop)
	config.TPM = chip.Socket()
	machine := testbed.NewGuest(t, config)
	t.Cleanup(func() { t.Logf("%s", machine.Transcript()) })
	return machine
}
