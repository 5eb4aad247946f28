package manager_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/manager"
)

// done sends a command that must succeed.
func (g *guest) done(command string) {
	g.t.Helper()
	rsp, err := g.Send([]byte(command))
	must(g.t, err)
	if code := binary.BigEndian.Uint32(rsp[6:]); code != 0 {
		g.t.Fatalf("command %x was answered with %#x", command[6:10], code)
	}
}

const (
	random = "\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08"
	// rsaKey is TPM2_CreatePrimary of an RSA key, the slowest command there is, and flush frees
	// the place that the key takes (TPM2_FlushContext).
	rsaKey = "\x80\x02\x00\x00\x00\x43\x00\x00\x01\x31\x40\x00\x00\x01\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00" + // owner
		"\x00\x04\x00\x00\x00\x00" + // no secret
		"\x00\x1a\x00\x01\x00\x0b\x00\x03\x00\x72\x00\x00\x00\x06\x00\x80\x00\x43\x00\x10\x08\x00\x00\x00\x00\x00\x00\x00" + // restricted, 2048 bits
		"\x00\x00\x00\x00\x00\x00"
	flush = "\x80\x01\x00\x00\x00\x0e\x00\x00\x01\x65\x80\x00\x00\x00"
)

// A guest that keeps its vTPM busy without end keeps nobody else waiting for it: while it
// makes a few keys, another one has a thousand answers. One that
// had to wait for it would have some thirty for each key.
func TestAFloodIsTheFloodersOwn(t *testing.T) {
	h := newHost(t)
	flooder := h.attach(vtpm.Guest{UUID: h.create(tpm.V20, manager.Policy{}), Domain: "xen:1"})
	other := h.attach(vtpm.Guest{UUID: h.create(tpm.V20, manager.Policy{}), Domain: "xen:2"})
	var keys atomic.Int64
	var stop atomic.Bool
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for !stop.Load() && err == nil {
			for _, command := range []string{rsaKey, flush} {
				var rsp []byte
				if rsp, err = flooder.Send([]byte(command)); err == nil && binary.BigEndian.Uint32(rsp[6:]) != 0 {
					err = fmt.Errorf("command %x was answered with %x", command[6:10], rsp)
				}
			}
			if keys.Add(1) == 1 {
				close(begun)
			}
		}
		ended <- err
	}()
	<-begun
	const commands = 1000
	before := keys.Load()
	for range commands {
		other.done(random)
	}
	made := keys.Load() - before
	stop.Store(true)
	must(t, <-ended)
	if made > commands/100 {
		t.Errorf("while the flooder made %d keys, the other guest had %d answers: it waits for them", made, commands)
	}
}

// A refused client that asks without end changes nothing, and uses nothing up.
func TestARefusedGuestMayAskForEver(t *testing.T) {
	h := newHost(t)
	u, strict := h.create(tpm.V20, manager.Policy{}), h.create(tpm.V20, manager.Policy{OnlyMeasured: true})
	g := h.attach(vtpm.Guest{UUID: u, Domain: "xen:1", Birth: "1"})
	g.extend(8)
	before := g.pcrs()
	for i := range 1000 {
		for _, c := range []struct {
			who  vtpm.Guest
			want error
		}{
			{vtpm.Guest{UUID: u, Domain: "xen:1", Birth: "1"}, manager.ErrConnected},
			{vtpm.Guest{UUID: u, Domain: "xen:2", Birth: fmt.Sprint(i)}, manager.ErrTaken},
			{vtpm.Guest{UUID: strict, Domain: "xen:2", Birth: fmt.Sprint(i)}, manager.ErrUnmeasured},
		} {
			if _, err := h.Attach(t.Context(), c.who); !errors.Is(err, c.want) {
				t.Fatalf("time %d: %+v was answered %v", i, c.who, err)
			}
		}
	}
	if n := len(emulators(t)); n != 1 {
		t.Errorf("%d emulators run for one guest", n)
	}
	if fmt.Sprint(g.pcrs()) != fmt.Sprint(before) {
		t.Error("the guest's PCRs changed")
	}
	must(t, g.End())
	must(t, h.attach(vtpm.Guest{UUID: u, Domain: "xen:2", Birth: "2"}).End())
	p, err := h.Prepare(strict, material("kernel"))
	must(t, err)
	defer p.Cancel()
	must(t, h.attach(vtpm.Guest{UUID: strict, Domain: "xen:2", Birth: "2"}).End())
}

// The disk is full: who changes his state gets no answer until there is room, and the change is
// then there; who changes nothing does not notice. A limit on the size of files stands in for the disk;
// it holds for a whole process, so this test runs in one of its own.
func TestAFullDiskPausesWhoWrites(t *testing.T) {
	if !testbed.Alone(t) {
		return
	}
	if os.Getenv("FULL_DISK") == "" {
		testbed.Need(t, "swtpm")
		c := exec.Command(os.Args[0], "-test.run=^TestAFullDiskPausesWhoWrites$")
		c.Env = append(os.Environ(), "FULL_DISK=yes")
		if said, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, said)
		}
		return
	}
	h := newHost(t)
	u := h.create(tpm.V20, manager.Policy{})
	writer := h.attach(vtpm.Guest{UUID: u, Domain: "xen:1", Birth: "1"})
	reader := h.attach(vtpm.Guest{UUID: h.create(tpm.V20, manager.Policy{}), Domain: "xen:2"})
	counter, err := tpm2.New(writer).MakeCounter(nil)
	must(t, err)
	before, err := tpm2.New(writer).ReadCounter(counter)
	must(t, err)

	empty := fill(t)
	if err := tpm2.New(writer).Increment(counter.Index, nil); !errors.Is(err, manager.ErrPaused) {
		t.Errorf("a change that can't be stored: %v", err)
	}
	for range 3 {
		if rsp, err := writer.Send([]byte(random)); !errors.Is(err, manager.ErrPaused) || rsp != nil {
			t.Errorf("the paused vTPM answered %x, %v", rsp, err)
		}
		reader.done(random)
		reader.extend(8)
	}
	empty()
	reader.done(random)
	writer.done(random)
	if got, err := tpm2.New(writer).ReadCounter(counter); err != nil || got != before+1 {
		t.Errorf("the counter was %d and is %d, %v", before, got, err)
	}
	must(t, writer.End())
	writer = h.attach(vtpm.Guest{UUID: u, Domain: "xen:1", Birth: "2"})
	if got, err := tpm2.New(writer).ReadCounter(counter); err != nil || got != before+1 {
		t.Errorf("after the next start the counter is %d, %v", got, err)
	}
	var paused []string
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, kind := range h.happened {
		if kind == "paused" || kind == "resumed" {
			paused = append(paused, kind)
		}
	}
	if got := strings.Join(paused, " "); got != "paused resumed" {
		t.Errorf("told was: %s", got)
	}
}

// fill leaves no room for what is written, until it is taken back.
func fill(t *testing.T) (empty func()) {
	t.Helper()
	var old syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old))
	must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 100, Max: old.Max}))
	empty = func() { must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old)) }
	t.Cleanup(empty)
	return empty
}

// Emulators are killed at any instruction, and every fourth time the manager goes with them: the next
// start has the same identity, and its counter is not behind what the guest was told.
func TestEmulatorsAreKilledAtRandom(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 20
	}
	h := newHost(t)
	u := h.create(tpm.V20, manager.Policy{})
	g := h.attach(vtpm.Guest{UUID: u, Domain: "xen:1", Birth: "0"})
	identity := g.name()
	counter, err := tpm2.New(g).MakeCounter(nil)
	must(t, err)
	told, err := tpm2.New(g).ReadCounter(counter)
	must(t, err)
	must(t, g.End())
	died, answered := 0, 0
	for round := range rounds {
		g := h.attach(vtpm.Guest{UUID: u, Domain: "xen:1", Birth: fmt.Sprint(round + 1)})
		if got := g.name(); got != identity {
			t.Fatalf("round %d: another identity: %s, it was %s", round, got, identity)
		}
		got, err := tpm2.New(g).ReadCounter(counter)
		must(t, err)
		if got != told && got != told+1 { // the last one may have been made without an answer
			t.Fatalf("round %d: the counter is %d, and the guest was told %d", round, got, told)
		}
		told = got
		running := emulators(t)
		if len(running) != 1 {
			t.Fatalf("round %d: %d emulators run", round, len(running))
		}
		last := rand.IntN(4)
		for i := 0; err == nil; i++ {
			if i == last {
				go func() {
					for range rand.IntN(300) { // at once, or somewhere in one of the next commands
						runtime.Gosched()
					}
					syscall.Kill(running[0], syscall.SIGKILL)
				}()
			}
			if err = tpm2.New(g).Increment(counter.Index, nil); err == nil {
				told++
				answered++
			}
		}
		if errors.Is(err, emulator.ErrEnded) {
			died++
		} else {
			t.Errorf("round %d: %v", round, err)
		}
		if round%4 != 0 {
			must(t, g.End())
			continue
		}
		must(t, h.Emulators.Close())
		must(t, h.Store.Close())
		h.open(t.TempDir())
	}
	if died != rounds || answered < rounds/4 {
		t.Errorf("%d emulators died in %d rounds, after %d answers", died, rounds, answered)
	}
}

// emulators are the numbers of this process's children that are swtpm and live.
func emulators(t *testing.T) (list []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	for _, path := range all {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		var pid, parent int
		var name, state string
		if _, err := fmt.Sscan(string(b), &pid, &name, &state, &parent); err == nil && parent == os.Getpid() && name == "(swtpm)" && state != "Z" {
			list = append(list, pid)
		}
	}
	return list
}
