package doctor

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/antievilmaid/aem/tpm"
)

// Evidence is what was read of a machine. A nil field was not read; Missing says why.
type Evidence struct {
	// Missing holds the reason for everything that could not be read, by the
	// name of its file or, for a value in firmware.json, by one of the constants below.
	Missing map[string]string

	CPUInfo   []byte // the first processor's part of /proc/cpuinfo
	Registers []byte // of the TXT public space, from its first byte
	Heap      []byte // the TXT heap
	Log       []byte // the launch's event log
	TPM       *TPM
	Firmware  *Firmware
	Xen       *Xen
	Modules   []Module // found below /boot and in the firmware
}

// The names in Missing of what is no file of its own.
const (
	itemFeatureControl = "IA32_FEATURE_CONTROL"
	itemPlatformID     = "IA32_PLATFORM_ID"
	itemVMCR           = "VM_CR"
	itemSecureBoot     = "SecureBoot"
	itemLockdown       = "lockdown"
	itemTPMProperties  = "TPM properties"
	itemTPMPCRs        = "TPM PCRs"
	itemTPMIndices     = "TPM NV indices"
	itemTPMDefence     = "TPM defence"
	itemTPMFlags       = "TPM flags"
	itemTPMFree        = "TPM free NV"
	itemTPMVersion     = "TPM version"
	itemModules        = "modules"
)

// The names of the files.
const (
	fileMissing   = "missing.json"
	fileCPUInfo   = "cpuinfo"
	fileRegisters = "txt-registers.bin"
	fileHeap      = "txt-heap.bin"
	fileLog       = "eventlog.bin"
	fileTPM       = "tpm.json"
	fileFirmware  = "firmware.json"
	fileXen       = "xen.json"
	folderModules = "modules"
	fileModules   = "modules/list.json"
)

// miss notes why something was not read. The first reason stays.
func (e *Evidence) miss(item string, err error) {
	if e.Missing == nil {
		e.Missing = map[string]string{}
	}
	if _, ok := e.Missing[item]; !ok {
		e.Missing[item] = err.Error()
	}
}

var errNotThere = errors.New("it is not among the evidence")

// why is the reason for a thing that was not read.
func (e *Evidence) why(item string) string {
	if reason := e.Missing[item]; reason != "" {
		return reason
	}
	return errNotThere.Error()
}

// TPM is what a TPM says of itself.
type TPM struct {
	// Absent says that the machine shows no TPM; nothing else is set then.
	Absent bool   `json:"absent,omitempty"`
	Family string `json:"family,omitempty"` // "1.2" or "2.0"

	// Properties are those of a TPM 2.0, by their number (TPM_PT).
	Properties map[Hex]Hex `json:"properties,omitempty"`
	// Version is a TPM 1.2's TPM_CAP_VERSION_INFO, and Flags its TPM_PERMANENT_FLAGS.
	Version Bytes    `json:"version,omitempty"`
	Flags   Bytes    `json:"flags,omitempty"`
	Owned   *bool    `json:"owned,omitempty"`
	FreeNV  *uint32  `json:"free_nv,omitempty"` // bytes, by a TPM 1.2's own word
	Defence *Defence `json:"defence,omitempty"` // of a TPM 1.2

	Banks   []Bank `json:"banks,omitempty"`
	Indices []Hex  `json:"nv_indices"` // nil where they were not read
}

// Bank holds the PCRs of one algorithm.
type Bank struct {
	Alg  string           `json:"alg"`
	PCRs map[string]Bytes `json:"pcrs"` // by their number in decimal
}

// Defence is a TPM 1.2's defence against guessing.
type Defence struct {
	Locked  bool   `json:"locked"`
	Failed  uint32 `json:"failed"`
	Allowed uint32 `json:"allowed"`
	Seconds uint32 `json:"seconds"` // until a lock ends
}

// Firmware is what firmware and kernel say of the machine, without serial numbers.
type Firmware struct {
	Maker       string `json:"maker,omitempty"`
	Model       string `json:"model,omitempty"`
	BIOS        string `json:"bios,omitempty"` // its version
	BIOSDate    string `json:"bios_date,omitempty"`
	UEFI        bool   `json:"uefi"`
	SecureBoot  *bool  `json:"secure_boot,omitempty"`
	Lockdown    string `json:"lockdown,omitempty"`     // none, integrity or confidentiality
	RegistersBy string `json:"registers_by,omitempty"` // "memory", or "kernel" for the few that Linux shows
	LogFrom     string `json:"log_from,omitempty"`
	Simulated   bool   `json:"simulated,omitempty"` // the log is an emulated launch's

	FeatureControl *Hex `json:"feature_control,omitempty"` // MSR 0x3a
	PlatformID     *Hex `json:"platform_id,omitempty"`     // MSR 0x17
	VMCR           *Hex `json:"vm_cr,omitempty"`           // MSR 0xc0010114

	IOMMUs []string `json:"iommus"`      // that the kernel drives
	Tables []string `json:"acpi_tables"` // DMAR and IVRS, where they are there
}

// Xen is what the hypervisor says where one runs below.
type Xen struct {
	Host         bool   `json:"host"` // this is dom0
	Capabilities string `json:"hw_caps,omitempty"`
	Virtual      string `json:"virt_caps,omitempty"`
	Version      string `json:"version,omitempty"`
}

// Module is a file that a launch may need: a SINIT module or a Secure Loader Block.
type Module struct {
	Path   string `json:"path"` // below /boot, or where else it was found
	Size   int64  `json:"size"`
	SHA256 Bytes  `json:"sha256"`
	Head   []byte `json:"-"` // as much of it as its lists need
}

// Hex is a number that is written in hexadecimal, such as 0x10091.
type Hex uint64

// MarshalText writes the number.
func (h Hex) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%#x", uint64(h)), nil }

// UnmarshalText reads a number with any of Go's prefixes.
func (h *Hex) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 0, 64)
	if err != nil {
		return fmt.Errorf("%q is no number of 64 bits", b)
	}
	*h = Hex(v)
	return nil
}

// Bytes are written in hexadecimal.
type Bytes []byte

// MarshalText writes the bytes.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

// UnmarshalText reads them.
func (b *Bytes) UnmarshalText(text []byte) error {
	v, err := hex.DecodeString(string(text))
	*b = v
	return err
}

// family is the TPM's family, or zero.
func (t *TPM) family() tpm.Version {
	switch {
	case t == nil:
		return 0
	case t.Family == "1.2":
		return tpm.V12
	case t.Family == "2.0":
		return tpm.V20
	}
	return 0
}

// banks are the PCRs that were read. Banks of an algorithm that is not known, and
// values of a wrong length, are left out.
func (t *TPM) banks() tpm.Banks {
	var list tpm.Banks
	if t == nil {
		return nil
	}
	for _, b := range t.Banks {
		alg, err := tpm.ParseAlg(b.Alg)
		if err != nil || list.Bank(alg) != nil {
			continue
		}
		bank := tpm.Bank{Alg: alg}
		for name, value := range b.PCRs {
			if p, err := strconv.ParseUint(name, 10, 8); err == nil && p < tpm.NumPCRs && len(value) == alg.Size() {
				bank.Values[p] = tpm.Digest(value)
			}
		}
		list = append(list, bank)
	}
	return list
}

// keepBanks is the inverse of banks.
func keepBanks(banks tpm.Banks) []Bank {
	var list []Bank
	for i := range banks {
		b := Bank{Alg: banks[i].Alg.String(), PCRs: map[string]Bytes{}}
		for p, v := range banks[i].Values {
			if v != nil {
				b.PCRs[strconv.Itoa(p)] = Bytes(v)
			}
		}
		list = append(list, b)
	}
	return list
}
