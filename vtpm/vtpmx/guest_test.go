package vtpmx_test

import (
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// In a guest with Debian's kernel, the guest's TPM is served to the kernel as a second
// one: what is extended there, the first one has.
func TestTheKernelUsesTheVTPM(t *testing.T) {
	testbed.Need(t, "qemu-system-x86_64", "swtpm")
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			im := &testbed.Image{Load: []string{"tpm_vtpm_proxy"}, Steps: []testbed.Step{testbed.Run("/bin/vtpmguest", "proxy")}}
			if err := im.Program("bin/vtpmguest", "./internal/vtpmguest"); err != nil {
				t.Fatal(err)
			}
			conn, emulator := testbed.NewTPM(t, v)
			conn.Close()
			g := testbed.NewGuest(t, testbed.Config{Image: im, TPM: emulator.Socket()})
			m, err := g.Expect(t.Context(), `VTPMGUEST (?:(TPM \S+) (0+) (\w+) (\w+) localities \[0\] driver's own false left \[\]|[^\r\n]*)\r?\n|GUEST broken[^\n]*\n`)
			if err != nil {
				t.Fatal(err)
			}
			if m[1] != v.String() || m[3] == m[2] || m[4] != m[3] {
				t.Errorf("the guest says: %s", m[0])
			}
		})
	}
}
