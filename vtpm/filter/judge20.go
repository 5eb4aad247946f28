package filter

import (
	"encoding/binary"

	"github.com/antievilmaid/aem/tpm"
)

// Return codes (TPM Library, Part 2, clause 6.6).
const (
	rcBadTag      = 0x01e
	rcCommandSize = 0x142
	rcCommandCode = 0x143
	rcLocality    = 0x907
	rcValue       = 0x084
	rcHierarchy   = 0x085 // and the handle's number in bits 8 to 10

	tagNoSessions = 0x8001
	tagSessions   = 0x8002

	platform = 0x4000000c // TPM_RH_PLATFORM
)

// answer20 is a response that holds a code alone. TPM_RC_BAD_TAG comes with the tag of a TPM 1.2's response, so that a driver that
// took the chip for one understands it (Part 1, clause 18.9).
func answer20(rc uint32) []byte {
	if rc == rcBadTag {
		return answer12(rc)
	}
	return packet(tagNoSessions, rc)
}

// judge20 returns 0 for a command that may pass, else the code to refuse it with.
func (g Guard) judge20(at tpm.Locality, command []byte) uint32 {
	if len(command) < headerSize {
		return rcCommandSize
	}
	if tag := binary.BigEndian.Uint16(command); tag != tagNoSessions && tag != tagSessions {
		return rcBadTag // Xen's 01C1 and 01C2, too, which once went through to the machine's own TPM
	}
	if !framed(command) {
		return rcCommandSize
	}
	if !g.Localities.Has(at) {
		return rcLocality
	}
	handles, known := commands20[binary.BigEndian.Uint32(command[6:])]
	if !known {
		return rcCommandCode
	}
	for n := range handles {
		rest := command[headerSize+4*min(int(n), (len(command)-headerSize)/4):]
		if len(rest) < 4 {
			return rcCommandSize
		}
		if binary.BigEndian.Uint32(rest) == platform {
			return rcHierarchy + uint32(n+1)<<8
		}
	}
	return 0
}
