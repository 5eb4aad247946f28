package tis_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/tis"
)

var _ tpm.LocalityChannel = (*tis.Channel)(nil)

// both runs a test against a FIFO and a CRB.
func both(t *testing.T, test func(*testing.T, *model)) {
	for _, kind := range []tis.Kind{tis.FIFO, tis.CRB} {
		t.Run(kind.String(), func(t *testing.T) { test(t, newModel(t, kind)) })
	}
}

func TestCommandsReachTheTPMAtTheLocality(t *testing.T) {
	both(t, func(t *testing.T, m *model) {
		c := m.mustOpen(2)
		if c.Kind != m.kind {
			t.Errorf("it was taken for a %s", c.Kind)
		}
		for _, n := range []int{0, 1, 6, 7, 1000} {
			body := bytes.Repeat([]byte{byte(n), 0xff}, n)
			got, err := c.Send(command(0x182, body...))
			if d := cmp.Diff(response(0x8001, 2, body), got); err != nil || d != "" {
				t.Fatalf("a body of %d bytes: %v, %s", len(body), err, d)
			}
		}
		if err := c.SetLocality(3); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Send(command(0x182)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]int{2, 2, 2, 2, 2, 3}, m.commands); d != "" {
			t.Error(d)
		}
		if err := errors.Join(c.Close(), c.Close()); err != nil || m.active != -1 {
			t.Errorf("closed: %v, and locality %d still has the TPM", err, m.active)
		}
		if _, err := c.Send(command(0x182)); !errors.Is(err, tis.ErrClosed) {
			t.Errorf("a command after that: %v", err)
		}
		if err := c.SetLocality(1); !errors.Is(err, tis.ErrClosed) {
			t.Errorf("a locality after that: %v", err)
		}
	})
}

func TestInterruptsAreOffMeanwhile(t *testing.T) {
	both(t, func(t *testing.T, m *model) {
		c := m.mustOpen(1)
		if m.ints[1] != 5 {
			t.Errorf("INT_ENABLE is %#x while the locality is held", m.ints[1])
		}
		c.Close()
		if m.ints[1] != 1<<31|5 {
			t.Errorf("INT_ENABLE is %#x afterwards", m.ints[1])
		}
	})
}

func TestNothingIsSentThatIsNoCommand(t *testing.T) {
	both(t, func(t *testing.T, m *model) {
		c := m.mustOpen(0)
		long := command(0x182, make([]byte, 5000)...)
		liar := command(0x182, 1, 2)
		liar[5] = 11
		for _, cmd := range [][]byte{nil, make([]byte, 9), long, liar} {
			if _, err := c.Send(cmd); !errors.Is(err, tis.ErrCommand) || len(m.commands) > 0 {
				t.Errorf("%d bytes: %v, %d commands arrived", len(cmd), err, len(m.commands))
			}
		}
	})
}

func TestACommandLargerThanTheBufferIsRefused(t *testing.T) {
	m := newModel(t, tis.CRB)
	c := m.mustOpen(0)
	if _, err := c.Send(command(0x182, make([]byte, 0xf80-9)...)); !errors.Is(err, tis.ErrCommand) {
		t.Error(err)
	}
	if _, err := c.Send(command(0x182, make([]byte, 0xf80-10)...)); err != nil {
		t.Errorf("one that just fits: %v", err)
	}
}

// A command that was left half-way by another program must not be in the way.
func TestLeftoversAreRemoved(t *testing.T) {
	for _, state := range []int{idle, ready, reception, completion} {
		m := newModel(t, tis.FIFO)
		c := m.mustOpen(2)
		m.state, m.out, m.at = state, []byte{1, 2, 3}, 0
		if m.in = nil; state == reception {
			m.in = []byte{0x80}
		}
		if _, err := c.Send(command(0x182)); err != nil {
			t.Errorf("in state %d: %v", state, err)
		}
	}
}

func TestAResponseCutShortIsAskedForAgain(t *testing.T) {
	m := newModel(t, tis.FIFO)
	c := m.mustOpen(2)
	m.short = 3
	rsp, err := c.Send(command(0x182, 1, 2, 3, 4))
	if d := cmp.Diff(response(0x8001, 2, []byte{1, 2, 3, 4}), rsp); err != nil || d != "" || m.retried != 1 {
		t.Errorf("%v, %d retries, %s", err, m.retried, d)
	}
}

func TestContextsCancelCommands(t *testing.T) {
	both(t, func(t *testing.T, m *model) {
		c := m.mustOpen(2)
		m.busy, m.lag = time.Hour, 300*time.Millisecond
		ctx, cancel := context.WithCancel(t.Context())
		m.clock.wake = func() {
			if m.state == execution {
				cancel()
			}
		}
		if _, err := c.SendContext(ctx, command(0x182)); !errors.Is(err, context.Canceled) || m.cancelled != 1 {
			t.Errorf("%v, the TPM was told %d times", err, m.cancelled)
		}
		if m.state == execution {
			t.Error("the TPM still computes")
		}
		m.busy, m.clock.wake = 0, nil
		if _, err := c.Send(command(0x182)); err != nil {
			t.Errorf("the next command: %v", err)
		}
	})
}

func TestCommandsHaveTheirTime(t *testing.T) {
	tpm12 := func(code uint32) []byte { return response(0x00c1, code, nil) }
	for _, c := range []struct {
		name string
		cmd  []byte
		time time.Duration
	}{
		{"TPM2_PCR_Extend", command(0x182), 20 * time.Second},
		{"TPM2_CreatePrimary", command(0x131), 5 * time.Minute},
		{"TPM2_Unseal", command(0x15e), 2 * time.Minute},
		{"TPM_Extend", tpm12(0x14), 20 * time.Second},
		{"TPM_CreateWrapKey", tpm12(0x1f), 5 * time.Minute},
		{"TPM_NV_WriteValue", tpm12(0xcd), 2 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, m *model) {
				ch := m.mustOpen(2)
				m.busy = c.time - time.Second
				if _, err := ch.Send(c.cmd); err != nil {
					t.Errorf("it was cancelled too early: %v", err)
				}
				m.busy = c.time + time.Second
				if _, err := ch.Send(c.cmd); !errors.Is(err, tis.ErrTimeout) || m.cancelled != 1 {
					t.Errorf("%v, the TPM was told %d times", err, m.cancelled)
				}
			})
		})
	}
}

func TestALocalityThatIsRefusedNamesTheReason(t *testing.T) {
	both(t, func(t *testing.T, m *model) {
		m.shut[2] = true
		if _, err := m.open(tis.Config{Locality: 2}); !errors.Is(err, tis.ErrLocalityClosed) || !strings.Contains(err.Error(), "locality 2") || m.lost > 0 {
			t.Errorf("closed by the chipset: %v, after %d writes", err, m.lost)
		}
		if _, err := m.open(tis.Config{Locality: 4}); !errors.Is(err, tis.ErrLocalityClosed) {
			t.Errorf("the CPU's own: %v", err)
		}
		m.shut[2], m.active, m.greedy = false, 1, true
		start := m.clock.now
		_, err := m.open(tis.Config{Locality: 2})
		if !errors.Is(err, tis.ErrLocalityHeld) || !errors.Is(err, tis.ErrTimeout) || !strings.Contains(err.Error(), "it is locality 1") {
			t.Errorf("held by another: %v", err)
		}
		if waited := m.clock.now.Sub(start); waited < 750*time.Millisecond || waited > time.Second || m.active != 1 {
			t.Errorf("waited %v, and %d has the TPM", waited, m.active)
		}
		if m.pending[2] {
			t.Error("the request still stands")
		}
	})
}

func TestACRBWithOneLocalitySaysSo(t *testing.T) {
	m := newModel(t, tis.CRB)
	m.only0 = true
	if _, err := m.open(tis.Config{Locality: 2}); !errors.Is(err, tis.ErrLocalityClosed) || !strings.Contains(err.Error(), "locality 0 alone") {
		t.Error(err)
	}
	m.mustOpen(0)
}

// A refused change leaves the channel usable: at the locality that was asked for,
// never at another.
func TestARefusedChangeOfLocality(t *testing.T) {
	both(t, func(t *testing.T, m *model) {
		c := m.mustOpen(0)
		m.shut[2] = true
		if err := c.SetLocality(2); !errors.Is(err, tis.ErrLocalityClosed) || m.active != -1 {
			t.Errorf("%v, and %d has the TPM", err, m.active)
		}
		if _, err := c.Send(command(0x182)); !errors.Is(err, tis.ErrLocalityClosed) || len(m.commands) != 0 {
			t.Errorf("a command: %v; came at %v", err, m.commands)
		}
		m.shut[2] = false
		if _, err := c.Send(command(0x182)); err != nil || !cmp.Equal(m.commands, []int{2}) {
			t.Errorf("opened again: %v; came at %v", err, m.commands)
		}
	})
}

// The locality must be free for the driver whatever went wrong.
func TestTheLocalityIsGivenBackAfterErrors(t *testing.T) {
	both(t, func(t *testing.T, m *model) {
		c := m.mustOpen(2)
		m.mute, m.deaf = true, true
		if _, err := c.Send(command(0x182)); !errors.Is(err, tis.ErrTimeout) {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil || m.active != -1 {
			t.Errorf("%v, and %d has the TPM", err, m.active)
		}
	})
}

// Registers that lie: each ends in a clear error in bounded time.
func TestHostileRegisters(t *testing.T) {
	const page2 = 0x2000
	lieAbout := func(offset uint32, lie func(uint32) uint32) func(*model) {
		return func(m *model) {
			m.read = func(o, v uint32) uint32 {
				if o == offset {
					return lie(v)
				}
				return v
			}
		}
	}
	always := func(v uint32) func(uint32) uint32 { return func(uint32) uint32 { return v } }
	size := func(n uint32) func(*model) {
		return func(m *model) {
			m.respond = func(int, []byte) []byte {
				b := response(0x8001, 0, make([]byte, 6000))
				binary.BigEndian.PutUint32(b[2:], n)
				return b
			}
		}
	}
	ones := func(m *model) { m.read = func(uint32, uint32) uint32 { return ^uint32(0) } }
	for _, c := range []struct {
		name  string
		kind  tis.Kind
		bend  func(*model)
		want  error
		text  string
		limit time.Duration
	}{
		{"burst count 0 for ever", tis.FIFO, func(m *model) { m.burst = 0 }, tis.ErrTimeout, "burst count", 5 * time.Second},
		{"Expect never falls", tis.FIFO, lieAbout(page2+0x18, func(v uint32) uint32 { return v&^0x10 | 0x08 }), tis.ErrTimeout, "Expect falls", 5 * time.Second},
		{"Expect never rises", tis.FIFO, lieAbout(page2+0x18, func(v uint32) uint32 { return v &^ 0x08 }), tis.ErrResponse, "it expects nothing more", 5 * time.Second},
		{"Expect falls before the last byte", tis.FIFO, func(m *model) {
			m.burst = 100
			m.read = func(o, v uint32) uint32 {
				if o == page2+0x18 && m.state == reception && len(m.in) >= 49 {
					return v &^ 0x08
				}
				return v
			}
		}, tis.ErrTimeout, "last byte", 5 * time.Second},
		{"never ready", tis.FIFO, lieAbout(page2+0x18, always(0x80)), tis.ErrTimeout, "ready", 5 * time.Second},
		{"a response of 4 GiB", tis.FIFO, size(^uint32(0)), tis.ErrResponse, "4294967295", 5 * time.Second},
		{"a response of 9 bytes", tis.FIFO, size(9), tis.ErrResponse, "9 bytes", 5 * time.Second},
		{"more than was said", tis.FIFO, size(4096), tis.ErrResponse, "goes on", 5 * time.Second},
		{"less than was said", tis.FIFO, func(m *model) {
			m.respond = func(int, []byte) []byte { return response(0x8001, 0, make([]byte, 100))[:50] }
		}, tis.ErrResponse, "too early", 5 * time.Second},
		{"taken away", tis.FIFO, func(m *model) {
			m.busy = time.Second
			m.clock.wake = func() { m.active = 3 }
		}, tis.ErrLocalityHeld, "locality 3 took it", 5 * time.Second},
		{"closed in the middle", tis.FIFO, func(m *model) {
			m.busy = time.Second
			m.clock.wake = func() { m.shut[2] = true }
		}, tis.ErrLocalityClosed, "locality 2", 5 * time.Second},
		{"one byte every 700 ms", tis.FIFO, func(m *model) {
			m.burst = 1
			free := m.clock.now
			m.read = func(o, v uint32) uint32 {
				if o == page2+0x18 && v>>8&0xffff == 1 && m.state == completion {
					if m.clock.now.Before(free) {
						return v &^ 0xffff00
					}
				} else if o == page2+0x24 {
					free = m.clock.now.Add(700 * time.Millisecond)
				}
				return v
			}
		}, tis.ErrTimeout, "burst count", 35 * time.Second},
		{"all ones", tis.FIFO, ones, tis.ErrLocalityClosed, "", time.Second},

		{"never ready", tis.CRB, lieAbout(page2+0x40, always(1)), tis.ErrTimeout, "ready", 5 * time.Second},
		{"a fatal error", tis.CRB, lieAbout(page2+0x44, always(1)), tis.ErrInterface, "fatal", 5 * time.Second},
		{"never idle", tis.CRB, func(m *model) {
			m.read = func(o, v uint32) uint32 {
				if o == page2+0x40 && m.state == idle {
					return 2
				}
				return v
			}
		}, tis.ErrTimeout, "idle", 5 * time.Second},
		{"a response of 4 GiB", tis.CRB, size(^uint32(0)), tis.ErrResponse, "4294967295", 5 * time.Second},
		{"a response of 9 bytes", tis.CRB, size(9), tis.ErrResponse, "9 bytes", 5 * time.Second},
		{"a response beyond the buffer", tis.CRB, size(0xf81), tis.ErrResponse, "3969", 5 * time.Second},
		{"a command buffer in memory", tis.CRB, lieAbout(page2+0x5c, always(0x1000)), tis.ErrInterface, "command buffer", 5 * time.Second},
		{"a command buffer over the registers", tis.CRB, lieAbout(page2+0x5c, always(tis.Base+0x2040)), tis.ErrInterface, "command buffer", 5 * time.Second},
		{"a command buffer above 4 GiB", tis.CRB, lieAbout(page2+0x60, always(1)), tis.ErrInterface, "command buffer", 5 * time.Second},
		{"a response buffer behind the end", tis.CRB, lieAbout(page2+0x68, always(tis.Base+tis.Size)), tis.ErrInterface, "response buffer", 5 * time.Second},
		{"a response buffer of 4 GiB", tis.CRB, lieAbout(page2+0x64, always(^uint32(0))), tis.ErrInterface, "response buffer", 5 * time.Second},
		{"an empty response buffer", tis.CRB, lieAbout(page2+0x64, always(0)), tis.ErrInterface, "response buffer", 5 * time.Second},
		{"all ones", tis.CRB, ones, tis.ErrLocalityClosed, "", 5 * time.Second},
	} {
		t.Run(c.kind.String()+": "+c.name, func(t *testing.T) {
			m := newModel(t, c.kind)
			ch := m.mustOpen(2)
			start := m.clock.now
			c.bend(m)
			rsp, err := ch.Send(command(0x182, make([]byte, 40)...))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || rsp != nil {
				t.Errorf("%d bytes, %v", len(rsp), err)
			}
			if waited := m.clock.now.Sub(start); waited > c.limit {
				t.Errorf("it took %v", waited)
			}
			ch.Close()
			if waited := m.clock.now.Sub(start); waited > c.limit+2*time.Second {
				t.Errorf("with closing it took %v", waited)
			}
		})
	}
}

func TestAnAddressWithoutATPM(t *testing.T) {
	for _, v := range []uint32{0, ^uint32(0)} {
		m := newModel(t, tis.FIFO)
		m.read = func(uint32, uint32) uint32 { return v }
		if _, err := m.open(tis.Config{Locality: 2}); !errors.Is(err, tis.ErrNoTPM) || m.clock.sleeps > 0 {
			t.Errorf("all %#x: %v after %d pauses", v, err, m.clock.sleeps)
		}
	}
	for _, v := range []uint32{0, ^uint32(0)} {
		m := newModel(t, tis.CRB)
		m.read = func(o, value uint32) uint32 {
			if o == 0x34 {
				return v
			}
			return value
		}
		if _, err := m.open(tis.Config{}); !errors.Is(err, tis.ErrNoTPM) {
			t.Errorf("a CRB whose vendor is %#x: %v", v, err)
		}
	}
	m := newModel(t, tis.FIFO)
	m.read = func(o, v uint32) uint32 {
		if o == 0x30 {
			return 5
		}
		return v
	}
	if _, err := m.open(tis.Config{}); !errors.Is(err, tis.ErrInterface) {
		t.Errorf("an interface that nobody specified: %v", err)
	}
}

// A TPM 1.2 need not have INTERFACE_ID.
func TestAnOldFIFOIsFound(t *testing.T) {
	for _, id := range []uint32{^uint32(0), 0xf, 0} {
		m := newModel(t, tis.FIFO)
		m.read = func(o, v uint32) uint32 {
			if o == 0x30 {
				return id
			}
			return v
		}
		if c := m.mustOpen(2); c.Kind != tis.FIFO {
			t.Errorf("INTERFACE_ID %#x is taken for %s", id, c.Kind)
		}
	}
}

// However long a TPM computes, the process sleeps, and not for so long that it
// notices the end late.
func TestWaitingNeitherSpinsNorOversleeps(t *testing.T) {
	both(t, func(t *testing.T, m *model) {
		c := m.mustOpen(2)
		m.busy = 10 * time.Second
		start := m.clock.now
		if _, err := c.Send(command(0x182)); err != nil {
			t.Fatal(err)
		}
		if late := m.clock.now.Sub(start) - m.busy; late > 5*time.Millisecond || m.clock.sleeps > 2100 || m.clock.sleeps < 1900 {
			t.Errorf("%v late, %d pauses", late, m.clock.sleeps)
		}
	})
}

// seeds are responses for the fuzzer.
var seeds = [][]byte{
	nil, response(0x8001, 0, nil), response(0x00c4, 0x3d, []byte{1, 2, 3}), {0x80, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, make([]byte, 5000),
}

func FuzzResponses(f *testing.F) {
	for _, s := range seeds {
		f.Add(s, uint8(1), uint32(0xf80))
	}
	f.Fuzz(func(t *testing.T, sent []byte, burst uint8, size uint32) {
		for _, kind := range []tis.Kind{tis.FIFO, tis.CRB} {
			m := newModel(t, kind)
			m.burst = int(burst)
			m.respond = func(int, []byte) []byte { return sent }
			m.read = func(o, v uint32) uint32 {
				if kind == tis.CRB && o == 0x2064 {
					return size
				}
				return v
			}
			c := m.mustOpen(2)
			start := m.clock.now
			rsp, err := c.Send(command(0x182))
			switch {
			case err == nil && (len(rsp) < 10 || int(binary.BigEndian.Uint32(rsp[2:])) != len(rsp)):
				t.Errorf("%s: %d bytes were taken for a response", kind, len(rsp))
			case err == nil && len(sent) >= len(rsp) && !bytes.Equal(rsp, sent[:len(rsp)]):
				t.Errorf("%s: the response is not what the TPM sent", kind)
			case err != nil && rsp != nil:
				t.Errorf("%s: bytes and an error", kind)
			}
			if waited := m.clock.now.Sub(start); waited > time.Minute {
				t.Errorf("%s: it took %v", kind, waited)
			}
			if err := c.Close(); err != nil || m.active != -1 {
				t.Errorf("%s: closed: %v", kind, err)
			}
		}
	})
}
