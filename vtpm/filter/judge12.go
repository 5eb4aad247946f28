package filter

import (
	"encoding/binary"

	"github.com/antievilmaid/aem/tpm"
)

// Return codes (TPM Main, Part 2, clause 16).
const (
	disabledCmd    = 0x08
	fail           = 0x09
	badOrdinal     = 0x0a
	badParamSize   = 0x19
	badTag         = 0x1e
	badPresence    = 0x2d
	badMode        = 0x2c
	badLocality    = 0x3d
	tagCommand12   = 0x00c1 // TPM_TAG_RQU_COMMAND; with one and two sessions 00c2 and 00c3
	tagCommandTwo  = 0x00c3
	tagResponse12  = 0x00c4
	setCapability  = 0x3f
	setVendor      = 7 // TPM_SET_VENDOR
	highestOrdinal = 0xff
)

func answer12(rc uint32) []byte { return packet(tagResponse12, rc) }

// refused12 are the TPM 1.2 commands that a guest may not send, with their answers (Part 2, clause 17).
// TPM_ExecuteTransport is among them because it carries another command, perhaps encrypted, past this list.
var refused12 = map[uint32]uint32{
	0x2c: disabledCmd, // CreateMaintenanceArchive
	0x2d: disabledCmd, // LoadMaintenanceArchive
	0x2e: disabledCmd, // KillMaintenanceFeature
	0x2f: disabledCmd, // LoadManuMaintPub
	0x30: disabledCmd, // ReadManuMaintPub
	0x5d: badPresence, // ForceClear
	0x6f: badPresence, // PhysicalEnable
	0x70: badPresence, // PhysicalDisable
	0x71: badPresence, // SetOwnerInstall
	0x72: badPresence, // PhysicalSetDeactivated
	0x74: badPresence, // SetOperatorAuth
	0x7f: disabledCmd, // CreateRevocableEK
	0x80: disabledCmd, // RevokeTrust, after which it would be another TPM
	0x97: disabledCmd, // Init, which is the platform's
	0xaa: disabledCmd, // FieldUpgrade
	0xe7: disabledCmd, // ExecuteTransport
}

// judge12 returns 0 for a command that may pass, else the code to refuse it with.
func (g Guard) judge12(at tpm.Locality, command []byte) uint32 {
	if len(command) < headerSize {
		return badParamSize
	}
	if tag := binary.BigEndian.Uint16(command); tag < tagCommand12 || tag > tagCommandTwo {
		return badTag
	}
	if !framed(command) {
		return badParamSize
	}
	if !g.Localities.Has(at) {
		return badLocality
	}
	ordinal := binary.BigEndian.Uint32(command[6:])
	switch {
	case ordinal > highestOrdinal:
		return badOrdinal // the platform's (bit 30, TSC_PhysicalPresence), vendors' (bit 29), swtpm's 20001000
	case ordinal == setCapability && len(command) >= headerSize+4 && binary.BigEndian.Uint32(command[headerSize:]) == setVendor:
		return disabledCmd
	}
	return refused12[ordinal]
}
