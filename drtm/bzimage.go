package drtm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/drtm/txt"
)

// ErrKernel says that the kernel is none that a Linux secure launch can start.
var ErrKernel = errors.New("this is no Linux kernel that can be launched")

// zeroPageSize is the size of struct boot_params.
const zeroPageSize = 4096

// Offsets of the setup header, the same in a bzImage and in the zero page
// (Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").
const (
	headerStart   = 0x1f1
	headerJump    = 0x201 // the header ends at 0x202 plus this byte
	headerMagic   = 0x202
	headerVersion = 0x206
	loadFlags     = 0x211
)

// oldestProtocol is 2.06, the first with a command line longer than 255 bytes.
// All kernels that can be launched are much younger.
const oldestProtocol = 0x0206

// oldestEnd is where the header of that version ends: behind cmdline_size.
const oldestEnd = 0x23c

// loaderField is a part of the setup header that the boot loader writes.
type loaderField struct{ offset, size int }

// loaderFields are the fields whose type is "write" or "modify" in the boot
// protocol: addresses, sizes and the loader's own identity. They differ from
// one boot to the next, and what they point to is measured by itself, so they
// are zero in what is measured.
var loaderFields = []loaderField{
	{0x1fa, 2}, // vid_mode
	{0x1fc, 2}, // root_dev
	{0x210, 1}, // type_of_loader
	{0x212, 2}, // setup_move_size
	{0x214, 4}, // code32_start
	{0x218, 4}, // ramdisk_image
	{0x21c, 4}, // ramdisk_size
	{0x224, 2}, // heap_end_ptr
	{0x226, 1}, // ext_loader_ver
	{0x227, 1}, // ext_loader_type
	{0x228, 4}, // cmd_line_ptr
	{0x23c, 4}, // hardware_subarch
	{0x240, 8}, // hardware_subarch_data
	{0x250, 8}, // setup_data
}

// keptLoadFlags are the bits of loadflags that the kernel's file decides:
// LOADED_HIGH and KASLR. QUIET, KEEP_SEGMENTS and CAN_USE_HEAP are the loader's.
const keptLoadFlags = 0x03

// BootParams is the zero page that a Linux launch measures: 4096 bytes of
// which only the setup header is set, as it stands in the kernel's file, with
// the fields that a boot loader writes set to zero. So it depends on the
// kernel's file and on nothing else. The error wraps [ErrKernel].
func BootParams(kernel []byte) ([]byte, error) {
	const signature = 0x1fe
	if len(kernel) < headerVersion+2 ||
		!bytes.Equal(kernel[signature:signature+2], []byte{0x55, 0xaa}) ||
		string(kernel[headerMagic:headerMagic+4]) != "HdrS" {
		return nil, fmt.Errorf("%w: it has no setup header", ErrKernel)
	}
	if v := binary.LittleEndian.Uint16(kernel[headerVersion:]); v < oldestProtocol {
		return nil, fmt.Errorf("%w: its boot protocol %d.%02d is too old", ErrKernel, v>>8, v&0xff)
	}
	end := headerMagic + int(kernel[headerJump])
	if end < oldestEnd {
		return nil, fmt.Errorf("%w: its setup header claims to end at %#x, before its own fields", ErrKernel, end)
	}
	if end > len(kernel) {
		return nil, fmt.Errorf("%w: it ends inside its setup header", ErrKernel)
	}
	page := make([]byte, zeroPageSize)
	copy(page[headerStart:end], kernel[headerStart:end])
	for _, f := range loaderFields {
		clear(page[f.offset : f.offset+f.size])
	}
	page[loadFlags] &= keptLoadFlags
	return page, nil
}

// entryOffset is where the loader jumps to: the entry point in the kernel's MLE
// header, or zero, the start of the protected-mode code, where the kernel has none.
func entryOffset(kernel []byte) []byte {
	m, err := txt.FindMLE(kernel)
	if err != nil {
		return make([]byte, 4)
	}
	return binary.LittleEndian.AppendUint32(nil, m.Entry)
}
