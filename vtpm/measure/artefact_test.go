package measure_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/measure"
)

var allAlgs = []tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512}

func sealFile(t *testing.T, content []byte) (*measure.Artefact, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := measure.Seal(path, measure.MaxKernel, allAlgs, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a, path
}

func TestEveryBankHasTheDigestOfTheFile(t *testing.T) {
	content := bytes.Repeat([]byte("a kernel "), 300_000)
	a, path := sealFile(t, content)
	if diff := cmp.Diff(tpm.SumAll(allAlgs, content), a.Digests); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if a.Name != path || a.Size != int64(len(content)) {
		t.Errorf("%q with %d bytes", a.Name, a.Size)
	}
}

// What an attacker does who waits until the good file was measured: the guest still
// starts with the measured bytes, by either of the ways on which the toolstack gets them.
func TestAFileThatIsSwappedAfterwardsIsNotStarted(t *testing.T) {
	good, evil := []byte("the measured kernel"), []byte("another kernel, same path")
	a, path := sealFile(t, good)
	if err := os.WriteFile(path, evil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, evil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The path of the artefact, opened by another process, such as a daemon.
	got, err := exec.Command("cat", a.Path()).Output()
	if err != nil || !bytes.Equal(got, good) {
		t.Errorf("by its path: %q, %v", got, err)
	}
	// The descriptor, inherited. Twice, because a reboot reads it again.
	cat := exec.Command("cat", "/proc/self/fd/3", "/proc/self/fd/3")
	cat.ExtraFiles = []*os.File{a.Memory()}
	if got, err := cat.Output(); err != nil || string(got) != string(good)+string(good) {
		t.Errorf("by its descriptor: %q, %v", got, err)
	}
	if got, err := io.ReadAll(a.Reader()); err != nil || !bytes.Equal(got, good) {
		t.Errorf("by its reader: %q, %v", got, err)
	}
}

// Each way of changing the memory, by a process that has everything that we have.
func TestSealedBytesCantBeChanged(t *testing.T) {
	content := []byte("the measured kernel")
	a, _ := sealFile(t, content)
	reopened, err := os.OpenFile(a.Path(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reopened.Close()
	for name, f := range map[string]*os.File{"descriptor": a.Memory(), "opened again": reopened} {
		if _, err := f.WriteAt([]byte("X"), 0); !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: a byte was written: %v", name, err)
		}
		if _, err := f.WriteAt([]byte("X"), a.Size); !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: a byte was added: %v", name, err)
		}
		if err := f.Truncate(3); !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: it was cut off: %v", name, err)
		}
		if err := f.Truncate(1000); !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: it grew: %v", name, err)
		}
		if _, err := unix.Mmap(int(f.Fd()), 0, int(a.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: it was mapped for writing: %v", name, err)
		}
		if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4); !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: a hole was made: %v", name, err)
		}
		if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, 0); !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: its seals can be changed: %v", name, err)
		}
	}
	if got, err := io.ReadAll(a.Reader()); err != nil || !bytes.Equal(got, content) {
		t.Errorf("it holds %q now, %v", got, err)
	}
}

// Xen's library maps the files that it builds guests from (xc_dom_malloc_filemap), and a sealed file
// may be mapped for reading only.
func TestXenCanMapIt(t *testing.T) {
	content := []byte("the measured kernel")
	a, _ := sealFile(t, content)
	f, err := os.Open(a.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, int(a.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(b)
	if !bytes.Equal(b, content) {
		t.Errorf("%q", b)
	}
}

// SHA-256 names a file in PCR 18 whatever banks a vTPM has.
func TestSHA256IsAlwaysThere(t *testing.T) {
	a, err := measure.SealBytes("guest.cfg", []byte("name=1"), []tpm.Alg{tpm.SHA1})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	want := sha256.Sum256([]byte("name=1"))
	if got := tpm.Find(a.Digests, tpm.SHA256); !bytes.Equal(got, want[:]) || len(a.Digests) != 2 {
		t.Errorf("%v", a.Digests)
	}
}

func TestWhatIsNoFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string]string{"empty": "", "big": "12345"} {
		if err := os.WriteFile(path(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(path("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, says string }{
		{path("missing"), "no such file"},
		{dir, "is a folder"},
		{path("fifo"), "is not a regular file"}, // without waiting for a writer
		{"/dev/zero", "is not a regular file"},
		{path("empty"), "is empty"},
		{path("big"), "has 5 bytes, and at most 4"},
	} {
		a, err := measure.Seal(c.path, 4, allAlgs, nil)
		if err == nil || !strings.Contains(err.Error(), c.says) || a != nil {
			t.Errorf("%s: %v; want %q", c.path, err, c.says)
		}
		if c.path == path("big") && !errors.Is(err, measure.ErrTooBig) {
			t.Errorf("%v is not ErrTooBig", err)
		}
	}
}

func TestAFileThatGrowsIsBounded(t *testing.T) {
	if _, err := measure.SealReader(strings.NewReader("12345"), 4, allAlgs); !errors.Is(err, measure.ErrTooBig) {
		t.Errorf("5 bytes of 4: %v", err)
	}
	a, err := measure.SealReader(strings.NewReader("1234"), 4, allAlgs)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
}

// inMemory counts the files in memory that we have open.
func inMemory(t *testing.T) int {
	t.Helper()
	l, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range l {
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.Contains(to, "memfd:aem-guest") {
			n++
		}
	}
	return n
}

// Descriptors are few; none is left behind by what goes wrong.
func TestAReadErrorLeavesNothingOpen(t *testing.T) {
	before := inMemory(t)
	broken := errors.New("the disk is broken")
	if _, err := measure.SealReader(io.MultiReader(strings.NewReader("begin"), iotest.ErrReader(broken)), 100, allAlgs); !errors.Is(err, broken) {
		t.Fatalf("%v", err)
	}
	if _, err := measure.SealReader(strings.NewReader("1234"), 4, []tpm.Alg{tpm.SM3}); err == nil {
		t.Fatal("SM3 was computed")
	}
	if after := inMemory(t); after != before {
		t.Errorf("%d files in memory are open; before there were %d", after, before)
	}
}

// A file of a few bytes says nothing, and a slow one something every two seconds.
func TestProgressIsHeardEveryTwoSeconds(t *testing.T) {
	clock := time.Unix(0, 0)
	now := func() time.Time { return clock }
	var heard []string
	slow := readerFunc(func(b []byte) (int, error) {
		clock = clock.Add(700 * time.Millisecond)
		return 1, nil
	})
	err := measure.ReadPaced(io.LimitReader(slow, 8), 16, now, func(done, total int64) {
		heard = append(heard, fmt.Sprintf("%v: %d of %d", clock.Sub(time.Unix(0, 0)), done, total))
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"2.1s: 3 of 16", "4.2s: 6 of 16"}, heard); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
