package stage1

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// rootPointer is where the firmware keeps ACPI's root system description pointer
// (ACPI 6.5, clause 5.2.5.3). It has 36 bytes, and 20 before ACPI 2.0.
type rootPointer struct {
	address uint64
	size    uint32
}

// findRootPointer finds it in UEFI's system table, which the kernel shows to root.
func findRootPointer(root string) (rootPointer, error) {
	path := filepath.Join(root, "/sys/firmware/efi/systab")
	b, err := os.ReadFile(path)
	if err != nil {
		return rootPointer{}, fmt.Errorf("look for ACPI's root pointer: %w", err)
	}
	p, err := parseTables(string(b))
	if err != nil {
		return rootPointer{}, fmt.Errorf("look for ACPI's root pointer in %s: %w", path, err)
	}
	return p, nil
}

// parseTables reads the kernel's list of the firmware's tables. The pointer of ACPI 2.0
// goes before the older one.
func parseTables(list string) (rootPointer, error) {
	for _, version := range []struct {
		name string
		size uint32
	}{{"ACPI20=", 36}, {"ACPI=", 20}} {
		for line := range strings.Lines(list) {
			if text, ok := strings.CutPrefix(strings.TrimSpace(line), version.name); ok {
				address, err := strconv.ParseUint(text, 0, 64)
				return rootPointer{address, version.size}, err
			}
		}
	}
	return rootPointer{}, errors.New("the firmware names none")
}

// copier is code that copies the pointer and goes on at next. The kernel does not let
// even root read the firmware's tables by /dev/mem (CONFIG_IO_STRICT_DEVMEM), so it is
// done when the kernel is gone: kexec enters with 64 bits, and with a page table that
// maps the firmware's ACPI memory at its own addresses (Linux,
// arch/x86/kernel/machine_kexec_64.c, init_pgtable). Nothing here can fail or decide.
func (p rootPointer) copier(to, next uint64) []byte {
	b := []byte{0xfc}                                                            // cld
	b = binary.LittleEndian.AppendUint64(append(b, 0x48, 0xbe), p.address)       // mov rsi, address
	b = binary.LittleEndian.AppendUint64(append(b, 0x48, 0xbf), to)              // mov rdi, to
	b = binary.LittleEndian.AppendUint32(append(b, 0xb9), p.size)                // mov ecx, size
	b = append(b, 0xf3, 0xa4)                                                    // rep movsb
	return append(binary.LittleEndian.AppendUint64(append(b, 0x48, 0xb8), next), // mov rax, next
		0xff, 0xe0) // jmp rax
}
