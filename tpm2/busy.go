package tpm2

import (
	"encoding/binary"
	"time"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/antievilmaid/aem/tpm"
)

// busy are the warnings by which a TPM refuses a command because of what else it has to do, or holds for others
// (Part 2, clause 6.6.3). A resource manager hides those of memory; not every way to the TPM has one.
var busy = map[gotpm.TPMRC]error{
	gotpm.TPMRCRetry: tpm.ErrBusy, gotpm.TPMRCYielded: tpm.ErrBusy, gotpm.TPMRCTesting: tpm.ErrBusy,
	gotpm.TPMRCObjectMemory: tpm.ErrBusy, gotpm.TPMRCObjectHandles: tpm.ErrBusy,
	gotpm.TPMRCSessionMemory: tpm.ErrBusy, gotpm.TPMRCSessionHandles: tpm.ErrBusy,
	gotpm.TPMRCMemory: tpm.ErrBusy, gotpm.TPMRCContextGap: tpm.ErrBusy,
	gotpm.TPMRCNVRate: tpm.ErrBusy, gotpm.TPMRCNVUnavailable: tpm.ErrBusy,
}

// A TPM that answers "again, please" did not execute the command, so that the same bytes, sessions included, may be
// sent again. Drivers do so for a while; not each of them, and not for each code. The pauses double, and
// after patience there is no further try.
const (
	firstPause = 5 * time.Millisecond
	patience   = 3 * time.Second
)

// again reports whether a response asks for its command again.
func again(rsp []byte) bool {
	switch gotpm.TPMRC(binary.BigEndian.Uint32(rsp[6:])) {
	case gotpm.TPMRCRetry, gotpm.TPMRCYielded, gotpm.TPMRCTesting:
		return true
	}
	return false
}
