package qemu_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
)

// QEMU asks for the family before the machine runs, by the tag of what an
// unpowered TPM answers.
func TestATPMThatIsOffShowsItsFamily(t *testing.T) {
	for v, want := range map[tpm.Version][]byte{tpm.V20: response(tpm.V20, 0x101), tpm.V12: response(tpm.V12, 9)} {
		f := newFake(v)
		c := serve(t, f).dial(t)
		c.open()
		if got := c.send(readClock); !bytes.Equal(got, want) {
			t.Errorf("%s: %x", v, got)
		}
		c.want("00000000", swtpm.CmdInit, 0, 0, 0, 0)
		c.want("00000000", swtpm.CmdStop)
		if got := c.send(readClock); !bytes.Equal(got, want) {
			t.Errorf("%s, after it was stopped: %x", v, got)
		}
		if diff := cmp.Diff([]string{"attach"}, f.all()); diff != "" {
			t.Error(diff)
		}
	}
}

// A command's header is the guest's own, and may claim any length; the device sends
// what it has. None of that may keep QEMU waiting, and the next command is whole again.
func TestALengthThatIsNotTrueIsAnswered(t *testing.T) {
	sized := func(claimed uint32, n int) []byte {
		b := binary.BigEndian.AppendUint32([]byte{0x80, 1}, claimed)
		return append(b, make([]byte, max(n, 6)-6)...)[:n]
	}
	for _, c := range []struct {
		name    string
		command []byte
	}{
		{"less than a header's length", sized(0, 10)},
		{"only a tag", sized(10, 2)},
		{"no room for the length", sized(0x1ff, 5)},
		{"a claim shorter than a header", sized(9, 9)},
		{"more than was claimed", sized(10, 20)},
		{"more claimed than there is room for", sized(4001, 4000)},
		{"all that can be claimed", sized(0xffffffff, 4000)},
		{"a piece longer than the room", sized(4096, 4096)},
	} {
		f := newFake(tpm.V20)
		q := serve(t, f).dial(t)
		q.open()
		q.want("00000000"+"00000fa0"+"00000af8"+"00000ff8", swtpm.CmdSetBufferSize, 0, 0, 0x0f, 0xa0)
		q.want("00000000", swtpm.CmdInit, 0, 0, 0, 0)
		if got := q.send(c.command); !bytes.Equal(got, response(tpm.V20, 0x142)) {
			t.Errorf("%s: %x", c.name, got)
		}
		if got := q.send(readClock); !bytes.Equal(got, response(tpm.V20, 0)) {
			t.Errorf("after %s: %x", c.name, got)
		}
		if diff := cmp.Diff([]string{"attach", "execute at 0: 80010000000a00000181"}, f.all()); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestACommandMayArriveInTwoPieces(t *testing.T) {
	f := newFake(tpm.V20)
	c := serve(t, f).start(t)
	c.data.Write(readClock[:6])
	f.note("the first piece")
	c.send(readClock[6:])
	if diff := cmp.Diff([]string{"attach", "the first piece", "execute at 0: 80010000000a00000181"}, f.all()); diff != "" {
		t.Error(diff)
	}
}

// QEMU's tpm-crb reads a response of any length into its 3968 bytes.
func TestAResponseLongerThanTheDeviceDoesNotGetThere(t *testing.T) {
	f := newFake(tpm.V20)
	size := 3968
	f.execute = func(context.Context, tpm.Locality, []byte) ([]byte, error) {
		return append(binary.BigEndian.AppendUint32([]byte{0x80, 1}, uint32(size)), make([]byte, size-6)...), nil
	}
	c := serve(t, f).dial(t)
	c.open()
	c.want("00000000"+"00000f80"+"00000af8"+"00000ff8", swtpm.CmdSetBufferSize, 0, 0, 15, 0x80)
	c.want("00000000", swtpm.CmdInit, 0, 0, 0, 0)
	if got := c.send(readClock); len(got) != size {
		t.Errorf("%d bytes of %d arrived", len(got), size)
	}
	size++
	if got := c.send(readClock); !bytes.Equal(got, response(tpm.V20, 0x101)) {
		t.Errorf("%d bytes: %.20x", size, got)
	}
}

// The keeper starts the vTPM; the firmware, too, and would switch it off if it heard so.
// A guest's own second start is answered as the TPM answers it.
func TestTheFirmwareIsTheFirstInItsMachine(t *testing.T) {
	for v, startup := range map[tpm.Version][]byte{tpm.V20: startup20, tpm.V12: startup12} {
		f := newFake(v)
		code := map[tpm.Version]uint32{tpm.V20: 0x100, tpm.V12: 0x26}[v]
		f.execute = func(context.Context, tpm.Locality, []byte) ([]byte, error) { return response(v, code), nil }
		c := serve(t, f).start(t)
		check := func(when string, command []byte, want uint32) {
			t.Helper()
			if got := c.send(command); !bytes.Equal(got, response(v, want)) {
				t.Errorf("%s, %s: %x", v, when, got)
			}
		}
		check("another command", readClock, code)
		check("the first start", startup, 0)
		check("the second start", startup, code)
		c.want("00000000", swtpm.CmdInit, 0, 0, 0, 0)
		code = 0x0d
		check("a start that fails", startup, 0x0d)
	}
}
