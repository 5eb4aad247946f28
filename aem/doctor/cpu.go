package doctor

import (
	"slices"
	"strconv"
	"strings"

	"github.com/antievilmaid/aem/drtm"
)

// The CPUs' makers as CPUID leaf 0 spells them.
const (
	vendorIntel = "GenuineIntel"
	vendorAMD   = "AuthenticAMD"
	vendorHygon = "HygonGenuine"
)

// cpuField is a line of cpuinfo.
func (e *Evidence) cpuField(name string) string {
	for line := range strings.Lines(string(e.CPUInfo)) {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// platform is the kind of launch that the CPU's maker provides, or zero.
func (e *Evidence) platform() drtm.Platform {
	switch e.cpuField("vendor_id") {
	case vendorIntel:
		return drtm.TXT
	case vendorAMD, vendorHygon:
		return drtm.SKINIT
	}
	return 0
}

// hostBits are where Xen's words about the CPU hold what the rows ask for: the number
// of the word in hw_caps, and the bit. Xen hides these features from dom0's own CPUID.
var hostBits = map[string][2]int{
	"vmx": {1, 5}, "smx": {1, 6}, // CPUID leaf 1, ECX
	"svm": {3, 2}, "skinit": {3, 12}, // CPUID leaf 0x80000001, ECX
}

// hasFeature reports whether the CPU has a feature; known is false where nobody said.
func (e *Evidence) hasFeature(name string) (has, known bool) {
	if e.Xen == nil {
		return e.hasFlag(name)
	}
	bit, ok := hostBits[name]
	words := strings.Split(e.Xen.Capabilities, ":")
	if !ok || bit[0] >= len(words) {
		return false, false
	}
	v, err := strconv.ParseUint(words[bit[0]], 16, 32)
	return v>>bit[1]&1 != 0, err == nil
}

// hasFlag reports whether the kernel lists a flag of the CPU.
func (e *Evidence) hasFlag(name string) (has, known bool) {
	flags := fields(e.cpuField("flags"))
	return slices.Contains(flags, name), len(flags) > 0
}

func fields(s string) []string { return strings.Fields(s) }

// signature is the CPU's family, model and stepping as CPUID leaf 1 gives them in
// EAX, or zero where they are not known (Intel SDM, volume 2, CPUID).
func (e *Evidence) signature() uint32 {
	var v [3]uint32
	for i, name := range []string{"cpu family", "model", "stepping"} {
		n, err := strconv.ParseUint(e.cpuField(name), 10, 8)
		if err != nil {
			return 0
		}
		v[i] = uint32(n)
	}
	family, model, stepping := v[0], v[1], v[2]
	extended := uint32(0)
	if family > 0xf {
		family, extended = 0xf, family-0xf
	}
	return extended<<20 | model>>4<<16 | family<<8 | model&0xf<<4 | stepping&0xf
}
