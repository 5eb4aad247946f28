package drtm

import (
	"encoding/binary"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// What SINIT measures beside the kernel belongs to a machine and its firmware.
// The simulator has neither, so these values are fixed, and where a value has
// room for it, it says so itself.
var (
	simulatedBIOSACM = []byte("AEM simulation: no firmware ACM ") // 32 bytes, as a TPM 2.0's AUX index holds
	simulatedSINIT   = []byte("AEM simulation: no SINIT key")
	notMeasured      = []byte{0, 0, 0, 0} // the CPU did not measure the firmware
	noControl        = []byte{0, 0, 0, 0} // no bit of the policy's control word is set
	capabilities     = []byte{0x26, 2, 0, 0}
	nothing          = []byte{0} // what SINIT hashes where there is no policy, or no monitor
	detailsMapping   = []byte{1, 0, 0, 0}
)

// pcrNone is the index that SINIT gives to an event that belongs to no PCR.
const pcrNone tpm.PCR = 255

// simulatedNVInfo has the shape of a real module's data: for each of two NV
// indices a byte 1, the TPMS_NV_PUBLIC with its size behind it, and a final
// byte. The policies that guard the indices are zeros here.
func simulatedNVInfo() []byte {
	nvPublic := func(b []byte, index, attributes uint32, size uint16) []byte {
		b = append(b, 1)
		b = binary.BigEndian.AppendUint32(b, index)
		b = binary.BigEndian.AppendUint16(b, uint16(tpm.SHA256))
		b = binary.BigEndian.AppendUint32(b, attributes)
		b = binary.BigEndian.AppendUint16(b, uint16(tpm.SHA256.Size()))
		b = append(b, make([]byte, tpm.SHA256.Size())...)
		return binary.BigEndian.AppendUint16(b, size)
	}
	b := nvPublic(nil, 0x01c10102, 0x62044408, 0x68) // AUX
	b = nvPublic(b, 0x01c10103, 0x62040408, 0x46)    // PO
	return append(b, 0)
}

// txtMeasurements are the CPU's and SINIT's, in the order in which every real
// log that we know of has them.
func (l machine) txtMeasurements(hashed, image []byte) []Measurement {
	acm := func(r Role, p tpm.PCR, t eventlog.Type, data []byte) Measurement {
		return l.measure(r, p, t, data, data, localityACM)
	}
	// No data stands in these two events; the digest is that of something else.
	hidden := func(r Role, p tpm.PCR, t eventlog.Type, content []byte) Measurement {
		return l.measure(r, p, t, nil, content, localityACM)
	}
	bios := acm(RoleBIOSACM, tpm.PCRCode, eventlog.TXTBIOSACRegData, simulatedBIOSACM)
	if l.version == tpm.V12 {
		// A TPM 1.2's PCR gets the 20-byte identity itself, not a hash of it.
		bios.Data = simulatedBIOSACM[:tpm.SHA1.Size()]
		bios.Digests = []tpm.TaggedDigest{{Alg: tpm.SHA1, Digest: tpm.Digest(bios.Data)}}
	}
	var ms []Measurement
	if l.version == tpm.V12 {
		ms = append(ms, l.marker(pcrNone, eventlog.TXTPCRMapping, detailsMapping))
	}
	ms = append(ms,
		l.measure(RoleLoader, tpm.PCRCode, eventlog.TXTHashStart, hashed, hashed, localityCPU),
		bios,
		acm(RoleSCRTM, tpm.PCRCode, eventlog.TXTCPUSCRTMStat, notMeasured),
		acm(RolePolicy, tpm.PCRCode, eventlog.TXTLCPControlHash, noControl),
		acm(RolePolicy, tpm.PCRCode, eventlog.TXTLCPDetailsHash, nothing),
		acm(RoleSTM, tpm.PCRCode, eventlog.TXTSTMHash, nothing),
		acm(RoleCapabilities, tpm.PCRCode, eventlog.TXTOSSINITDataCapHash, capabilities),
		hidden(RoleKernel, tpm.PCRCode, eventlog.TXTMLEHash, image),
	)
	nvInfo := simulatedNVInfo()
	if l.version != tpm.V12 {
		ms = append(ms, acm(RoleNVInfo, tpm.PCRCode, eventlog.TXTNVInfoHash, nvInfo))
	}
	ms = append(ms,
		hidden(RoleSINITKey, tpm.PCRData, eventlog.TXTSINITPubKeyHash, simulatedSINIT),
		acm(RoleSCRTM, tpm.PCRData, eventlog.TXTCPUSCRTMStat, notMeasured),
		acm(RoleCapabilities, tpm.PCRData, eventlog.TXTOSSINITDataCapHash, capabilities),
		acm(RolePolicy, tpm.PCRData, eventlog.TXTLCPControlHash, noControl),
		acm(RolePolicy, tpm.PCRData, eventlog.TXTLCPAuthoritiesHash, nothing),
	)
	if l.version != tpm.V12 {
		ms = append(ms, acm(RoleNVInfo, tpm.PCRData, eventlog.TXTNVInfoHash, nvInfo))
	}
	return ms
}
