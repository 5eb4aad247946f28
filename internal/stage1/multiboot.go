package stage1

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/u-root/u-root/pkg/boot/kexec"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/drtm"
)

// Fields of the Multiboot information and of an entry of its list of modules
// (Multiboot Specification 0.6.96, clause 3.3).
const (
	infoFlags       = 0
	infoLower       = 4 // KiB of memory below 640 KiB
	infoLine        = 16
	infoModules     = 20 // how many; then where their list is
	infoMapSize     = 44
	infoMap         = 48
	lenInfo         = 52
	hasLine         = 1 << 2
	hasModules      = 1 << 3
	hasMap          = 1 << 6
	lenModule       = 16
	maxMultiboot    = 1 << 32 // addresses have 32 bits
	maxKexecSegment = 16      // KEXEC_SEGMENT_MAX
)

// addModules puts modules beside a Xen that u-root's loader has prepared without any,
// and enters them into its Multiboot information, which is known by its line. Each
// module is a segment of its own that is the slice it was measured from: u-root's loader
// would unpack some behind our back, and hold all of them four times.
func addModules(mem *kexec.Memory, line string, modules []drtm.Module) error {
	info, err := findInfo(mem.Segments, line)
	if err != nil {
		return err
	}
	size := 0
	for i, m := range modules {
		size += lenModule + len(moduleLine(i, m)) + 1
	}
	list := make([]byte, size)
	at, err := mem.AddKexecSegment(list)
	if err != nil {
		return fmt.Errorf("find room for the list of modules: %w", err)
	}
	text := lenModule * len(modules)
	for i, m := range modules {
		place := kexec.Range{Start: at.Start} // of a module without content
		if len(m.Content) > 0 {
			if place, err = mem.AddKexecSegment(m.Content); err != nil {
				return fmt.Errorf("find room for module %d: %w", i+1, err)
			}
		}
		end := uint64(place.Start) + uint64(len(m.Content))
		if end > maxMultiboot || uint64(at.Start)+uint64(size) > maxMultiboot {
			return fmt.Errorf("there is no room below 4 GiB for module %d", i+1)
		}
		entry := list[lenModule*i:]
		binary.LittleEndian.PutUint32(entry, uint32(place.Start))
		binary.LittleEndian.PutUint32(entry[4:], uint32(end))
		binary.LittleEndian.PutUint32(entry[8:], uint32(at.Start)+uint32(text))
		text += copy(list[text:], moduleLine(i, m)) + 1
	}
	flags := binary.LittleEndian.Uint32(info[infoFlags:])
	binary.LittleEndian.PutUint32(info[infoFlags:], flags|hasModules)
	binary.LittleEndian.PutUint32(info[infoModules:], uint32(len(modules)))
	binary.LittleEndian.PutUint32(info[infoModules+4:], uint32(at.Start))
	return nil
}

// moduleLine is a module's line as Multiboot 1 wants it: with a file's name before it,
// which Xen drops. What follows is the line that was measured.
func moduleLine(i int, m drtm.Module) string {
	name := "module"
	switch i {
	case 0:
		name = "kernel"
	case 1:
		name = "initrd"
	}
	return name + " " + m.Line
}

// findInfo is the one segment that is a Multiboot information: its pointer leads to
// the line in the same segment.
func findInfo(segments kexec.Segments, line string) (info []byte, err error) {
	for _, s := range segments {
		if len(s.Buf) < lenInfo || binary.LittleEndian.Uint32(s.Buf[infoFlags:])&(hasLine|hasMap) != hasLine|hasMap {
			continue
		}
		at := uint64(binary.LittleEndian.Uint32(s.Buf[infoLine:])) - uint64(s.Phys.Start)
		if at >= uint64(len(s.Buf)) || !bytes.HasPrefix(s.Buf[at:], append([]byte(line), 0)) {
			continue
		}
		if info != nil {
			return nil, errors.New("the loader made two Multiboot informations")
		}
		info = s.Buf
	}
	if info == nil {
		return nil, errors.New("the loader made no Multiboot information")
	}
	return info, nil
}

// prepared is what is given to the kernel: segments of whole pages, and where it enters them.
type prepared struct {
	entry    uintptr
	segments kexec.Segments
}

// kexecSegment is the kernel's struct kexec_segment.
type kexecSegment struct {
	buffer       unsafe.Pointer
	length       uintptr
	memory, size uintptr
}

// load hands the segments to the kernel (kexec_load(2)). u-root's function for it copies
// each before.
func (x prepared) load() error {
	segments := x.segments
	if len(segments) > maxKexecSegment {
		return fmt.Errorf("the kernel takes %d segments, and these are %d: there are too many modules", maxKexecSegment, len(segments))
	}
	if !segments.PhysContains(x.entry) {
		return errors.New("the loader's entry lies in none of its segments")
	}
	list := make([]kexecSegment, len(segments))
	for i, s := range segments {
		list[i] = kexecSegment{unsafe.Pointer(unsafe.SliceData(s.Buf)), uintptr(len(s.Buf)), s.Phys.Start, uintptr(s.Phys.Size)}
	}
	_, _, errno := unix.Syscall6(unix.SYS_KEXEC_LOAD, x.entry, uintptr(len(list)), uintptr(unsafe.Pointer(unsafe.SliceData(list))), 0, 0, 0)
	runtime.KeepAlive(list)
	if errno != 0 {
		return fmt.Errorf("kexec_load: %w", errno)
	}
	return nil
}
