package store_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/durable"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/vtpm/store"
)

// TestMain is also the child that commits until it is killed, and the ones whose disk is full or fails.
func TestMain(m *testing.M) {
	var err error
	switch dir := os.Getenv("STORE"); os.Getenv("CHILD") {
	case "commit":
		err = commitForever(dir)
	case "once":
		err = commitOnce(dir)
	case "full":
		err = commitOnFullDisk(dir)
	case "fail":
		err = commitOnFailingDisk(dir)
	default:
		os.Exit(m.Run())
	}
	fmt.Println("the child ended:", err)
	os.Exit(1)
}

// fileCounter is a Root whose counter outlives the process, as a TPM's does.
type fileCounter struct{ path string }

func (c fileCounter) Key() ([]byte, error) { return bytes.Repeat([]byte{7}, store.KeySize), nil }

func (c fileCounter) Epoch() (uint64, error) {
	b, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil || len(b) != 8 {
		return 0, fmt.Errorf("the counter's file has %d bytes, %w", len(b), err)
	}
	return binary.BigEndian.Uint64(b), nil
}

func (c fileCounter) Advance(from uint64) error {
	if now, err := c.Epoch(); err != nil || now != from {
		return fmt.Errorf("the counter stands at %d, %w", now, err)
	}
	return durable.Write(c.path, binary.BigEndian.AppendUint64(nil, from+1), nil)
}

func inFolder(dir string) (path string, root fileCounter) {
	return filepath.Join(dir, "vtpms"), fileCounter{filepath.Join(dir, "counter")}
}

func child(t *testing.T, what, dir string) *exec.Cmd {
	c := exec.Command(os.Args[0], "-test.run=^$")
	c.Env = append(os.Environ(), "CHILD="+what, "STORE="+dir)
	c.Stderr = os.Stderr
	return c
}

const crowd = 8 // vTPMs in the stores that are killed

// commitForever commits states of all vTPMs in turn, begins epochs, removes and adds, and says what was
// acknowledged: a line with the vTPM's number and generation.
func commitForever(dir string) error {
	path, root := inFolder(dir)
	s, err := store.Open(path, root)
	if err != nil {
		return err
	}
	fmt.Println("open 0")
	for i := 0; ; i++ {
		n := i % crowd
		r, err := s.Get(uuid(n))
		if err != nil {
			return err
		}
		if err := s.PutState(uuid(n), r.Generation+1, state(n, int(r.Generation+1))); err != nil {
			return err
		}
		fmt.Println(n, r.Generation+1)
		if i%5 == 4 {
			if err := s.NextEpoch(); err != nil {
				return err
			}
		}
		extra := guest(crowd)
		if err := s.Add(extra); errors.Is(err, store.ErrExists) {
			err = s.Remove(extra.UUID)
			if err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
	}
}

// Killed with SIGKILL at any instruction: the store opens, each vTPM is who it was, and no
// older than what was acknowledged.
func TestKilledAtRandom(t *testing.T) {
	rounds := 1000
	if testing.Short() {
		rounds = 100
	}
	dir := folder(t)
	p := crowdIn(t, dir)
	acknowledged := [crowd]uint64{}
	for round := range rounds {
		commits := killed(t, dir, rand.IntN(12), &acknowledged)
		if round%10 != 0 && round != rounds-1 {
			continue // the next child opens what this one left
		}
		p.check(t, &acknowledged, fmt.Sprintf("round %d, after %d commits", round, commits))
	}
	if acknowledged[0] < uint64(rounds)/crowd {
		t.Errorf("only %d commits of the first vTPM were acknowledged", acknowledged[0])
	}
}

// check opens the store: each vTPM must be who it was, and no older than what was acknowledged.
func (p place) check(t *testing.T, acknowledged *[crowd]uint64, when string) {
	t.Helper()
	s, err := store.Open(p.path, p.root)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	for i := range crowd {
		r, err := s.Get(uuid(i))
		if err != nil || r.Generation < acknowledged[i] || r.Generation > acknowledged[i]+1 ||
			!bytes.Equal(r.Key, guest(i).Key) || !bytes.Equal(r.State, state(i, int(r.Generation))) {
			t.Fatalf("%s: vTPM %d, generation %d was acknowledged: %+v, %v", when, i, acknowledged[i], r, err)
		}
		acknowledged[i] = r.Generation
	}
	must(t, s.Verify(func(f store.Fault) { t.Fatalf("%s: %s: %v", when, f.UUID, f.Err) }))
	must(t, s.Close())
}

// killed runs a child until it has acknowledged some commits, and kills it in the next.
func killed(t *testing.T, dir string, commits int, acknowledged *[crowd]uint64) (seen int) {
	c := child(t, "commit", dir)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		first, second, _ := strings.Cut(lines.Text(), " ")
		g, err := strconv.ParseUint(second, 10, 64)
		if err != nil {
			t.Errorf("the child says %q", lines.Text())
		}
		if n, err := strconv.Atoi(first); err == nil && n < crowd {
			acknowledged[n] = max(acknowledged[n], g)
			seen++
		}
		if seen >= commits {
			// At once, or a little into the next commit.
			for range rand.IntN(20000) {
				_ = lines.Text()
			}
			c.Process.Kill()
		}
	}
	c.Wait()
	return seen
}

// commitOnce does each thing once, on one thread so that its system calls can be counted, and
// goes on after what fails.
func commitOnce(dir string) error {
	runtime.LockOSThread()
	path, root := inFolder(dir)
	s, err := store.Open(path, root)
	if err != nil {
		return err
	}
	r, err := s.Get(uuid(0))
	if err != nil {
		return err
	}
	for i := range uint64(2) {
		if g := r.Generation + 1 + i; s.PutState(uuid(0), g, state(0, int(g))) == nil {
			fmt.Println(0, g)
		} else {
			break
		}
	}
	extra := guest(crowd)
	s.Remove(extra.UUID)
	s.NextEpoch()
	s.Add(extra)
	return s.Close()
}

// At each system call that writes, the process is killed, or the disk fails.
func TestEachSystemCallKilledOrFailed(t *testing.T) {
	testbed.Need(t, "strace")
	for _, what := range []string{"signal=KILL", "error=EIO"} {
		for _, call := range []string{"pwrite64", "ftruncate", "fdatasync", "fsync", "renameat"} {
			t.Run(call+" "+what, func(t *testing.T) {
				p := crowdIn(t, folder(t))
				acknowledged := [crowd]uint64{}
				for i := range acknowledged {
					acknowledged[i] = 1
				}
				for n := 1; ; n++ {
					hit := p.inject(t, fmt.Sprintf("%s:%s:when=%d", call, what, n), &acknowledged)
					p.check(t, &acknowledged, fmt.Sprintf("at %s number %d", call, n))
					if !hit {
						if n < 4 && call != "ftruncate" {
							t.Errorf("only %d calls were hit", n-1)
						}
						return
					}
				}
			})
		}
	}
}

// inject runs a child under strace and reports whether its call was reached.
func (p place) inject(t *testing.T, how string, acknowledged *[crowd]uint64) (hit bool) {
	t.Helper()
	c := child(t, "once", filepath.Dir(p.path))
	trace := filepath.Join(t.TempDir(), "trace")
	call, _, _ := strings.Cut(how, ":")
	c.Args = append([]string{"strace", "-f", "-qq", "-o", trace, "-e", "trace=" + call, "-e", "inject=" + how}, c.Args...)
	path, err := exec.LookPath("strace")
	must(t, err)
	c.Path = path
	out, _ := c.Output() // how it ended is what the injection is about
	for line := range strings.Lines(string(out)) {
		if g, ok := strings.CutPrefix(strings.TrimSpace(line), "0 "); ok {
			n, err := strconv.ParseUint(g, 10, 64)
			must(t, err)
			acknowledged[0] = max(acknowledged[0], n)
		}
	}
	log, err := os.ReadFile(trace)
	must(t, err)
	return bytes.Contains(log, []byte("INJECTED")) || bytes.Contains(log, []byte("killed by SIGKILL"))
}

// The power fails in a commit. Before the first fsync any part of the written sectors may
// be on the disk; after it all of them are, and the meta page's sector is or is not.
func TestThePowerFailsInACommit(t *testing.T) {
	s := newSafe(t)
	s.fill(20)
	before, err := os.ReadFile(s.path)
	must(t, err)
	must(t, s.Change(uuid(3), func(r *store.Record) error { r.Name, r.State = "renamed", state(3, 2); return nil }))
	after, err := os.ReadFile(s.path)
	must(t, err)
	root := *s.root
	must(t, s.Close())

	const sector = 512
	size := max(len(before), len(after))
	grown := append(slices.Clone(before), make([]byte, size-len(before))...)
	var data, metas []int
	for at := 0; at < size; at += sector {
		if !bytes.Equal(grown[at:at+sector], after[at:at+sector]) {
			if at < 2*4096 {
				metas = append(metas, at)
			} else {
				data = append(data, at)
			}
		}
	}
	if len(metas) != 1 || len(data) < 10 {
		t.Fatalf("a commit writes %d sectors of meta pages and %d of data", len(metas), len(data))
	}
	path := filepath.Join(folder(t), "vtpms")
	opens := func(file []byte, generation uint64) {
		t.Helper()
		must(t, os.WriteFile(path, file, 0o600))
		c := root
		s, err := store.Open(path, &c)
		must(t, err)
		defer s.Close()
		if r, err := s.Get(uuid(3)); err != nil || r.Generation != generation || (r.Name == "renamed") != (generation == 2) {
			t.Errorf("%+v, %v", r, err)
		}
		must(t, s.Verify(func(f store.Fault) { t.Errorf("%s: %v", f.UUID, f.Err) }))
		must(t, s.PutState(uuid(3), generation+1, state(3, 9)))
	}
	opens(before, 1)
	written := slices.Clone(grown)
	for _, at := range data { // in their order
		copy(written[at:], after[at:at+sector])
		opens(written, 1)
	}
	for range 100 { // and in any
		part := slices.Clone(grown)
		for _, at := range data {
			if rand.IntN(2) == 0 {
				copy(part[at:], after[at:at+sector])
			}
		}
		opens(part, 1)
	}
	copy(written[metas[0]:], after[metas[0]:metas[0]+sector])
	opens(written, 2)
}

// commitOnFullDisk has a commit fail for want of room, and makes it when there is room
// again. A limit on the size of files stands in for the disk; it holds for the whole process.
func commitOnFullDisk(dir string) error {
	path, root := inFolder(dir)
	s, err := store.Open(path, root)
	if err != nil {
		return err
	}
	room, err := strconv.ParseUint(os.Getenv("ROOM"), 10, 64)
	if err != nil {
		return err
	}
	var unlimited syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &unlimited); err != nil {
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: room, Max: unlimited.Max}); err != nil {
		return err
	}
	if err := s.PutState(uuid(2), 2, vast()); err == nil || errors.Is(err, store.ErrUnsure) {
		return fmt.Errorf("a commit past the end of the disk gave: %w", err)
	}
	for i := range crowd {
		if r, err := s.Get(uuid(i)); err != nil || r.Generation != 1 {
			return fmt.Errorf("%+v, %w", r, err)
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &unlimited); err != nil {
		return err
	}
	if err := errors.Join(s.PutState(uuid(2), 2, vast()), s.Close()); err != nil {
		return err
	}
	fmt.Println("well")
	os.Exit(0)
	return nil
}

// vast is a state that makes the file grow.
func vast() []byte { return bytes.Repeat([]byte("state"), 1<<17) }

func TestAFullDiskLosesNothing(t *testing.T) {
	for name, room := range map[string]int{"no page can be written": 100, "not all pages can be written": 9*4096 + 100, "the file can't grow": 1 << 17} {
		t.Run(name, func(t *testing.T) {
			s := crowdIn(t, folder(t))
			c := child(t, "full", filepath.Dir(s.path))
			c.Env = append(c.Env, fmt.Sprint("ROOM=", room))
			if out, err := c.Output(); err != nil || string(out) != "well\n" {
				t.Errorf("%v: %s", err, out)
			}
			opened, err := store.Open(s.path, s.root)
			must(t, err)
			defer opened.Close()
			if r, err := opened.Get(uuid(2)); err != nil || r.Generation != 2 || !bytes.Equal(r.State, vast()) {
				t.Errorf("%v", err)
			}
			must(t, opened.Verify(func(f store.Fault) { t.Errorf("%s: %v", f.UUID, f.Err) }))
		})
	}
}

// place is where a child finds a store.
type place struct {
	path string
	root fileCounter
}

// crowdIn makes a store with a crowd of vTPMs.
func crowdIn(t *testing.T, dir string) place {
	t.Helper()
	path, root := inFolder(dir)
	must(t, store.Create(path, root))
	s, err := store.Open(path, root)
	must(t, err)
	for i := range crowd {
		must(t, s.Add(guest(i)))
	}
	must(t, s.Close())
	return place{path, root}
}

// failCalls has the kernel answer EIO to a system call from now on, where its argument
// number arg is below bound; a filter can't be taken back.
func failCalls(call uint32, arg int, bound uint32) error {
	const nr, args = 0, 16 // offsets in struct seccomp_data
	eio := uint32(unix.SECCOMP_RET_ERRNO | unix.EIO)
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: nr},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: call},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: args + 8*uint32(arg)}, // the low half, on a little-endian machine
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, Jt: 1, K: bound},
		{Code: unix.BPF_RET | unix.BPF_K, K: eio},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return errno
	}
	return nil
}

// commitOnFailingDisk has one commit fail, as FAIL says.
func commitOnFailingDisk(dir string) error {
	path, root := inFolder(dir)
	s, err := store.Open(path, root)
	if err != nil {
		return err
	}
	switch os.Getenv("FAIL") {
	case "fsync":
		err = failCalls(unix.SYS_FDATASYNC, 0, 1<<31)
	case "meta page":
		err = failCalls(unix.SYS_PWRITE64, 3, 2*4096)
	}
	if err != nil {
		return err
	}
	err = s.PutState(uuid(0), 2, state(0, 2))
	if !errors.Is(err, syscall.EIO) {
		return fmt.Errorf("the commit gave %w", err)
	}
	r, err := s.Get(uuid(0))
	if err != nil || r.Generation != 1 {
		return fmt.Errorf("%+v, %w", r, err)
	}
	fmt.Println("well")
	os.Exit(0)
	return nil
}

func TestAFailingDiskIsReportedAndLosesNothing(t *testing.T) {
	for _, fail := range []string{"fsync", "meta page"} {
		t.Run(fail, func(t *testing.T) {
			dir := folder(t)
			p := crowdIn(t, dir)
			c := child(t, "fail", dir)
			c.Env = append(c.Env, "FAIL="+fail)
			if out, err := c.Output(); err != nil || string(out) != "well\n" {
				t.Errorf("%v: %s", err, out)
			}
			s, err := store.Open(p.path, p.root)
			must(t, err)
			defer s.Close()
			if r, err := s.Get(uuid(0)); err != nil || r.Generation != 1 {
				t.Errorf("%+v, %v", r, err)
			}
			must(t, s.PutState(uuid(0), 2, state(0, 2)))
		})
	}
}
