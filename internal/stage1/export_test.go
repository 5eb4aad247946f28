package stage1

import "github.com/u-root/u-root/pkg/boot/kexec"

// For the tests of what the kernel and u-root's loader are given.
var (
	MemoryFile = memoryFile
	HandOver   = handOver
	AddModules = addModules
)

// LoadSegments gives segments to the kernel.
func LoadSegments(entry uintptr, segments kexec.Segments) error {
	return prepared{entry, segments}.load()
}

// FindRootPointer finds ACPI's root pointer below a root folder.
func FindRootPointer(root string) (address uint64, size uint32, err error) {
	p, err := findRootPointer(root)
	return p.address, p.size, err
}

// Copier is the code that copies ACPI's root pointer.
func Copier(address uint64, size uint32, to, next uint64) []byte {
	return rootPointer{address, size}.copier(to, next)
}

// WithRootPointer adds ACPI's root pointer of ACPI 2.0 to what is prepared for kexec.
func WithRootPointer(entry uintptr, segments kexec.Segments, line string, address uint64) (uintptr, kexec.Segments, error) {
	x, err := prepared{entry, segments}.withRootPointer(line, rootPointer{address, 36})
	return x.entry, x.segments, err
}
