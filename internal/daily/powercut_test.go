//go:build debian

package daily_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// strace copies this side's strace into the machine, with the libraries that it needs: the
// machine's may be older.
func (l *laptop) strace() string {
	l.t.Helper()
	loader := ""
	files := programFiles(l.t, "strace")
	for _, f := range files {
		if strings.HasPrefix(filepath.Base(f), "ld-") {
			loader = filepath.Base(f)
		}
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		l.must(err)
		l.must(l.m.CopyIn(l.ctx, "/root/strace/"+filepath.Base(f), 0o755, b))
	}
	return "/root/strace/" + loader + " --library-path /root/strace /root/strace/strace"
}

// steps are the system calls that change what is on a disk for good.
const steps = "fsync,fdatasync,rename,renameat,renameat2,unlinkat"

// The power fails in approve, at one step after another. Whatever was reached, the
// next boot proves itself or is refused for what the owner changed, never for a medium that is
// damaged or superseded; and approve, run again, leads back to a proof.
func TestPowerCutsInApprove(t *testing.T) {
	l := installed(t, plain)
	l.on()
	l.proof()
	strace := l.strace()
	proofs, refusals := 0, 0
	for step, ended := 1, false; !ended; step++ {
		// The owner changes the command line, which takes less time than another initramfs.
		l.run(fmt.Sprintf(`sed -i -E 's/ ro( cut=[0-9]+)? / ro cut=%d /' /boot/grub/grub.cfg && grep -q ' cut=%d ' /boot/grub/grub.cfg && sync`, step, step))
		out := l.run(fmt.Sprintf(`%s -f -qq -o /root/trace -e trace=%s -e inject=%s:signal=STOP:when=%d aem-setup approve --yes >/root/said 2>&1 &
until p=$(pidof aem-setup); do kill -0 $! 2>/dev/null || break; done
while kill -0 $! 2>/dev/null; do
	grep -q '^State:.*[tT] ' /proc/$p/status 2>/dev/null && echo STOPPED && exit
	sleep 0.2
done
echo ENDED; cat /root/said`, strace, steps, steps, step))
		ended = strings.Contains(out, "ENDED")
		if !ended && !strings.Contains(out, "STOPPED") {
			t.Fatalf("step %d: %s", step, out)
		}
		l.m.Kill()
		l.on()
		g, err := l.m.Expect(l.ctx, sentence+"|DID NOT PROVE ITSELF")
		l.must(err)
		if g[0] == sentence {
			proofs++
			l.expect("this is not mine")
			l.typed("")
			l.login()
			continue
		}
		refusals++
		l.expect("kernel command line")
		l.expect("boot on without proof")
		l.typed("UNPROVEN")
		l.login()
		l.run("aem-setup approve --yes")
	}
	t.Logf("%d boots after a power cut proved themselves, %d were refused for the command line", proofs, refusals)
	if proofs < 2 || refusals < 2 {
		t.Error("the power cuts did not lie on both sides of the commit")
	}
}
