package stage1_test

import (
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/stage1"
)

// What ends or stops a program from a console does neither while the PCRs are open.
func TestUndisturbed(t *testing.T) {
	list := []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGTSTP, unix.SIGPIPE}
	again := stage1.Undisturbed()
	for _, s := range list {
		if !signal.Ignored(s) {
			t.Errorf("%s is not ignored", s)
		}
	}
	again()
	for _, s := range list {
		if signal.Ignored(s) {
			t.Errorf("%s is still ignored", s)
		}
	}
}
