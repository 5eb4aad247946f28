package testbed

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// SickDisk has the kernel answer an error, such as EIO or EROFS, to whatever this process writes to a file and has
// put on the disk, until heal. It takes strace, which stands between this process and the kernel.
func SickDisk(t testing.TB, path, errno string) (heal func()) {
	t.Helper()
	return SickDiskFrom(t, path, errno, 1, "pwrite64", "ftruncate", "fdatasync", "fsync")
}

// SickDiskFrom is SickDisk for some system calls alone, from each thread's nth on.
func SickDiskFrom(t testing.TB, path, errno string, nth int, calls ...string) (heal func()) {
	t.Helper()
	Need(t, "strace")
	// Else a kernel may let only a parent trace its children.
	if err := unix.Prctl(unix.PR_SET_PTRACER, ^uintptr(0), 0, 0, 0); err != nil && err != unix.EINVAL {
		t.Fatal(err)
	}
	list := strings.Join(calls, ",")
	c := exec.Command("strace", "-f", "-p", strconv.Itoa(os.Getpid()), "-P", path, "-e", "trace="+list, "-e", "inject="+list+":error="+errno+":when="+strconv.Itoa(nth)+"+", "-o", os.DevNull)
	said, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	if !lines.Scan() || !strings.Contains(lines.Text(), "attached") {
		t.Fatalf("strace says: %s", lines.Text())
	}
	heal = sync.OnceFunc(func() {
		c.Process.Signal(unix.SIGINT) // it lets go of us
		for lines.Scan() {
		}
		c.Wait()
	})
	t.Cleanup(heal)
	return heal
}
