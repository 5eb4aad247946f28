package doctor

// The CPUs' makers as CPUID leaf 0 spells them.
const (
	vendorIntel = "GenuineIntel"
	vendorAMD   = "AuthenticAMD"
	vendorHygon = "HygonGenuine"
)

const (
	propFixed    = 0x100
	propVariable = 0x200
)
