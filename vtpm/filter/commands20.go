package filter

// commands20 are the TPM 2.0 commands that a guest may send, with the number of handles that stand behind
// the header (Part 3; Part 2, clause 6.5.2). What is not here is answered with TPM_RC_COMMAND_CODE:
//
//   - what makes it another TPM: TPM2_ChangeEPS (124), TPM2_ChangePPS (125)
//   - its firmware: TPM2_FieldUpgradeStart (12f), -Data (141), TPM2_FirmwareRead (179)
//   - what a platform sets up: TPM2_PCR_Allocate (12b; another set of banks would leave a guest's PCRs
//     without what the manager measured, from the next start on), TPM2_PCR_SetAuthPolicy (12c), TPM2_PP_Commands (12d),
//     TPM2_SetAlgorithmSet (13f), TPM2_ClockRateAdjust (130), TPM2_NV_UndefineSpaceSpecial (11f), and
//     TPM2_ACT_SetTimeout (198)
//   - vendors' commands (bit 29), TPM_CC_Vendor_TCG_Test (20000000) and swtpm's own
//     way to set the locality (20001000)
//
// TPM2_Shutdown may pass: the next command undoes it.
var commands20 = map[uint32]uint8{
	0x120: 2, // EvictControl
	0x121: 1, // HierarchyControl
	0x122: 2, // NV_UndefineSpace
	0x126: 1, // Clear, by the owner's lockout authorisation
	0x127: 1, // ClearControl
	0x128: 1, // ClockSet
	0x129: 1, // HierarchyChangeAuth
	0x12a: 1, // NV_DefineSpace
	0x12e: 1, // SetPrimaryPolicy
	0x131: 1, // CreatePrimary
	0x132: 1, // NV_GlobalWriteLock
	0x133: 2, // GetCommandAuditDigest
	0x134: 2, // NV_Increment
	0x135: 2, // NV_SetBits
	0x136: 2, // NV_Extend
	0x137: 2, // NV_Write
	0x138: 2, // NV_WriteLock
	0x139: 1, // DictionaryAttackLockReset
	0x13a: 1, // DictionaryAttackParameters
	0x13b: 1, // NV_ChangeAuth
	0x13c: 1, // PCR_Event
	0x13d: 1, // PCR_Reset
	0x13e: 1, // SequenceComplete
	0x140: 1, // SetCommandCodeAuditStatus
	0x142: 0, // IncrementalSelfTest
	0x143: 0, // SelfTest
	0x144: 0, // Startup
	0x145: 0, // Shutdown
	0x146: 0, // StirRandom
	0x147: 2, // ActivateCredential
	0x148: 2, // Certify
	0x149: 3, // PolicyNV
	0x14a: 2, // CertifyCreation
	0x14b: 2, // Duplicate
	0x14c: 2, // GetTime
	0x14d: 3, // GetSessionAuditDigest
	0x14e: 2, // NV_Read
	0x14f: 2, // NV_ReadLock
	0x150: 2, // ObjectChangeAuth
	0x151: 2, // PolicySecret
	0x152: 2, // Rewrap
	0x153: 1, // Create
	0x154: 1, // ECDH_ZGen
	0x155: 1, // HMAC, MAC
	0x156: 1, // Import
	0x157: 1, // Load
	0x158: 1, // Quote
	0x159: 1, // RSA_Decrypt
	0x15b: 1, // HMAC_Start, MAC_Start
	0x15c: 1, // SequenceUpdate
	0x15d: 1, // Sign
	0x15e: 1, // Unseal
	0x160: 2, // PolicySigned
	0x161: 0, // ContextLoad
	0x162: 1, // ContextSave
	0x163: 1, // ECDH_KeyGen
	0x164: 1, // EncryptDecrypt
	0x165: 0, // FlushContext: its handle is a parameter
	0x167: 0, // LoadExternal
	0x168: 1, // MakeCredential
	0x169: 1, // NV_ReadPublic
	0x16a: 1, // PolicyAuthorize
	0x16b: 1, // PolicyAuthValue
	0x16c: 1, // PolicyCommandCode
	0x16d: 1, // PolicyCounterTimer
	0x16e: 1, // PolicyCpHash
	0x16f: 1, // PolicyLocality
	0x170: 1, // PolicyNameHash
	0x171: 1, // PolicyOR
	0x172: 1, // PolicyTicket
	0x173: 1, // ReadPublic
	0x174: 1, // RSA_Encrypt
	0x176: 2, // StartAuthSession
	0x177: 1, // VerifySignature
	0x178: 0, // ECC_Parameters
	0x17a: 0, // GetCapability
	0x17b: 0, // GetRandom
	0x17c: 0, // GetTestResult
	0x17d: 0, // Hash
	0x17e: 0, // PCR_Read
	0x17f: 1, // PolicyPCR
	0x180: 1, // PolicyRestart
	0x181: 0, // ReadClock
	0x182: 1, // PCR_Extend
	0x183: 1, // PCR_SetAuthValue
	0x184: 3, // NV_Certify
	0x185: 2, // EventSequenceComplete
	0x186: 0, // HashSequenceStart
	0x187: 1, // PolicyPhysicalPresence
	0x188: 1, // PolicyDuplicationSelect
	0x189: 1, // PolicyGetDigest
	0x18a: 0, // TestParms
	0x18b: 1, // Commit
	0x18c: 1, // PolicyPassword
	0x18d: 1, // ZGen_2Phase
	0x18e: 0, // EC_Ephemeral
	0x18f: 1, // PolicyNvWritten
	0x190: 1, // PolicyTemplate
	0x191: 1, // CreateLoaded
	0x192: 3, // PolicyAuthorizeNV
	0x193: 1, // EncryptDecrypt2
	0x197: 2, // CertifyX509
	0x199: 1, // ECC_Encrypt
	0x19a: 1, // ECC_Decrypt
}
