package txt

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/internal/wire"
	"github.com/antievilmaid/aem/tpm"
)

// ErrNoModule says that a file is no authenticated code module.
var ErrNoModule = errors.New("this is no Intel authenticated code module")

// Module is the header of an authenticated code module, such as SINIT, and the
// lists of what it runs on (SDG, appendix A). The signature is not checked here:
// the CPU does that, and what it launched is in PCR 17.
type Module struct {
	HeaderVersion uint32
	ChipsetID     uint16
	Flags         uint16
	Vendor        uint32
	Year          int
	Month, Day    int
	Size          uint32 // of the whole module, bytes
	TXTSVN        uint16
	SGXSVN        uint16
	EntryPoint    uint32

	Kind            ModuleKind
	InfoVersion     uint8
	OSSINITVersion  uint32 // of the heap table that it wants
	MLEVersion      uint32 // oldest kernel header that it takes
	Capabilities    uint32
	Chipsets        []ChipsetID
	Processors      []ProcessorID
	TPMCapabilities uint32
	TPMAlgs         []tpm.Alg
}

// ModuleKind is what a module is for.
type ModuleKind uint8

// The kinds (SDG, appendix A, ChipsetACMType).
const (
	KindBIOS       ModuleKind = 0
	KindSINIT      ModuleKind = 1
	KindBIOSRevoke ModuleKind = 8
	KindRevoke     ModuleKind = 9 // of SINIT modules
)

// String names the kind.
func (k ModuleKind) String() string {
	switch k {
	case KindBIOS:
		return "firmware module"
	case KindSINIT:
		return "SINIT module"
	case KindBIOSRevoke, KindRevoke:
		return "revocation module"
	}
	return fmt.Sprintf("module of kind %d", uint8(k))
}

// ChipsetID is a chipset that a module runs on.
type ChipsetID struct {
	Flags                    uint32
	Vendor, Device, Revision uint16
	Mask                     uint16
	Extended                 uint32
}

// ProcessorID is a family of CPUs that a module runs on.
type ProcessorID struct {
	FMS, FMSMask           uint32 // family, model and stepping as CPUID leaf 1 gives them
	Platform, PlatformMask uint64 // IA32_PLATFORM_ID
}

const moduleTypeChipset = 2

// infoUUID begins the information table of a module.
var infoUUID = []byte{0xaa, 0x3a, 0xc0, 0x7f, 0xa7, 0x46, 0xdb, 0x18, 0x2e, 0xac, 0x69, 0x8f, 0x8d, 0x41, 0x7f, 0x5a}

// maxIDs is far more than any module lists.
const maxIDs = 1024

// ParseModule reads a module's header and lists. The error wraps [ErrNoModule].
func ParseModule(b []byte) (*Module, error) {
	bad := func(format string, args ...any) (*Module, error) {
		return nil, fmt.Errorf("%w: %s", ErrNoModule, fmt.Sprintf(format, args...))
	}
	r := wire.NewReader(b)
	kind := r.U16()
	r.U16() // subtype
	headerWords := r.U32()
	m := &Module{HeaderVersion: r.U32(), ChipsetID: r.U16(), Flags: r.U16(), Vendor: r.U32()}
	date, words := r.U32(), r.U32()
	m.TXTSVN, m.SGXSVN = r.U16(), r.U16()
	r.Bytes(20) // code control, error entry, GDT limit and base, segment
	m.EntryPoint = r.U32()
	r.Bytes(64 + 4) // reserved, key size
	scratchWords := r.U32()
	switch {
	case r.Short() || kind != moduleTypeChipset || m.Vendor != 0x8086:
		return bad("it does not begin as one")
	case uint64(words)*4 > uint64(len(b)):
		return bad("it claims %d bytes, and %d are there", uint64(words)*4, len(b))
	case uint64(words)*4 < uint64(r.Offset()):
		return bad("it claims %d bytes, which is less than its header", uint64(words)*4)
	}
	m.Size = words * 4
	m.Year, m.Month, m.Day = bcd(date>>16), bcd(date>>8&0xff), bcd(date&0xff)
	b = b[:m.Size]
	info := (uint64(headerWords) + uint64(scratchWords)) * 4
	if info > uint64(len(b)) || !bytes.HasPrefix(b[info:], infoUUID) {
		return bad("its information table is not where its header says")
	}
	r = wire.NewReader(b[info:])
	r.Bytes(16)
	m.Kind, m.InfoVersion = ModuleKind(r.U8()), r.U8()
	r.U16() // length
	chipsets := r.U32()
	m.OSSINITVersion, m.MLEVersion, m.Capabilities = r.U32(), r.U32(), r.U32()
	r.U32() // version and revision
	var processors, tpms uint32
	if m.InfoVersion >= 4 {
		processors = r.U32()
	}
	if m.InfoVersion >= 5 {
		tpms = r.U32()
	}
	if r.Short() {
		return bad("its information table is cut off")
	}
	list := func(at uint32, size uint64) (wire.Reader, uint32, error) {
		r := wire.NewReader(b[min(uint64(at), uint64(len(b))):])
		n := r.U32()
		if r.Short() || n > maxIDs || uint64(n)*size > uint64(r.Left()) {
			return r, 0, fmt.Errorf("%w: a list at offset %#x claims %d entries", ErrNoModule, at, n)
		}
		return r, n, nil
	}
	r, n, err := list(chipsets, 16)
	if err != nil {
		return nil, err
	}
	for range n {
		m.Chipsets = append(m.Chipsets, ChipsetID{Flags: r.U32(), Vendor: r.U16(), Device: r.U16(), Revision: r.U16(), Mask: r.U16(), Extended: r.U32()})
	}
	if processors != 0 {
		if r, n, err = list(processors, 24); err != nil {
			return nil, err
		}
		for range n {
			m.Processors = append(m.Processors, ProcessorID{r.U32(), r.U32(), r.U64(), r.U64()})
		}
	}
	if tpms != 0 {
		r := wire.NewReader(b[min(uint64(tpms), uint64(len(b))):])
		m.TPMCapabilities = r.U32()
		n := r.U16()
		if r.Short() || int(n)*2 > r.Left() || n > maxIDs {
			return bad("its list of the TPM's algorithms is cut off")
		}
		for range n {
			m.TPMAlgs = append(m.TPMAlgs, tpm.Alg(r.U16()))
		}
	}
	return m, nil
}

// bcd reads decimal digits of four bits each.
func bcd(v uint32) int {
	n := 0
	for shift := 12; shift >= 0; shift -= 4 {
		n = n*10 + int(v>>shift&0xf)
	}
	return n
}

// Production reports whether the module is signed for production chipsets.
func (m *Module) Production() bool { return m.Flags&(1<<15) == 0 }

// Date is the module's date, such as 2019-07-31.
func (m *Module) Date() string { return fmt.Sprintf("%04d-%02d-%02d", m.Year, m.Month, m.Day) }

// Machine is what a module must fit.
type Machine struct {
	Vendor, Device, Revision uint16 // of the chipset, from TXT.DIDVID
	FMS                      uint32 // of the CPU, CPUID leaf 1, EAX; zero where it is not known
	Platform                 uint64 // IA32_PLATFORM_ID
	PlatformKnown            bool
	Production               bool
}

// Fits reports whether the module runs on a machine, and why not. What is not
// known of a machine is not held against the module.
func (m *Module) Fits(x Machine) (ok bool, reason string) {
	if m.Kind != KindSINIT {
		return false, "it is a " + m.Kind.String()
	}
	if m.Production() != x.Production {
		return false, "it is signed for the other kind of chipset (production, debug)"
	}
	chipset := false
	for _, c := range m.Chipsets {
		const revisionIsMask = 1
		revision := c.Revision == x.Revision
		if c.Flags&revisionIsMask != 0 {
			revision = c.Revision&x.Revision != 0
		}
		chipset = chipset || c.Vendor == x.Vendor && c.Device == x.Device && revision
	}
	if !chipset {
		return false, fmt.Sprintf("chipset %04x:%04x revision %#x is not in its list", x.Vendor, x.Device, x.Revision)
	}
	if len(m.Processors) == 0 || x.FMS == 0 {
		return true, ""
	}
	for _, p := range m.Processors {
		platform := !x.PlatformKnown || x.Platform&p.PlatformMask == p.Platform
		if x.FMS&p.FMSMask == p.FMS && platform {
			return true, ""
		}
	}
	return false, fmt.Sprintf("CPU %#x is not in its list", x.FMS)
}
