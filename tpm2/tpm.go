// Package tpm2 holds the TPM 2.0 commands that sealing needs: PCRs, a storage
// key that is known by its Name, sealed objects under a policy that was computed
// beforehand, and NV counters.
//
// Commands are marshalled by github.com/google/go-tpm/tpm2; this package decides
// which of them to send, what to believe of the answers, and how few are enough.
// Two rules hold throughout. A secret crosses the bus only inside a session that
// is salted with a key whose Name the caller knows, so neither a listener nor a
// chip put in between learns it or can answer in its place. And what a boot has to
// do, it does with few commands: no primary key is created and no policy is
// tried out in a trial session.
//
// Return codes come from go-tpm as tpm2.TPMRC and print as the specification
// names them; errors that a caller decides on are listed in errors.go.
package tpm2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	gotpm "github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/antievilmaid/aem/tpm"
)

// TPM sends TPM 2.0 commands over a channel.
type TPM struct {
	ch guard
}

// New returns a TPM over a channel. Nothing is sent.
func New(ch tpm.Channel) *TPM { return &TPM{guard{ch}} }

// guard checks a response's framing before go-tpm unmarshals it, and sends again what the TPM was too busy for.
type guard struct{ tpm.Channel }

func (g guard) Send(cmd []byte) ([]byte, error) {
	for began, pause := time.Now(), firstPause; ; pause *= 2 {
		rsp, err := g.Channel.Send(cmd)
		if err != nil {
			return nil, err
		}
		if err := checkFrame(rsp); err != nil {
			return nil, err
		}
		if !again(rsp) || time.Since(began)+pause > patience {
			return rsp, nil
		}
		time.Sleep(pause)
	}
}

// checkFrame refuses what is no TPM 2.0 response at all.
func checkFrame(rsp []byte) error {
	if len(rsp) < 10 {
		return fmt.Errorf("the TPM's response has %d bytes; a response has 10 at least", len(rsp))
	}
	if bytes.Equal(rsp[:2], []byte{0x00, 0xc4}) {
		return ErrOtherFamily
	}
	if n := binary.BigEndian.Uint32(rsp[2:]); uint64(n) != uint64(len(rsp)) {
		return fmt.Errorf("the TPM's response claims %d bytes and has %d", n, len(rsp))
	}
	return nil
}

// catch turns a panic of the marshalling library into an error: what the TPM
// answers was written by somebody else, and nothing it says may stop the program
// between the owner and the proof.
func catch(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the TPM's response can't be read: %v", p)
	}
}

// command is what go-tpm's command structures have in common.
type command[R any] interface {
	Execute(t transport.TPM, s ...gotpm.Session) (*R, error)
}

// run executes a command and says which one it was when it is refused.
func run[R any](t *TPM, name string, cmd command[R]) (rsp *R, err error) {
	defer catch(&err)
	rsp, err = cmd.Execute(t.ch)
	if err != nil {
		return nil, classify(fmt.Errorf("%s: %w", name, err), busy)
	}
	return rsp, nil
}

// flush removes an object from the TPM's memory.
func (t *TPM) flush(h gotpm.TPMHandle) error {
	_, err := run(t, "TPM2_FlushContext", gotpm.FlushContext{FlushHandle: h})
	return err
}

// Startup sends what a firmware sends first. Only the test bed, in the firmware's
// part, has a use for it.
func (t *TPM) Startup() error {
	_, err := run(t, "TPM2_Startup", gotpm.Startup{StartupType: gotpm.TPMSUClear})
	return err
}

// join returns the first error with the second noted where both happened.
func join(err, cleanup error) error {
	if err == nil {
		return cleanup
	}
	return errors.Join(err, cleanup)
}
