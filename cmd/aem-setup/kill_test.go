package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// commandLine has, for the child of TestKilledAtEachSystemCallOfApprove, the arguments
// of the aem-setup that it is to be.
const commandLine = "AEM_SETUP_COMMAND_LINE"

func TestMain(m *testing.M) {
	if given := os.Getenv(commandLine); given != "" {
		var args []string
		if err := json.Unmarshal([]byte(given), &args); err != nil {
			panic(err)
		}
		// strace counts the calls of each thread for itself.
		runtime.LockOSThread()
		os.Exit(int(cli.Run(context.Background(), newCommand(), args)))
	}
	os.Exit(m.Run())
}

// killedAt runs aem-setup in a process that is killed when it makes a system call for
// the nth time, before the call does anything. It reports false if it ended before.
func (l *laptop) killedAt(call string, n int, args ...string) bool {
	l.t.Helper()
	given, err := json.Marshal(append(args, l.where()...))
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "strace", "-f", "-qq", "-o", filepath.Join(l.dir, "trace"), "-e", "trace="+call,
		"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), os.Args[0])
	cmd.Env = append(os.Environ(), commandLine+"="+string(given))
	cmd.WaitDelay = time.Second // the child would hold the output open
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL: // strace ends as its child did
		return true
	}
	l.t.Fatalf("killed at %s %d: %v: %s", call, n, err, out)
	return false
}

// opening counts the records on the medium that open now, each tried for itself.
func (l *laptop) opening() int {
	l.t.Helper()
	conn, err := swtpm.Dial(l.socket)
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	chip, err := aem.NewChip(conn, l.launch.Version)
	if err != nil {
		l.t.Fatal(err)
	}
	pcrs, err := chip.ReadPCRs(tpm.PCRSet(tpm.PCRHost, tpm.PCRCode, tpm.PCRData))
	if err != nil {
		l.t.Fatal(err)
	}
	records, err := seal.Read(os.DirFS(filepath.Join(l.dir, aem.RecordsFolder)))
	if err != nil {
		l.t.Fatal(err)
	}
	n := 0
	for _, stored := range records {
		r, err := seal.Parse(stored.Bytes)
		if err != nil {
			continue // torn, under a name that no boot takes
		}
		b, err := chip.Backend(r.Anchor)
		if err != nil {
			l.t.Fatal(err)
		}
		if secret, err := r.Open(b, pcrs, nil); err == nil && string(secret) == sentence {
			n++
		}
	}
	return n
}

// wantOne demands that exactly one generation opens.
func (l *laptop) wantOne(when string) {
	l.t.Helper()
	if n := l.opening(); n != 1 {
		l.t.Errorf("%s %d generations open", when, n)
	}
}

// Killed before any system call that writes, syncs, renames, removes or talks to the
// TPM, approve leaves exactly one generation that opens, and run again it goes through.
// The emulator outlives the process, as a TPM does.
func TestKilledAtEachSystemCallOfApprove(t *testing.T) {
	testbed.Need(t, "strace")
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			l := newLaptop(t, v)
			boot := filepath.Join(l.dir, "boot")
			l.grub(boot, testbed.BzImage("0"), []byte("0"))
			l.boot()
			l.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", l.dir)
			l.want(aem.ExitOK, "Kept.", sentence+"\n", "secret", "set", "text")
			l.want(aem.ExitOK, "Sealed as generation 2", "", "seal", "--label", "Monday", "--boot", boot)
			approve := []string{"approve", "--yes", "--boot", boot, "--root", t.TempDir()} // where no package manager is
			update := 0
			// Each of these calls is made at least so often; a TPM's command is a write.
			for call, least := range map[string]int{"write": 20, "fsync": 6, "renameat": 2, "unlinkat": 1} {
				n, step := 1, 1
				if v == tpm.V12 && call == "write" {
					step = 5 // its emulator is slow, and its commands are many
				}
				for killed := true; killed; n += step {
					update++
					kernel := testbed.BzImage(fmt.Sprint("kernel ", update))
					l.grub(boot, kernel, []byte("initramfs"))
					killed = l.killedAt(call, n, approve...)
					when := fmt.Sprintf("killed at %s %d", call, n)
					l.wantOne(when)
					l.want(aem.ExitOK, "", "", approve...)
					l.wantOne(when + ", and approved again")
					l.boot()
					l.wantOne(when + ", approved again and booted")
					if t.Failed() {
						t.FailNow()
					}
				}
				if n -= 2 * step; n < least {
					t.Errorf("%s was called %d times; want %d at least", call, n, least)
				}
				t.Logf("killed before %s up to the call number %d", call, n)
			}
		})
	}
}
