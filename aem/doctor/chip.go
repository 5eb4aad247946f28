package doctor

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/antievilmaid/aem/tpm"
)

// Properties of a TPM 2.0 (Part 2, clause 6.13, TPM_PT).
const (
	propFixed          = 0x100
	propRevision       = 0x102
	propManufacturer   = 0x105
	propVendorString   = 0x106 // and the three after it
	propFirmware1      = 0x10b
	propFirmware2      = 0x10c
	propVariable       = 0x200
	propPermanent      = 0x200
	propStartupClear   = 0x201
	propPersistentFree = 0x209
	propCountersFree   = 0x20b

	propLockoutCounter  = 0x20e
	propMaxAuthFail     = 0x20f
	propLockoutInterval = 0x210
	propLockoutRecovery = 0x211
)

// Bits of TPMA_PERMANENT and TPMA_STARTUP_CLEAR (Part 2, clauses 8.6 and 8.7).
const (
	permanentLockoutAuth = 1 << 2
	permanentInLockout   = 1 << 9
	startupStorage       = 1 << 1
	startupEndorsement   = 1 << 2
)

// property is a TPM 2.0's property.
func (t *TPM) property(number Hex) (uint32, bool) {
	v, ok := t.Properties[number]
	return uint32(v), ok
}

// makerItem is what holds a TPM's maker.
func (t *TPM) makerItem() string {
	if t.family() == tpm.V12 {
		return itemTPMVersion
	}
	return itemTPMProperties
}

// chip is what a TPM says of its maker.
type chip struct {
	maker, model  string // letters and digits only
	version       []uint16
	specification string
}

func (x *exam) chip() chip {
	t := x.TPM
	if t.family() == tpm.V12 {
		return chip12(t.Version)
	}
	v, ok := t.property(propManufacturer)
	if !ok {
		return chip{}
	}
	c := chip{maker: letters(v)}
	for p := Hex(propVendorString); p < propVendorString+4; p++ {
		v, _ := t.property(p)
		c.model += letters(v)
	}
	for _, p := range []Hex{propFirmware1, propFirmware2} {
		v, _ := t.property(p)
		c.version = append(c.version, uint16(v>>16), uint16(v))
	}
	if v, ok := t.property(propRevision); ok {
		c.specification = fmt.Sprintf("%d.%02d", v/100, v%100)
	}
	return c
}

// chip12 reads a TPM_CAP_VERSION_INFO (TPM 1.2 Main, part 2, clause 21.6).
func chip12(b []byte) chip {
	const size, tag = 15, 0x0030
	if len(b) < size || binary.BigEndian.Uint16(b) != tag {
		return chip{}
	}
	return chip{
		maker:         letters(binary.BigEndian.Uint32(b[9:])),
		version:       []uint16{uint16(b[4]), uint16(b[5])},
		specification: fmt.Sprintf("level %d, errata %d", binary.BigEndian.Uint16(b[6:]), b[8]),
	}
}

// letters are the letters and digits among four bytes.
func letters(v uint32) string {
	return strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			return c
		}
		return -1
	}, string([]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}))
}

func (c chip) versionText() string {
	var parts []string
	for _, n := range c.version {
		parts = append(parts, fmt.Sprint(n))
	}
	return strings.Join(parts, ".")
}

// weakRSA reports whether the chip is among Infineon's whose RSA keys are weak; the
// versions are those of the maker's advisory.
func (c chip) weakRSA() bool {
	if c.maker != "IFX" || len(c.version) < 2 {
		return false
	}
	minor := c.version[1]
	switch c.version[0] {
	case 4:
		return minor <= 33 || minor >= 40 && minor <= 42
	case 5, 7:
		return minor <= 61
	case 6:
		return minor <= 42
	case 133:
		return minor <= 32
	}
	return false
}
