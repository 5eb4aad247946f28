package tpm2_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

// tired answers so many commands with a code, without the TPM.
type tired struct {
	tpm.Channel
	code  uint32
	times int
	sent  int
}

func (r *tired) Send(cmd []byte) ([]byte, error) {
	if r.sent++; r.sent > r.times {
		return r.Channel.Send(cmd)
	}
	return binary.BigEndian.AppendUint32([]byte{0x80, 1, 0, 0, 0, 10}, r.code), nil
}

// A TPM that is busy is asked again, one that has no room is not: both are told as busy.
func TestABusyTPM(t *testing.T) {
	conn, _ := testbed.NewTPM(t, tpm.V20)
	for code, again := range map[uint32]bool{0x922: true, 0x908: true, 0x90a: true, 0x902: false, 0x903: false, 0x905: false, 0x923: false} {
		few := &tired{Channel: conn, code: code, times: 3}
		_, err := tpm2.New(few).ReadPCRs(tpm.PCRSet(0))
		if again != (err == nil) {
			t.Errorf("%#x three times: %v", code, err)
		}
		if !again && (!errors.Is(err, tpm.ErrBusy) || few.sent != 1) {
			t.Errorf("%#x is told as %v, after %d commands", code, err, few.sent)
		}
	}
	for code, busy := range map[uint32]bool{0x922: true, 0x101: false} {
		if _, err := tpm2.New(&tired{Channel: conn, code: code, times: 1000}).ReadPCRs(tpm.PCRSet(0)); errors.Is(err, tpm.ErrBusy) != busy || err == nil {
			t.Errorf("%#x without end is told as %v", code, err)
		}
	}
}
