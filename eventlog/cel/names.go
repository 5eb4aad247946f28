package cel

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// spdm are names of the firmware profile's table of event types that package
// eventlog gives no meaning to.
var spdm = [...]string{"EV_EFI_SPDM_FIRMWARE_BLOB", "EV_EFI_SPDM_FIRMWARE_CONFIG", "EV_EFI_SPDM_DEVICE_POLICY", "EV_EFI_SPDM_DEVICE_AUTHORITY"}

const firstSPDM eventlog.Type = 0x800000e1

// typeName is the name that a type has in the firmware profile (TCG PFP, clause
// 10.4.1), or nothing. Types of dynamic launches have names elsewhere, which a
// reader of canonical logs can't know.
func typeName(t eventlog.Type) string {
	if t >= firstSPDM && t < firstSPDM+eventlog.Type(len(spdm)) {
		return spdm[t-firstSPDM]
	}
	if s := t.String(); strings.HasPrefix(s, "EV_") {
		return s
	}
	return ""
}

// typesByName is the inverse of typeName. It is made for each log that uses names.
func typesByName() map[string]eventlog.Type {
	m := map[string]eventlog.Type{}
	for _, first := range []eventlog.Type{0, 0x80000000, 0x800000e0} {
		for t := first; t < first+0x20; t++ {
			if name := typeName(t); name != "" {
				m[name] = t
			}
		}
	}
	return m
}

// The names of management events and of state transitions in JSON (CEL, tables 5
// and 8).
var (
	managementNames = map[ManagementType]string{
		Version: "cel_version", FirmwareEnd: "firmware_end", Timestamp: "cel_timestamp", StateTransition: "state_trans",
	}
	transitionNames = map[uint64]string{Suspend: "suspend", Hibernate: "hibernate", Kexec: "kexec"}
)

// find returns the key of a name, which writers spell in either case.
func find[K comparable](names map[K]string, name string) (K, bool) {
	for k, n := range names {
		if strings.EqualFold(n, name) {
			return k, true
		}
	}
	var none K
	return none, false
}

// algName is an algorithm's name in JSON: four digits where it has none.
func algName(a tpm.Alg) string {
	if a.Size() != 0 {
		return a.String()
	}
	return fmt.Sprintf("0x%04X", uint16(a))
}

// algByName is the inverse of algName; "sha" is SHA-1.
func algByName(s string) (tpm.Alg, error) {
	if strings.EqualFold(s, "sha") {
		return tpm.SHA1, nil
	}
	if len(s) == 6 && strings.EqualFold(s[:2], "0x") {
		if n, err := strconv.ParseUint(s[2:], 16, 16); err == nil {
			return tpm.Alg(n), nil
		}
	}
	return tpm.ParseAlg(s)
}
