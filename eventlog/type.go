package eventlog

import "fmt"

// Type is an event's type. It is not measured, and decides nothing but whether
// the event was extended at all.
type Type uint32

// Types of the firmware's log (TCG PC Client Platform Firmware Profile, clause 10.4.1).
const (
	PrebootCert         Type = 0x00
	PostCode            Type = 0x01
	NoAction            Type = 0x03
	Separator           Type = 0x04
	Action              Type = 0x05
	EventTag            Type = 0x06
	SCRTMContents       Type = 0x07
	SCRTMVersion        Type = 0x08
	CPUMicrocode        Type = 0x09
	PlatformConfigFlags Type = 0x0a
	TableOfDevices      Type = 0x0b
	CompactHash         Type = 0x0c
	IPL                 Type = 0x0d
	IPLPartitionData    Type = 0x0e
	NonhostCode         Type = 0x0f
	NonhostConfig       Type = 0x10
	NonhostInfo         Type = 0x11
	OmitBootDevice      Type = 0x12

	EFIVariableDriverConfig    Type = 0x80000001
	EFIVariableBoot            Type = 0x80000002
	EFIBootServicesApplication Type = 0x80000003
	EFIBootServicesDriver      Type = 0x80000004
	EFIRuntimeServicesDriver   Type = 0x80000005
	EFIGPTEvent                Type = 0x80000006
	EFIAction                  Type = 0x80000007
	EFIPlatformFirmwareBlob    Type = 0x80000008
	EFIHandoffTables           Type = 0x80000009
	EFIPlatformFirmwareBlob2   Type = 0x8000000a
	EFIHandoffTables2          Type = 0x8000000b
	EFIVariableBoot2           Type = 0x8000000c
	EFIHCRTMEvent              Type = 0x80000010
	EFIVariableAuthority       Type = 0x800000e0
)

// Types of dynamic launches (Intel TXT Software Development Guide, appendix G;
// TrenchBoot's secure launch specification; tboot).
const (
	TXTPCRMapping         Type = 0x401
	TXTHashStart          Type = 0x402
	TXTCombinedHash       Type = 0x403
	TXTMLEHash            Type = 0x404
	TXTBIOSACRegData      Type = 0x40a
	TXTCPUSCRTMStat       Type = 0x40b
	TXTLCPControlHash     Type = 0x40c
	TXTElementsHash       Type = 0x40d
	TXTSTMHash            Type = 0x40e
	TXTOSSINITDataCapHash Type = 0x40f
	TXTSINITPubKeyHash    Type = 0x410
	TXTLCPHash            Type = 0x411
	TXTLCPDetailsHash     Type = 0x412
	TXTLCPAuthoritiesHash Type = 0x413
	TXTNVInfoHash         Type = 0x414
	TXTColdBootBIOSHash   Type = 0x415
	TXTKMHash             Type = 0x416
	TXTBPMHash            Type = 0x417
	TXTKMInfoHash         Type = 0x418
	TXTBPMInfoHash        Type = 0x419
	TXTBootPolHash        Type = 0x41a
	TXTRandomValue        Type = 0x4fe
	TXTCapValue           Type = 0x4ff
	TbootMeasurement      Type = 0x501
	Slaunch               Type = 0x502
	SlaunchStart          Type = 0x503
	SlaunchEnd            Type = 0x504
	LandingZone           Type = 0x600      // the loader of 2020 measured itself
	LandingZoneKernel     Type = 0x601      // and what it launched
	VMware                Type = 0x60000001 // a module of ESXi, after a launch by TXT
)

var typeNames = map[Type]string{
	PrebootCert: "EV_PREBOOT_CERT", PostCode: "EV_POST_CODE", NoAction: "EV_NO_ACTION", Separator: "EV_SEPARATOR",
	Action: "EV_ACTION", EventTag: "EV_EVENT_TAG", SCRTMContents: "EV_S_CRTM_CONTENTS", SCRTMVersion: "EV_S_CRTM_VERSION",
	CPUMicrocode: "EV_CPU_MICROCODE", PlatformConfigFlags: "EV_PLATFORM_CONFIG_FLAGS", TableOfDevices: "EV_TABLE_OF_DEVICES",
	CompactHash: "EV_COMPACT_HASH", IPL: "EV_IPL", IPLPartitionData: "EV_IPL_PARTITION_DATA", NonhostCode: "EV_NONHOST_CODE",
	NonhostConfig: "EV_NONHOST_CONFIG", NonhostInfo: "EV_NONHOST_INFO", OmitBootDevice: "EV_OMIT_BOOT_DEVICE_EVENTS",

	EFIVariableDriverConfig: "EV_EFI_VARIABLE_DRIVER_CONFIG", EFIVariableBoot: "EV_EFI_VARIABLE_BOOT",
	EFIBootServicesApplication: "EV_EFI_BOOT_SERVICES_APPLICATION", EFIBootServicesDriver: "EV_EFI_BOOT_SERVICES_DRIVER",
	EFIRuntimeServicesDriver: "EV_EFI_RUNTIME_SERVICES_DRIVER", EFIGPTEvent: "EV_EFI_GPT_EVENT", EFIAction: "EV_EFI_ACTION",
	EFIPlatformFirmwareBlob: "EV_EFI_PLATFORM_FIRMWARE_BLOB", EFIHandoffTables: "EV_EFI_HANDOFF_TABLES",
	EFIPlatformFirmwareBlob2: "EV_EFI_PLATFORM_FIRMWARE_BLOB2", EFIHandoffTables2: "EV_EFI_HANDOFF_TABLES2",
	EFIVariableBoot2: "EV_EFI_VARIABLE_BOOT2", EFIHCRTMEvent: "EV_EFI_HCRTM_EVENT", EFIVariableAuthority: "EV_EFI_VARIABLE_AUTHORITY",

	TXTPCRMapping: "EVTYPE_PCR_MAPPING", TXTHashStart: "EVTYPE_HASH_START", TXTCombinedHash: "EVTYPE_COMBINED_HASH",
	TXTMLEHash: "EVTYPE_MLE_HASH", TXTBIOSACRegData: "EVTYPE_BIOSAC_REG_DATA", TXTCPUSCRTMStat: "EVTYPE_CPU_SCRTM_STAT",
	TXTLCPControlHash: "EVTYPE_LCP_CONTROL_HASH", TXTElementsHash: "EVTYPE_ELEMENTS_HASH", TXTSTMHash: "EVTYPE_STM_HASH",
	TXTOSSINITDataCapHash: "EVTYPE_OSSINITDATA_CAP_HASH", TXTSINITPubKeyHash: "EVTYPE_SINIT_PUBKEY_HASH", TXTLCPHash: "EVTYPE_LCP_HASH",
	TXTLCPDetailsHash: "EVTYPE_LCP_DETAILS_HASH", TXTLCPAuthoritiesHash: "EVTYPE_LCP_AUTHORITIES_HASH", TXTNVInfoHash: "EVTYPE_NV_INFO_HASH",
	TXTColdBootBIOSHash: "EVTYPE_COLD_BOOT_BIOS_HASH", TXTKMHash: "EVTYPE_KM_HASH", TXTBPMHash: "EVTYPE_BPM_HASH",
	TXTKMInfoHash: "EVTYPE_KM_INFO_HASH", TXTBPMInfoHash: "EVTYPE_BPM_INFO_HASH", TXTBootPolHash: "EVTYPE_BOOT_POL_HASH",
	TXTRandomValue: "EVTYPE_RANDOM_VALUE", TXTCapValue: "EVTYPE_CAP_VALUE",
	TbootMeasurement: "EVTYPE_TB_MEASUREMENT", Slaunch: "EVTYPE_SLAUNCH", SlaunchStart: "EVTYPE_SLAUNCH_START", SlaunchEnd: "EVTYPE_SLAUNCH_END",
	LandingZone: "EVTYPE_LZ", LandingZoneKernel: "EVTYPE_LZ_KERNEL", VMware: "VMWARE_MODULE",
}

// String is the name that the type has in its specification, or its number.
func (t Type) String() string {
	if s, ok := typeNames[t]; ok {
		return s
	}
	return fmt.Sprintf("%#08x", uint32(t))
}

// Extended reports whether events of the type were extended. Informative events
// and markers never are, whatever digests they carry.
func (t Type) Extended() bool {
	switch t {
	case NoAction, TXTPCRMapping, SlaunchStart, SlaunchEnd:
		return false
	}
	return true
}
