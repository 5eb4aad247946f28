package qemu_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// The same requests to swtpm and to the server have the same answers, off and on. What
// swtpm offers and a guest must not have is listed with what it gets instead.
func TestAnswersAreSwtpms(t *testing.T) {
	testbed.Need(t, "swtpm")
	u32 := func(list ...uint32) []byte {
		var b []byte
		for _, w := range list {
			b = binary.BigEndian.AppendUint32(b, w)
		}
		return b
	}
	requests := []swtpm.Request{
		{Command: swtpm.CmdGetCapability}, {Command: swtpm.CmdGetConfig},
		{Command: swtpm.CmdSetDataFD}, // there is a channel already
		{Command: swtpm.CmdGetEstablished},
		{Command: swtpm.CmdResetEstablished, Payload: []byte{0}}, {Command: swtpm.CmdResetEstablished, Payload: []byte{3}},
		{Command: swtpm.CmdResetEstablished, Payload: []byte{4}}, {Command: swtpm.CmdResetEstablished, Payload: []byte{255}},
		{Command: swtpm.CmdSetLocality, Payload: []byte{3}}, {Command: swtpm.CmdSetLocality, Payload: []byte{4}},
		{Command: swtpm.CmdSetLocality, Payload: []byte{5}}, {Command: swtpm.CmdSetLocality, Payload: []byte{0}},
		{Command: swtpm.CmdCancel}, {Command: swtpm.CmdStoreVolatile}, {Command: swtpm.CmdHashStart}, {Command: swtpm.CmdHashEnd},
		{Command: swtpm.CmdGetStateBlob, Payload: u32(0, 9, 0)},
		{Command: swtpm.CmdSetBufferSize, Payload: u32(4096)}, {Command: swtpm.CmdSetBufferSize, Payload: u32(1)},
		{Command: swtpm.CmdSetBufferSize, Payload: u32(4000)}, {Command: swtpm.CmdSetBufferSize, Payload: u32(0)},
		{Command: swtpm.CmdGetInfo, Payload: u32(0, 0, 0, 0)}, {Command: swtpm.CmdGetInfo, Payload: u32(0, 0, 1, 0)},
		{Command: swtpm.CmdGetInfo, Payload: u32(0, 0, 2, 0)},
		{Command: 0x13, Payload: u32(0)}, // CMD_LOCK_STORAGE, of later versions
		{Command: swtpm.CmdStop},
	}
	// The power, the request, swtpm's answer and ours.
	different := map[tpm.Version][]string{
		tpm.V20: {
			"off 0x1 : 000000000000ffff, here 0000000000007caf",
			"off 0x5 04: 00000000, here 0000003d",
			"off 0xc 000000000000000900000000: 0000000a, here 0000000a000000000000000000000000",
			"off 0x11 00001000: 000000000000100000000af800001000, here 0000000000000ff800000af800000ff8",
			"off 0x11 00000001: 0000000000000af800000af800001000, here 0000000000000af800000af800000ff8",
			"off 0x11 00000fa0: 0000000000000fa000000af800001000, here 0000000000000fa000000af800000ff8",
			"off 0x11 00000000: 0000000000000fa000000af800001000, here 0000000000000fa000000af800000ff8",
			"on 0x1 : 000000000000ffff, here 0000000000007caf",
			"on 0x5 04: 00000000, here 0000003d",
			"on 0xa : 00000000, here 0000000a",
			"on 0x6 : 00000000, here 0000000a",
			"on 0x8 : 00000000, here 0000000a",
			"on 0xc 000000000000000900000000: 00000800000000000000000000000000, here 0000000a000000000000000000000000",
			"on 0x11 00000000: 0000000000000fa000000af800001000, here 0000000000000fa000000af800000ff8",
		},
		tpm.V12: {
			"off 0x1 : 0000000000007fff, here 0000000000007caf",
			"off 0x5 04: 00000000, here 0000003d",
			"off 0xc 000000000000000900000000: 0000000a, here 0000000a000000000000000000000000",
			"off 0x11 00001000: 000000000000100000000c0000001000, here 0000000000000ff800000c0000000ff8",
			"off 0x11 00000001: 0000000000000c0000000c0000001000, here 0000000000000c0000000c0000000ff8",
			"off 0x11 00000fa0: 0000000000000fa000000c0000001000, here 0000000000000fa000000c0000000ff8",
			"off 0x11 00000000: 0000000000000fa000000c0000001000, here 0000000000000fa000000c0000000ff8",
			"on 0x1 : 0000000000007fff, here 0000000000007caf",
			"on 0x5 04: 00000000, here 0000003d",
			"on 0x9 : 00000009, here 00000000", // the session's word: a TPM 1.2 can't cancel
			"on 0xa : 00000000, here 0000000a",
			"on 0x6 : 00000026, here 0000000a",
			"on 0x8 : 0000001a, here 0000000a",
			"on 0xc 000000000000000900000000: 00000800000000000000000000000000, here 0000000a000000000000000000000000",
			"on 0x11 00000000: 0000000000000fa000000c0000001000, here 0000000000000fa000000c0000000ff8",
		},
	}
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		ours := serve(t, newFake(v)).dial(t)
		conn, e := testbed.NewTPM(t, v)
		conn.Close()
		ctl, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: e.Socket(), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		theirs := &client{t: t, ctl: ctl}
		t.Cleanup(theirs.die)
		for _, c := range []*client{ours, theirs} {
			c.want("00000003", swtpm.CmdSetDataFD)
			c.open()
			c.want("00000000", swtpm.CmdStop)
		}
		var got []string
		for _, power := range []string{"off", "on"} {
			if power == "on" {
				for _, c := range []*client{ours, theirs} {
					c.want("00000000", swtpm.CmdInit, 0, 0, 0, 0)
				}
			}
			// A probe for the family, and a length that is not true.
			for _, command := range [][]byte{readClock, append([]byte("\x00\xc1"), readClock[2:]...), append(readClock[:len(readClock):len(readClock)], 0, 0)} {
				if power == "on" && len(command) == len(readClock) {
					continue // the session's to answer
				}
				if a, b := theirs.send(command), ours.send(command); !bytes.Equal(a, b) {
					got = append(got, fmt.Sprintf("%s, data %x: %x, here %x", power, command, a, b))
				}
			}
			for _, q := range requests {
				a, err := theirs.ask(q.Command, q.Payload)
				if err != nil {
					t.Fatal(err)
				}
				b, err := ours.ask(q.Command, q.Payload)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(a, b) {
					got = append(got, fmt.Sprintf("%s %#x %x: %x, here %x", power, uint32(q.Command), q.Payload, a, b))
				}
			}
		}
		if diff := cmp.Diff(different[v], got); diff != "" {
			t.Errorf("%s: %s", v, diff)
		}
	}
}
