package tis_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/tis"
)

// clock is a fake: time passes only when somebody sleeps.
type clock struct {
	now    time.Time
	sleeps int
	wake   func() // called after each sleep
}

func newClock() *clock { return &clock{now: time.Unix(1e9, 0)} }

func (c *clock) Now() time.Time { return c.now }
func (c *clock) Sleep(d time.Duration) {
	c.now = c.now.Add(d)
	c.sleeps++
	if c.wake != nil {
		c.wake()
	}
}

// The states of a TPM's command (PTP 1.05, clause 6.5.2.5's state table).
const (
	idle = iota
	ready
	reception
	execution
	completion
)

// model is a fake: the registers of a TPM, which behave as TIS and PTP demand, and
// which a test bends with its fields. It complains of accesses that the
// specification does not allow.
type model struct {
	t     testing.TB
	clock *clock
	kind  tis.Kind

	burst   int           // bytes that the FIFO takes or gives at once
	busy    time.Duration // how long a command takes
	shut    [5]bool       // localities that the chipset keeps closed
	active  int           // the locality that has the TPM, or -1
	greedy  bool          // whoever has the TPM doesn't let go
	only0   bool          // the CRB has one locality
	deaf    bool          // a command can't be cancelled
	lag     time.Duration // how long cancelling takes
	mute    bool          // a command never ends
	short   int           // bytes by which the FIFO's response ends too early, once
	respond func(l int, cmd []byte) []byte
	read    func(offset, value uint32) uint32 // has the last word on what is read

	state     int
	in, out   []byte
	at        int
	done      time.Time
	commands  []int // the localities of the commands that came
	cancelled int
	aborting  bool
	abortAt   time.Time
	pending   [5]bool // requests that were not granted
	lost      int     // writes to closed localities
	retried   int
	ints      [5]uint32
	request   uint32 // CTRL_REQ
	start     uint32
	buffer    [5][0x1000]byte
}

func newModel(t testing.TB, kind tis.Kind) *model {
	m := &model{t: t, clock: newClock(), kind: kind, burst: 7, active: -1}
	for i := range m.ints {
		m.ints[i] = 1<<31 | 5
	}
	m.respond = func(l int, cmd []byte) []byte { return response(0x8001, uint32(l), cmd[10:]) }
	return m
}

func response(tag uint16, code uint32, body []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, tag)
	b = binary.BigEndian.AppendUint32(b, uint32(10+len(body)))
	return append(binary.BigEndian.AppendUint32(b, code), body...)
}

func command(code uint32, body ...byte) []byte { return response(0x8001, code, body) }

func (m *model) open(c tis.Config) (*tis.Channel, error) {
	c.Clock = m.clock
	return tis.New(m.t.Context(), m, c)
}

func (m *model) mustOpen(l tpm.Locality) *tis.Channel {
	m.t.Helper()
	c, err := m.open(tis.Config{Locality: l})
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

func (m *model) advance() {
	if m.state == execution && m.aborting && !m.clock.now.Before(m.abortAt) {
		m.state, m.start, m.aborting = idle, 0, false
	}
	if m.state == execution && !m.mute && !m.clock.now.Before(m.done) {
		m.state, m.start = completion, 0
		m.out, m.at = m.respond(m.active, m.in), 0
		if m.kind == tis.CRB {
			copy(m.buffer[m.active][0x80:], m.out)
		}
	}
}

func (m *model) execute(cmd []byte) {
	m.in, m.state, m.done = cmd, execution, m.clock.now.Add(m.busy)
	m.commands = append(m.commands, m.active)
}

func (m *model) abort() {
	if m.state == execution && !m.deaf && !m.aborting {
		m.cancelled++
		m.aborting, m.abortAt = true, m.clock.now.Add(m.lag)
		m.advance()
	}
}

func (m *model) Read8(offset uint32) uint8   { return uint8(m.load(offset, 8)) }
func (m *model) Read32(offset uint32) uint32 { return m.load(offset, 32) }

func (m *model) load(offset uint32, width int) uint32 {
	m.advance()
	v := m.crbLoad
	if m.kind == tis.FIFO {
		v = m.fifoLoad
	}
	value := v(int(offset>>12), offset&0xfff, width)
	if m.shut[offset>>12] {
		value = ^uint32(0)
	}
	if m.read != nil {
		value = m.read(offset, value)
	}
	return value
}

func (m *model) fifoLoad(l int, reg uint32, width int) uint32 {
	switch {
	case reg == 0 && width == 8:
		v := uint32(0x81)
		if m.active == l {
			v |= 0x20
		}
		return v
	case reg == 0x08 && width == 32:
		return m.ints[l]
	case reg == 0x30 && width == 32:
		return 0
	case reg == 0xf00 && width == 32:
		return 0x00011014
	case reg == 0x18:
		if m.active != l {
			return ^uint32(0)
		}
		v := uint32(0x80 | m.burst<<8)
		switch m.state {
		case ready:
			v |= 0x40
		case reception:
			if len(m.in) < 6 || len(m.in) < int(binary.BigEndian.Uint32(m.in[2:])) {
				v |= 0x08
			}
		case execution:
			v = 0 // busy
		case completion:
			left := max(0, len(m.out)-m.short-m.at)
			v = uint32(0x80 | min(m.burst, left)<<8)
			if left > 0 {
				v |= 0x10
			}
		}
		return v
	case reg == 0x24 && width == 8 && m.active == l:
		if m.state != completion || m.at >= len(m.out) {
			m.t.Errorf("locality %d read beyond the response's end", l)
			return 0xff
		}
		m.at++
		return uint32(m.out[m.at-1])
	}
	m.t.Errorf("locality %d read the FIFO's register %#x with %d bits", l, reg, width)
	return ^uint32(0)
}

func (m *model) crbLoad(l int, reg uint32, width int) uint32 {
	switch {
	case reg >= 0x80 && width == 8:
		return uint32(m.buffer[l][reg])
	case width != 32:
	case reg == 0x00:
		v := uint32(0x81)
		if m.active >= 0 {
			v |= 2 | uint32(m.active)<<2
		}
		return v
	case reg == 0x0c:
		if m.active == l {
			return 1
		}
		return 0
	case reg == 0x30 && m.only0:
		return 0x4011
	case reg == 0x30:
		return 0x4111
	case reg == 0x34:
		return 0x00011014
	case reg == 0xf00:
		return 0
	case reg == 0x40:
		return m.request
	case reg == 0x44:
		if m.state == idle {
			return 2
		}
		return 0
	case reg == 0x4c:
		return m.start
	case reg == 0x50:
		return m.ints[l]
	case reg == 0x58, reg == 0x64:
		return 0xf80
	case reg == 0x5c, reg == 0x68:
		return tis.Base + uint32(l)<<12 + 0x80
	case reg == 0x60, reg == 0x6c:
		return 0
	}
	m.t.Errorf("locality %d read the CRB's register %#x with %d bits", l, reg, width)
	return ^uint32(0)
}

func (m *model) Write8(offset uint32, v uint8) {
	l, reg := int(offset>>12), offset&0xfff
	m.advance()
	switch {
	case m.shut[l]:
		m.lost++
	case m.kind == tis.CRB && reg >= 0x80:
		m.buffer[l][reg] = v
	case m.kind == tis.FIFO && reg == 0 && v == 0x02:
		m.take(l)
	case m.kind == tis.FIFO && reg == 0 && v == 0x20:
		m.leave(l)
	case m.kind == tis.FIFO && m.active != l && (reg == 0x18 || reg == 0x24):
		// Without the locality, what it writes is dropped.
	case m.kind == tis.FIFO && reg == 0x18 && v == 0x40:
		switch m.state {
		case execution:
			m.abort()
		case idle:
			m.state, m.in = ready, nil
		case reception, completion:
			m.state = idle
		}
	case m.kind == tis.FIFO && reg == 0x18 && v == 0x20:
		m.execute(m.in)
	case m.kind == tis.FIFO && reg == 0x18 && v == 0x02:
		m.at, m.short = 0, 0
		m.retried++
	case m.kind == tis.FIFO && reg == 0x24 && (m.state == ready || m.state == reception):
		m.in, m.state = append(m.in, v), reception
	default:
		m.t.Errorf("locality %d wrote %#x to register %#x with 8 bits in state %d", l, v, reg, m.state)
	}
}

func (m *model) Write32(offset, v uint32) {
	l, reg := int(offset>>12), offset&0xfff
	m.advance()
	switch {
	case m.shut[l]:
		m.lost++
	case m.kind == tis.FIFO && reg == 0x08, m.kind == tis.CRB && reg == 0x50:
		m.ints[l] = v
	case m.kind == tis.CRB && reg == 0x08 && v == 1:
		m.take(l)
	case m.kind == tis.CRB && reg == 0x08 && v == 2:
		m.leave(l)
	case m.kind == tis.CRB && m.active != l && reg >= 0x40:
	case m.kind == tis.CRB && reg == 0x40 && v == 1:
		m.state = ready
	case m.kind == tis.CRB && reg == 0x40 && v == 2:
		m.state = idle
	case m.kind == tis.CRB && reg == 0x48 && v == 1:
		m.abort()
	case m.kind == tis.CRB && reg == 0x48 && v == 0:
	case m.kind == tis.CRB && reg == 0x4c && v == 1:
		in := m.buffer[l][0x80:]
		m.start = 1
		m.execute(append([]byte(nil), in[:binary.BigEndian.Uint32(in[2:])]...))
	default:
		m.t.Errorf("locality %d wrote %#x to register %#x with 32 bits in state %d", l, v, reg, m.state)
	}
}

func (m *model) take(l int) {
	if m.active < 0 || !m.greedy {
		m.active = l
	} else if m.active != l {
		m.pending[l] = true
	}
}

func (m *model) leave(l int) {
	m.pending[l] = false
	if m.active == l {
		m.active, m.state = -1, idle
	}
}
