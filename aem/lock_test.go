package aem_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/testbed"
)

// The owner reads the question while a hook approves something: the answer was to
// another question then.
func TestAnApprovalThatWasOvertakenSealsNothing(t *testing.T) {
	d := newDebian(t)
	asked := func() *aem.Approval { d.update(); return d.plan() }()
	d.root.InstallKernel(d.updated, newRelease, "6.1.193-2", testbed.BzImage("newer kernel"), []byte("newer initramfs"))
	if _, err := d.Approve(d.home, d.plan()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Approve(d.home, asked); !errors.Is(err, aem.ErrMeanwhile) {
		t.Errorf("the overtaken approval: %v", err)
	}
	d.choose(newRelease)
	d.bootAndProve()
}

// Who seals waits for who seals already.
func TestSealingWaitsForAnotherProgramThatSeals(t *testing.T) {
	d := newDebian(t)
	d.update()
	a := d.plan()
	dir, err := os.Open(d.homeDir)
	d.must(err)
	defer dir.Close()
	d.must(syscall.Flock(int(dir.Fd()), syscall.LOCK_EX))
	var st syscall.Stat_t
	d.must(syscall.Fstat(int(dir.Fd()), &st))
	done := make(chan error, 1)
	go func() { _, err := d.Approve(d.home, a); done <- err }()
	// The kernel lists who waits: "1: -> FLOCK ADVISORY WRITE 4711 fe:01:2627 0 EOF".
	for waits := false; !waits; {
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		b, err := os.ReadFile("/proc/locks")
		d.must(err)
		for line := range strings.Lines(string(b)) {
			waits = waits || strings.Contains(line, "-> FLOCK") && strings.Contains(line, fmt.Sprintf(":%d ", st.Ino))
		}
	}
	d.must(syscall.Flock(int(dir.Fd()), syscall.LOCK_UN))
	d.must(<-done)
}
