package main

import (
	"encoding/binary"

	"github.com/antievilmaid/aem/tpm"
)

// startedFamily tells whether a command that succeeded was the firmware's start
// of the TPM, and of which family the TPM is then: TPM2_Startup (TPM Library,
// Part 3, clause 9.3) or TPM_Startup (TPM Main, Part 3, clause 3.2). Before it,
// the CPU's hash sequence would count as the firmware's own measurement on a
// TPM 2.0, and breaks a TPM 1.2.
func startedFamily(cmd, rsp []byte) (tpm.Version, bool) {
	const header = 10 // tag, size, and command or response code
	if len(cmd) < header || len(rsp) < header || binary.BigEndian.Uint32(rsp[6:]) != 0 {
		return 0, false
	}
	switch tag, code := binary.BigEndian.Uint16(cmd), binary.BigEndian.Uint32(cmd[6:]); {
	case tag == 0x8001 && code == 0x144:
		return tpm.V20, true
	case tag == 0x00c1 && code == 0x99:
		return tpm.V12, true
	}
	return 0, false
}
