package testbed

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// StartSim starts drtmsim, with its arguments, and returns when it waits for QEMU. What
// it says goes to this test's standard error. It is killed at the test's end.
func StartSim(t testing.TB, sim *exec.Cmd) {
	t.Helper()
	said, err := sim.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan bool, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(said); lines.Scan(); {
			os.Stderr.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "waiting for QEMU") {
				select {
				case ready <- true:
				default: // it says so again when QEMU has gone
				}
			}
		}
	}()
	t.Cleanup(func() {
		sim.Process.Kill()
		<-ended
		sim.Wait()
	})
	select {
	case <-ready:
	case <-ended:
		t.Fatal("drtmsim ended before it waited for QEMU")
	}
}
