package qemu_test

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
)

func TestLocalitiesReachTheSession(t *testing.T) {
	f := newFake(tpm.V20)
	c := serve(t, f).start(t)
	// QEMU sends the whole union, of four bytes.
	for _, l := range []byte{0, 1, 2, 3} {
		c.want("00000000", swtpm.CmdSetLocality, l, 0, 0, 0)
		c.send(readClock)
	}
	// What is refused changes nothing.
	for _, l := range []byte{4, 5, 255} {
		c.want("0000003d", swtpm.CmdSetLocality, l, 0, 0, 0)
	}
	c.send(readClock)
	var at []string
	for _, line := range f.all()[1:] {
		at = append(at, strings.Fields(line)[2])
	}
	if !slices.Equal(at, []string{"0:", "1:", "2:", "3:", "3:"}) {
		t.Errorf("the commands came at %q", at)
	}
}

// tpm-tis asks for 4096, tpm-crb for 3968; a vTPM has 4088.
func TestTheBufferIsNegotiated(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		least := map[tpm.Version]string{tpm.V20: "00000af8", tpm.V12: "00000c00"}[v]
		c := serve(t, newFake(v)).dial(t)
		answer := func(now string) string { return "00000000" + now + least + "00000ff8" }
		c.want(answer("00000ff8"), swtpm.CmdSetBufferSize, 0, 0, 0, 0)
		c.want(answer("00000ff8"), swtpm.CmdSetBufferSize, 0, 0, 16, 0)
		c.want(answer("00000f80"), swtpm.CmdSetBufferSize, 0, 0, 15, 0x80)
		c.want(answer("00000f80"), swtpm.CmdSetBufferSize, 0, 0, 0, 0)
		c.want(answer(least), swtpm.CmdSetBufferSize, 0, 0, 0, 1)
		c.want(answer("00000ff8"), swtpm.CmdSetBufferSize, 255, 255, 255, 255)
	}
}

// Locality 4 and the state are not a guest's, and QEMU learns that before it asks.
func TestWhatIsNotForGuestsIsNotOffered(t *testing.T) {
	s := serve(t, newFake(tpm.V20))
	c := s.start(t)
	c.want("0000000000007caf", swtpm.CmdGetCapability)
	for cmd, want := range map[swtpm.Command]string{
		swtpm.CmdHashStart: "0000000a", swtpm.CmdHashEnd: "0000000a", swtpm.CmdStoreVolatile: "0000000a",
	} {
		c.want(want, cmd)
	}
	// QEMU waits for the whole header.
	c.want("0000000a000000000000000000000000", swtpm.CmdGetStateBlob, make([]byte, 12)...)
	s.log.wait("refused control command 0xc", 1)
}

// What comes behind these can't be told from the next request.
func TestStateAndDataToHashCutTheClientOff(t *testing.T) {
	for _, cmd := range []swtpm.Command{swtpm.CmdSetStateBlob, swtpm.CmdHashData, 0, 0x99} {
		f := newFake(tpm.V20)
		s := serve(t, f)
		c := s.start(t)
		c.want("0000000a", cmd)
		if _, err := c.ctl.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after command %#x the control socket says: %v", uint32(cmd), err)
		}
		s.log.wait("is not for guests", 1)
		f.wait("end", 1)
	}
}

func TestARefusalIsLoggedOnce(t *testing.T) {
	s := serve(t, newFake(tpm.V20))
	c := s.start(t)
	for range 100 {
		c.want("0000000a", swtpm.CmdHashStart)
	}
	n := 0
	for _, line := range s.log.all() {
		if strings.Contains(line, "refused control command 0x6") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the log has %d lines", n)
	}
}

func TestCancelComesThroughDuringACommand(t *testing.T) {
	f := newFake(tpm.V20)
	cancelled := make(chan struct{})
	run := f.execute
	f.execute = func(ctx context.Context, at tpm.Locality, command []byte) ([]byte, error) {
		f.note("long command")
		<-cancelled
		return run(ctx, at, command)
	}
	f.cancel = func() error { close(cancelled); return nil }
	c := serve(t, f).start(t)
	c.data.Write(readClock)
	f.wait("long command", 1)
	c.want("00000000", swtpm.CmdCancel)
	if _, err := swtpm.ReadPacket(c.data); err != nil {
		t.Error(err)
	}
}

func TestACancelThatIsNotPossibleIsAFailure(t *testing.T) {
	f := newFake(tpm.V12)
	f.cancel = func() error { return errors.New("a TPM 1.2 can't") }
	c := serve(t, f).start(t)
	c.want("00000009", swtpm.CmdCancel)
}

// A client hands over one data channel, and it is a unix socket.
func TestTheDataChannelIsASocket(t *testing.T) {
	c := serve(t, newFake(tpm.V20)).dial(t)
	c.want("00000003", swtpm.CmdSetDataFD)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := c.ask(swtpm.CmdSetDataFD, nil, int(w.Fd())); err != nil || string(got) != "\x00\x00\x00\x03" {
		t.Errorf("a pipe: %x, %v", got, err)
	}
	w.Close()
	c.open()
	c.want("0000001f", swtpm.CmdSetDataFD)
	// Were the pipe's end still open at the server, this would wait for ever.
	if _, err := io.ReadAll(r); err != nil {
		t.Error(err)
	}
}
