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
	return inject(t, path, "pwrite64,ftruncate,fdatasync,fsync:error="+errno)
}

// DoubtfulDisk is SickDisk for one that takes what is written and does not confirm it: the first fdatasync of each
// thread still succeeds, those after it and each fsync give EIO.
func DoubtfulDisk(t testing.TB, path string) (heal func()) {
	t.Helper()
	return inject(t, path, "fdatasync:error=EIO:when=2+", "fsync:error=EIO")
}

func inject(t testing.TB, path string, how ...string) (heal func()) {
	t.Helper()
	Need(t, "strace")
	// Else a kernel may let only a parent trace its children.
	if err := unix.Prctl(unix.PR_SET_PTRACER, ^uintptr(0), 0, 0, 0); err != nil && err != unix.EINVAL {
		t.Fatal(err)
	}
	args := []string{"-f", "-p", strconv.Itoa(os.Getpid()), "-P", path, "-o", os.DevNull, "-e", "trace=pwrite64,ftruncate,fdatasync,fsync"}
	for _, h := range how {
		args = append(args, "-e", "inject="+h)
	}
	c := exec.Command("strace", args...)
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
