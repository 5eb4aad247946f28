package xen_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

// connectedGuest is a guest with a connected vTPM.
func (h *host) connectedGuest(domain uint32) *guest {
	h.t.Helper()
	g := h.build(domain)
	g.attach(nil)
	settle()
	g.run()
	return g
}

// works checks that a guest is served.
func (g *guest) works() {
	g.h.t.Helper()
	c := command(fmt.Sprint("works at ", time.Now()))
	g.submit(c)
	g.answered(c)
}

func TestImpossibleCommandsAreAborted(t *testing.T) {
	for name, c := range map[string]struct {
		length uint32
		extra  byte
	}{
		"empty": {0, 0}, "shorter than a header": {9, 0}, "longer than the page": {4089, 0}, "the longest number": {1<<32 - 1, 0},
		"further pages": {20, 1}, "all pages": {20, 255},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				g := h.connectedGuest(5)
				_, before := g.bell.counts()
				g.put(c.length, 1, 0, c.extra, command("x"))
				g.bell.ring()
				settle()
				state, _ := g.got()
				if _, after := g.bell.counts(); state != 0 || after != before+1 || len(h.keeper.of(g).executed) != 0 {
					t.Errorf("state %d, rung %d times, executed %q", state, after-before, h.keeper.of(g).executed)
				}
				g.works()
			})
		})
	}
}

func TestLongestCommandAndResponse(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g := h.connectedGuest(5)
		longest := bytes.Repeat([]byte("long"), vtpm.BufferSize/4)
		s := h.keeper.of(g)
		s.execute = func(_ context.Context, c []byte) ([]byte, error) { return c, nil }
		g.submit(longest)
		if state, packet := g.got(); state != 2 || !bytes.Equal(packet, longest) || !bytes.Equal(s.executed[0], longest) {
			t.Errorf("state %d, %d bytes were executed and %d came back", state, len(s.executed[0]), len(packet))
		}
		s.execute = nil
		g.works()
	})
}

func TestResponseThatDoesNotFitIsDropped(t *testing.T) {
	for _, n := range []int{0, 9, vtpm.BufferSize + 1, 1 << 16} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				g := h.connectedGuest(5)
				h.keeper.of(g).execute = func(context.Context, []byte) ([]byte, error) { return make([]byte, n), nil }
				g.submit(command("x"))
				if state, packet := g.got(); state != 0 || !bytes.Equal(packet, command("x")) {
					t.Errorf("state %d, packet %q", state, packet)
				}
				h.keeper.of(g).execute = nil
				g.works()
			})
		})
	}
}

func TestWhatTheGuestWritesMeanwhileIsNothing(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g := h.connectedGuest(5)
		s := h.keeper.of(g)
		s.execute = slow(time.Second)
		g.submit(command("what was checked"))
		for state := range byte(255) {
			g.put(1<<31, state&^2, 4, 200, bytes.Repeat([]byte("evil"), 1000)) // neither finish nor cancel
			g.bell.ring()
			settle()
		}
		time.Sleep(time.Second)
		settle()
		if want := [][]byte{command("what was checked")}; !cmp.Equal(s.executed[:1], want) {
			t.Errorf("executed were %q", s.executed)
		}
		for _, c := range s.executed {
			if len(c) > vtpm.BufferSize {
				t.Errorf("a command of %d bytes was executed", len(c))
			}
		}
		s.execute = nil
		g.works()
	})
}

func TestCancel(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g := h.connectedGuest(5)
		s := h.keeper.of(g)
		cancelled := make(chan struct{}, 10)
		s.cancel = func() { cancelled <- struct{}{} }
		s.execute = func(context.Context, []byte) ([]byte, error) {
			<-cancelled
			return []byte("it was cancelled"), nil
		}
		g.submit(command("a long one"))
		for range 5 {
			atomic.StoreUint32(&g.page[1], 3)
			g.bell.ring()
		}
		settle()
		if state, packet := g.got(); state != 2 || string(packet) != "it was cancelled" || s.cancelled != 1 {
			t.Errorf("state %d, response %q, cancelled %d times", state, packet, s.cancelled)
		}
		s.execute = nil
		g.works()
	})
}

// A command that can't be cancelled: the guest gets an answer nevertheless, and never the response to another.
func TestCancelThatDoesNothingIsAnsweredInTime(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g := h.connectedGuest(5)
		s := h.keeper.of(g)
		s.execute = slow(time.Minute)
		g.submit(command("a long one"))
		atomic.StoreUint32(&g.page[1], 3)
		g.bell.ring()
		time.Sleep(2 * time.Second)
		settle()
		if state, _ := g.got(); state != 0 {
			t.Fatalf("state %d after two seconds", state)
		}
		s.mu.Lock()
		s.execute = nil
		s.mu.Unlock()
		g.submit(command("the next"))
		if state, _ := g.got(); state != 1 {
			t.Fatalf("state %d while the first command is under way", state)
		}
		time.Sleep(time.Minute)
		settle()
		g.answered(command("the next"))
	})
}

func TestCancelOfNothing(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g := h.connectedGuest(5)
		g.put(0, 3, 0, 0, nil)
		g.bell.ring()
		settle()
		if state, _ := g.got(); state != 0 || h.keeper.of(g).cancelled != 0 {
			t.Errorf("state %d, cancelled %d times", state, h.keeper.of(g).cancelled)
		}
	})
}

func TestFailedVTPMIsGoneForThisGuestAlone(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g, other := h.connectedGuest(5), h.connectedGuest(6)
		h.keeper.of(g).execute = func(context.Context, []byte) ([]byte, error) { return nil, errors.New("the emulator died") }
		g.submit(command("x"))
		if state, packet := g.got(); state != 0 || !bytes.Equal(packet, command("x")) {
			t.Errorf("state %d, packet %q", state, packet)
		}
		g.state("6")
		if cause, _ := h.toolstack.Read("error/backend/vtpm/5/0/error"); !strings.Contains(cause, "the emulator died") {
			t.Errorf("the cause in xenstore: %q", cause)
		}
		g.write("state", "6")
		g.write("state", "1")
		g.share()
		g.write("state", "3")
		settle()
		g.state("6")
		if n := len(h.keeper.attaches()); n != 2 {
			t.Errorf("the keeper was asked %d times for two guests", n)
		}
		other.works()
		g.remove()
		settle()
		g.history(0, 1)
	})
}

// Whoever rings all the time is heard five hundred times a second, and others are heard as before.
func TestStormOfRings(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g, other := h.connectedGuest(5), h.connectedGuest(6)
		before, _ := g.bell.counts()
		storm := time.Now()
		for range 2000 {
			g.bell.ring()
			time.Sleep(100 * time.Microsecond)
		}
		took := time.Since(storm)
		heard, _ := g.bell.counts()
		if most := int(took/(2*time.Millisecond)) + 2; heard-before > most {
			t.Errorf("%d rings were heard in %v; want at most %d", heard-before, took, most)
		}
		other.works()
		g.works()
	})
}

func TestDuplicateWatchesChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.store.Duplicates = 50
		g := h.build(5)
		states := h.follow(g.back("state"))
		h.start()
		g.attach(nil)
		settle()
		g.run()
		g.works()
		h.stop()
		// What it was before the backend's first look may be seen or not.
		distinct := slices.DeleteFunc(slices.Compact(states()), func(s string) bool { return s == "" || s == "1" })
		if d := cmp.Diff([]string{"2", "4"}, distinct); d != "" {
			t.Error(d)
		}
		if n := len(h.keeper.attaches()); n != 1 {
			t.Errorf("the keeper was asked %d times", n)
		}
	})
}

func TestStormOfStates(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g, other := h.connectedGuest(5), h.connectedGuest(6)
		for i := range 500 {
			g.write("state", fmt.Sprint(i%8))
			g.write("ring-ref", fmt.Sprint(i%3))
			if i%50 == 0 {
				other.works()
			}
		}
		g.write("state", "6")
		settle()
		g.run()
		g.works()
		if n := strings.Count(h.log.String(), "domain=5"); n > 20 {
			t.Errorf("%d lines about one guest", n)
		}
	})
}

func TestLogIsNotTheGuests(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g := h.connectedGuest(5)
		for range 200 {
			g.put(1, 1, 0, 0, nil)
			g.bell.ring()
			settle()
		}
		if n := strings.Count(h.log.String(), "a command was refused"); n == 0 || n > 20 {
			t.Errorf("%d lines about what one guest did", n)
		}
	})
}

func TestGuestWhoseVTPMHangsHoldsUpNobodyElse(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g, other := h.connectedGuest(5), h.connectedGuest(6)
		h.keeper.of(g).execute = slow(time.Hour)
		g.submit(command("x"))
		other.works()
		time.Sleep(time.Hour)
		g.settled()
	})
}

func TestKeeperDecidesWhoHasTheUUID(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		g := h.connectedGuest(5)
		h.keeper.refuse["xen:6"] = errors.New("xen:5 has it")
		other := h.build(6)
		other.attach(nil)
		settle()
		other.state("")
		if cause, _ := h.toolstack.Read("error/backend/vtpm/6/0/error"); cause != "the guest gets no vTPM: xen:5 has it" {
			t.Errorf("the cause in xenstore: %q", cause)
		}
		g.works()
	})
}

// FuzzHostileGuest has a guest write anything, anywhere that it can, at any time.
func FuzzHostileGuest(f *testing.F) {
	const word, ring, state, reference, back, pause = 0, 1, 2, 3, 4, 5
	f.Add([]byte{word, 1, 1, word, 0, 12, ring, 0, 0, pause, 0, 0})
	f.Add([]byte{word, 1, 3, ring, 0, 0, word, 1, 1, ring, 0, 0, state, 6, 0, state, 3, 0, pause, 0, 0})
	f.Add([]byte{word, 0, 255, word, 1, 1, ring, 0, 0, pause, 0, 0, reference, 99, 0, state, 3, 0, pause, 0, 0, state, 5, 0})
	f.Add([]byte{word, 0, 200, word, 1, 1, ring, 0, 0, back, 5, 0, pause, 0, 0, back, 1, 0, pause, 0, 0})
	f.Fuzz(func(t *testing.T, deeds []byte) {
		if len(deeds) > 300 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			h.start()
			g, other := h.connectedGuest(5), h.connectedGuest(6)
			h.keeper.of(g).execute = func(_ context.Context, c []byte) ([]byte, error) {
				time.Sleep(time.Duration(c[0]) * time.Millisecond)
				return append(c, c...), nil // sometimes too long
			}
			for ; len(deeds) >= 3; deeds = deeds[3:] {
				switch a, b := deeds[1], deeds[2]; deeds[0] % 6 {
				case word:
					value := uint32(b) * 0x01010101
					if a <= 1 { // length and state are more interesting when they are small
						value = uint32(b)
					}
					atomic.StoreUint32(&g.page[(int(a)*int(a))%1024], value)
				case ring:
					g.bell.ring()
				case state:
					g.write("state", fmt.Sprint(a))
				case reference:
					g.write("ring-ref", string(deeds[1:2]))
				case back:
					h.must(h.toolstack.Write(g.back("state"), fmt.Sprint(1+a%6)))
				case pause:
					settle()
				}
			}
			settle()
			for _, c := range h.keeper.of(g).executed {
				if len(c) < 10 || len(c) > vtpm.BufferSize {
					t.Errorf("a command of %d bytes was executed", len(c))
				}
			}
			if others := h.keeper.of(other); len(others.executed) != 0 {
				t.Errorf("the other guest's vTPM executed %q", others.executed)
			}
			other.works()
			if d := cmp.Diff([]tpm.Locality{0}, h.keeper.of(other).localities); d != "" {
				t.Error(d)
			}
			h.stop()
		})
	})
}
