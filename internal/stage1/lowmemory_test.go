package stage1_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/boot/kexec"
	"github.com/u-root/u-root/pkg/boot/multiboot"

	"github.com/antievilmaid/aem/internal/stage1"
)

const (
	efiLine                  = "xen dom0_mem=1G no-real-mode"
	efiInfo, efiMap          = 0x700000, 0x701000
	theEntry            uint = 0x702000
	thePointer               = 0x7ff7e014
	ramType, otherTypes      = 1, 2
)

func entry(base, length uint64, typ uint32) multiboot.MemoryMap {
	return multiboot.MemoryMap{Size: 20, BaseAddr: base, Length: length, Type: typ}
}

// usual is the map of memory of a machine with UEFI: page 0xa0 is the end of low memory.
func usual() []multiboot.MemoryMap {
	return []multiboot.MemoryMap{
		entry(0, 0xa0000, ramType), entry(0x100000, 0x7fe00000, ramType), entry(0x7ff00000, 0x7f000, 3), entry(0xff000000, 0x1000000, otherTypes),
	}
}

// fromURoot are segments as u-root's loader prepares them.
func fromURoot(t *testing.T, m []multiboot.MemoryMap) kexec.Segments {
	t.Helper()
	b, err := binary.Append(nil, binary.LittleEndian, m)
	if err != nil {
		t.Fatal(err)
	}
	info := make([]byte, 128)
	for offset, v := range map[int]int{0: 1<<2 | 1<<6 | 1<<3 | 1, 4: 640, 16: efiInfo + 100, 44: len(b), 48: efiMap} {
		binary.LittleEndian.PutUint32(info[offset:], uint32(v))
	}
	info = append(append(info[:100], efiLine...), "\x00u-root kexec\x00"...)
	at := func(start uintptr, b string) kexec.Segment {
		return kexec.NewSegment([]byte(b), kexec.Range{Start: start, Size: 4096})
	}
	return kexec.Segments{at(0x200000, "xen"), at(0x600000, strings.Repeat(efiLine, 10)), at(efiInfo, string(info)), at(efiMap, string(b)), at(uintptr(theEntry), "trampoline")}
}

func TestWithRootPointer(t *testing.T) {
	for name, x := range map[string]struct {
		memory, want []multiboot.MemoryMap
		ebda         uint64
	}{
		"usual": {usual(), []multiboot.MemoryMap{
			entry(0, 0x1000, otherTypes), entry(0x1000, 0x9e000, ramType), entry(0x9f000, 0x1000, otherTypes),
			entry(0x100000, 0x7fe00000, ramType), entry(0x7ff00000, 0x7f000, 3), entry(0xff000000, 0x1000000, otherTypes),
		}, 0x9f000},
		// What is left above the firmware's own page is too small for Xen's code.
		"in pieces": {append([]multiboot.MemoryMap{entry(0, 0x58000, ramType), entry(0x58000, 0x1000, otherTypes), entry(0x59000, 0x10800, ramType), entry(0x69800, 0x36800, 4)}, usual()[2:]...),
			append([]multiboot.MemoryMap{
				entry(0, 0x1000, otherTypes), entry(0x1000, 0x56000, ramType), entry(0x57000, 0x1000, otherTypes), entry(0x58000, 0x1000, otherTypes), entry(0x59000, 0x10800, ramType), entry(0x69800, 0x36800, 4),
			}, usual()[2:]...), 0x57000},
	} {
		t.Run(name, func(t *testing.T) {
			before := fromURoot(t, x.memory)
			e, after, err := stage1.WithRootPointer(uintptr(theEntry), before, efiLine, thePointer)
			if err != nil {
				t.Fatal(err)
			}
			info := after.GetPhys(kexec.Range{Start: efiInfo, Size: 52})
			word := func(offset int) uint32 { return binary.LittleEndian.Uint32(info[offset:]) }
			if uint64(word(4))<<10 != x.ebda {
				t.Errorf("low memory is said to have %d KiB", word(4))
			}
			m := make([]multiboot.MemoryMap, word(44)/24)
			if _, err := binary.Decode(after.GetPhys(kexec.Range{Start: efiMap, Size: uint(word(44))}), binary.LittleEndian, m); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(x.want, m); diff != "" {
				t.Errorf("map of memory (-want +got)\n%s", diff)
			}
			zero, area := make([]byte, 4096), make([]byte, 4096)
			binary.LittleEndian.PutUint16(zero[0x40e:], uint16(x.ebda>>4))
			binary.LittleEndian.PutUint16(zero[0x413:], uint16(x.ebda>>10))
			if !bytes.Equal(after.GetPhys(kexec.Range{Start: 0, Size: 4096}), zero) {
				t.Error("page 0 is another")
			}
			area[0] = 4
			copy(area[2048:], stage1.Copier(thePointer, 36, x.ebda+16, uint64(theEntry)))
			if !bytes.Equal(after.GetPhys(kexec.Range{Start: uintptr(x.ebda), Size: 4096}), area) || e != uintptr(x.ebda)+2048 {
				t.Errorf("the area or the entry, %#x, is another", e)
			}
			if len(after) != len(before)+2 {
				t.Errorf("there are %d segments more", len(after)-len(before))
			}
			for _, start := range []uintptr{0x200000, 0x600000, uintptr(theEntry)} {
				r := kexec.Range{Start: start, Size: 3}
				if !bytes.Equal(before.GetPhys(r), after.GetPhys(r)) {
					t.Errorf("the segment at %#x was changed", start)
				}
			}
		})
	}
}

func TestWithoutRoomForRootPointer(t *testing.T) {
	many := usual()
	for i := range uint64(4096/24 - len(many) - 1) {
		many = append(many, entry(0x100000000+i<<20, 1<<19, ramType))
	}
	for name, x := range map[string]struct {
		memory  []multiboot.MemoryMap
		line    string
		pointer uint64
		err     string
	}{
		"page 0 taken":           {append([]multiboot.MemoryMap{entry(0, 0x1000, otherTypes), entry(0x1000, 0x9f000, ramType)}, usual()[1:]...), efiLine, thePointer, "page 0"},
		"page 0 in part":         {append([]multiboot.MemoryMap{entry(0, 0x800, ramType), entry(0x1000, 0x9f000, ramType)}, usual()[1:]...), efiLine, thePointer, "page 0"},
		"low memory taken":       {append([]multiboot.MemoryMap{entry(0, 0x40fff, ramType)}, usual()[1:]...), efiLine, thePointer, "68 KiB"},
		"pointer in RAM":         {usual(), efiLine, 0x200000, "not memory for ACPI"},
		"pointer behind":         {usual(), efiLine, 0x7ff7f000, "not memory for ACPI"},
		"a full map":             {many, efiLine, thePointer, "no room for"},
		"another's information":  {usual(), efiLine + " x", thePointer, "no Multiboot information"},
		"a line that begins so":  {usual(), efiLine[:8], thePointer, "no Multiboot information"},
		"a length that overruns": {append(usual(), entry(0x1000, ^uint64(0), ramType))[1:], efiLine, thePointer, "page 0"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := stage1.WithRootPointer(uintptr(theEntry), fromURoot(t, x.memory), x.line, x.pointer)
			if err == nil || !strings.Contains(err.Error(), x.err) {
				t.Error(err)
			}
		})
	}
}

// A module that looks like the information is no reason to change it.
func TestInformationIsFoundOnce(t *testing.T) {
	s := fromURoot(t, usual())
	info := bytes.Clone(s[2].Buf)
	binary.LittleEndian.PutUint32(info[16:], 0x800000+100)
	s = append(s, kexec.NewSegment(info, kexec.Range{Start: 0x800000, Size: 4096}))
	if _, _, err := stage1.WithRootPointer(uintptr(theEntry), s, efiLine, thePointer); err == nil || !strings.Contains(err.Error(), "two Multiboot informations") {
		t.Error(err)
	}
}
