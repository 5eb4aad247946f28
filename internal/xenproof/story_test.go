package xenproof_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/xenproof"
)

// The whole proof on real Xen: each chapter goes as the story says.
func TestGuestsInheritTheTrust(t *testing.T) {
	testbed.Need(t, "qemu-system-x86_64", "swtpm", "mke2fs")
	dir, err := os.MkdirTemp("", "aem-xen-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m, err := xenproof.NewMachine(dir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	if err := m.Tell(ctx, t.Output()); err != nil {
		m.Close()
		t.Fatalf("%v\n%s", err, m.Log())
	}
}
