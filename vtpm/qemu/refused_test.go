package qemu_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

// Where there is no vTPM to be had, QEMU says so and ends at once: the guest does not
// run without it, and nobody waits blindly.
func TestARefusedQEMUEndsAtOnce(t *testing.T) {
	testbed.Need(t, "qemu-system-x86_64")
	refusing := newFake(tpm.V20)
	refusing.attach = func(vtpm.Guest) error { return errors.New("the host was not launched as approved") }
	for name, c := range map[string]struct {
		keeper *fake
		taken  bool
		cause  string
	}{
		"by the keeper":        {refusing, false, "the host was not launched as approved"},
		"because it is in use": {newFake(tpm.V20), true, "stop that QEMU first"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, c.keeper)
			if c.taken {
				s.start(t)
			}
			g, err := testbed.StartGuest(testbed.Config{TPM: s.path})
			if err == nil {
				g.Kill()
				t.Fatal("the guest runs")
			}
			if !strings.Contains(err.Error(), "QEMU ended at once") || !strings.Contains(err.Error(), "tpm-emulator") {
				t.Errorf("QEMU says: %v", err)
			}
			s.log.wait(c.cause, 1)
		})
	}
}
