package drtm

import "encoding/binary"

// The tables that a boot loader leaves for the launched kernel hold addresses,
// which differ between machines and boots. The kernel clears these before it
// hashes a table. Here the rest is that of a simulated machine; the layouts are
// those of the secure launch specification's present draft (TrenchBoot,
// "Secure Launch", SLR table; Linux, include/linux/slr_table.h).

const (
	slrTagIntelInfo = 4
	slrTagAMDInfo   = 5

	intelInfoSize = 552
	amdInfoSize   = 56
	osMLESize     = 104
)

// The simulated CPU's registers, as SENTER saved them.
const (
	simulatedMiscEnable = 0x0085_0089 // IA32_MISC_ENABLE
	simulatedMTRRType   = 0x0000_0c06 // IA32_MTRR_DEF_TYPE: enabled, write back
)

// intelInfo is the SLRT entry that a launch by TXT measures: tag and size of 32
// bits each, the TXT heap's address (cleared), IA32_MISC_ENABLE and the MTRRs,
// of which the simulated machine uses none.
func intelInfo() []byte {
	b := make([]byte, intelInfoSize)
	binary.LittleEndian.PutUint32(b, slrTagIntelInfo)
	binary.LittleEndian.PutUint32(b[4:], intelInfoSize)
	binary.LittleEndian.PutUint64(b[16:], simulatedMiscEnable)
	binary.LittleEndian.PutUint64(b[24:], simulatedMTRRType)
	return b
}

// amdInfo is the SLRT entry that a launch by SKINIT measures: tag and size, and
// a setup_data node whose link and addresses are cleared.
func amdInfo() []byte {
	const (
		header         = 8
		setupData      = 16 // next, type and length
		typeSecure     = 10 // SETUP_SECURE_LAUNCH
		simulatedTable = 4096
	)
	b := make([]byte, amdInfoSize)
	binary.LittleEndian.PutUint32(b, slrTagAMDInfo)
	binary.LittleEndian.PutUint32(b[4:], amdInfoSize)
	binary.LittleEndian.PutUint32(b[16:], typeSecure)
	binary.LittleEndian.PutUint32(b[20:], amdInfoSize-header-setupData)
	binary.LittleEndian.PutUint64(b[24:], simulatedTable)
	return b
}

// slrtEntry is the measured part of the platform's SLRT.
func slrtEntry(p Platform) []byte {
	if p == SKINIT {
		return amdInfo()
	}
	return intelInfo()
}

// osMLEData is the boot loader's table in the TXT heap: a version, then
// addresses and scratch space, which are cleared.
func osMLEData() []byte {
	b := make([]byte, osMLESize)
	binary.LittleEndian.PutUint32(b, 1)
	return b
}
