package emulator_test

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
)

func TestKilledEmulatorIsNamed(t *testing.T) {
	h := newHost(t)
	for _, v := range both {
		cfg := create(t, h, v)
		e := run(t, h, cfg, emulator.Inheritance{})
		state := e.State()
		syscall.Kill(e.PID(), syscall.SIGKILL)
		if _, _, err := e.Execute(context.Background(), 0, random(v)); !errors.Is(err, emulator.ErrEnded) {
			t.Errorf("%v: %v", v, err)
		}
		<-e.Done()
		if len(state) == 0 || string(e.State()) != string(state) {
			t.Errorf("%v: the state is gone with the process", v)
		}
	}
}

// A command that an emulator dies of ends all that wait, and nothing of it stays.
func TestStormOnADyingEmulator(t *testing.T) {
	h := newHost(t)
	cfg := create(t, h, tpm.V20)
	before, open := runtime.NumGoroutine(), len(entries(t, "/proc/self/fd"))
	for range 3 {
		e := run(t, h, cfg, emulator.Inheritance{})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for {
					if _, _, err := e.Execute(context.Background(), 0, random(tpm.V20)); errors.Is(err, emulator.ErrEnded) {
						return
					} else if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Go(func() {
			for e.Cancel() == nil {
				e.State()
			}
		})
		syscall.Kill(e.PID(), syscall.SIGKILL)
		wg.Wait()
		<-e.Gone()
	}
	if now := len(entries(t, "/proc/self/fd")); now > open {
		t.Errorf("%d descriptors were left open", now-open)
	}
	for runtime.NumGoroutine() > before { // for ever where one is left behind: the test's own end shows it then
		runtime.Gosched()
	}
}

// Many guests' commands at once get each its own answer.
func TestAnswersFindTheirAskers(t *testing.T) {
	h := newHost(t)
	e := run(t, h, create(t, h, tpm.V20), emulator.Inheritance{})
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			for range 20 {
				rsp, _, err := e.Execute(context.Background(), tpm.Locality(n%4), packet(0x8001, 0x17b, 0, byte(n)))
				if err != nil || len(rsp) != 12+n {
					t.Errorf("asked for %d bytes: %d, %v", n, len(rsp), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestWaitForTheTurnCanEnd(t *testing.T) {
	h := newHost(t)
	e := run(t, h, create(t, h, tpm.V20), emulator.Inheritance{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	busy := make(chan struct{})
	go func() {
		defer close(busy)
		e.Execute(context.Background(), 0, createRSA)
	}()
	for range 100 {
		if _, _, err := e.Execute(ctx, 0, random(tpm.V20)); err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			<-busy
			return
		}
	}
	t.Error("no call noticed that its context was over")
}

// What is no command would leave swtpm waiting for the rest of it.
func TestWhatIsNoCommandIsNotSent(t *testing.T) {
	h := newHost(t)
	e := run(t, h, create(t, h, tpm.V20), emulator.Inheritance{})
	long := make([]byte, vtpm.BufferSize+1)
	copy(long, packet(0x8001, 0x17b))
	binary.BigEndian.PutUint32(long[2:], uint32(len(long)))
	for _, c := range [][]byte{nil, {0x80}, random(tpm.V20)[:11], append(random(tpm.V20), 0), long} {
		if _, _, err := e.Execute(context.Background(), 0, c); err == nil || errors.Is(err, emulator.ErrEnded) {
			t.Errorf("%d bytes: %v", len(c), err)
		}
	}
	if _, _, err := e.Execute(context.Background(), 4, random(tpm.V20)); err == nil {
		t.Error("a command was run at locality 4")
	}
	if rc := ask(t, e, random(tpm.V20)); rc != 0 {
		t.Errorf("then %#x", rc)
	}
}

// createRSA is TPM2_CreatePrimary for a signing key of 2048 bits in the null hierarchy.
var createRSA = packet(0x8002, 0x131,
	0x40, 0, 0, 7, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0,
	0, 4, 0, 0, 0, 0,
	0, 24, 0, 1, 0, 0x0b, 0, 4, 0, 0x72, 0, 0, 0, 0x10, 0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0, 0)

// A request to cancel is answered, does not harm the command that it came too late for, nor the one after.
// That swtpm ends no command early is what this also shows: it runs to its good end.
func TestCancelHarmsNothing(t *testing.T) {
	h := newHost(t)
	e := run(t, h, create(t, h, tpm.V20), emulator.Inheritance{})
	for range 3 {
		answer := make(chan uint32)
		go func() {
			rsp, _, err := e.Execute(context.Background(), 0, createRSA)
			if err != nil {
				answer <- ^uint32(0)
				return
			}
			answer <- code(rsp)
		}()
		if err := e.Cancel(); err != nil {
			t.Error(err)
		}
		if rc := <-answer; rc != 0 {
			t.Errorf("the command was answered with %#x", rc)
		}
		if rc := ask(t, e, random(tpm.V20)); rc != 0 {
			t.Errorf("the command after it was answered with %#x", rc)
		}
		if rc := ask(t, e, packet(0x8001, 0x165, 0x80, 0, 0, 0)); rc != 0 {
			t.Errorf("the key was not made: %#x", rc)
		}
	}
}
