package stage1_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/boot/kexec"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/stage1"
)

const xenLine = "xen dom0_mem=1G"

// infoAt is a Multiboot information as u-root's loader makes it, with its line behind it.
func infoAt(start uintptr) kexec.Segment {
	b := make([]byte, 116, 4096)
	binary.LittleEndian.PutUint32(b, 1<<2|1<<6) // a line and a memory map
	binary.LittleEndian.PutUint32(b[16:], uint32(start)+116)
	b = append(b, xenLine+"\x00u-root kexec\x00"...)
	return kexec.NewSegment(b, kexec.Range{Start: start, Size: 4096})
}

// prepared is a Xen of one page and its information, with room up to a limit.
func prepared(limit uint) *kexec.Memory {
	ram := kexec.TypedRange{Range: kexec.Range{Size: limit}, Type: kexec.RangeRAM}
	return &kexec.Memory{Phys: kexec.MemoryMap{ram}, Segments: kexec.Segments{
		kexec.NewSegment([]byte("xen"), kexec.Range{Start: 1 << 20, Size: 4096}), infoAt(1<<20 + 8192),
	}}
}

// in is the memory from an address on, up to its segment's end.
func in(t *testing.T, m *kexec.Memory, at uint32) []byte {
	t.Helper()
	for _, s := range m.Segments {
		if s.Phys.Contains(uintptr(at)) {
			return s.Buf[uintptr(at)-s.Phys.Start:]
		}
	}
	t.Fatalf("nothing lies at %#x", at)
	return nil
}

// What Xen finds is what was measured, compressed or not: the very bytes, no copy of them.
func TestModulesStayAsTheyAre(t *testing.T) {
	packed := []byte(zipped(t, "unpacked"))
	large := make([]byte, 10000)
	modules := []drtm.Module{{Content: packed, Line: "root=/dev/x"}, {Content: large}, {Content: []byte("m"), Line: "a b"}, {Line: "empty"}}
	m := prepared(1 << 30)
	before := len(m.Segments)
	if err := stage1.AddModules(m, xenLine, modules); err != nil {
		t.Fatal(err)
	}
	if n := len(m.Segments) - before; n != 4 {
		t.Errorf("%d segments were added; want the list and three modules", n)
	}
	word := func(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	info := in(t, m, 1<<20+8192)
	if word(info, 0) != 1<<2|1<<3|1<<6 || word(info, 20) != uint32(len(modules)) {
		t.Errorf("the flags are %#x, and there are %d modules", word(info, 0), word(info, 20))
	}
	list := in(t, m, word(info, 24))
	var lines []string
	for i, want := range modules {
		entry := list[16*i:][:16]
		line, _, _ := strings.Cut(string(in(t, m, word(entry, 8))), "\x00")
		lines = append(lines, line)
		if size := word(entry, 4) - word(entry, 0); int(size) != len(want.Content) || word(entry, 12) != 0 {
			t.Errorf("module %d has %d bytes; measured were %d", i, size, len(want.Content))
		}
		if len(want.Content) > 0 && &in(t, m, word(entry, 0))[0] != &want.Content[0] {
			t.Errorf("module %d is not the bytes that were measured", i)
		}
	}
	if diff := cmp.Diff([]string{"kernel root=/dev/x", "initrd ", "module a b", "module empty"}, lines); diff != "" {
		t.Errorf("lines (-want +got)\n%s", diff)
	}
	for i, a := range m.Segments {
		if a.Phys.Start%4096 != 0 || a.Phys.Size%4096 != 0 || uint(len(a.Buf)) > a.Phys.Size {
			t.Errorf("%s is not whole pages", a)
		}
		for _, b := range m.Segments[:i] {
			if a.Phys.Overlaps(b.Phys) {
				t.Errorf("%s and %s overlap", a, b)
			}
		}
	}
}

// Where there is doubt what Xen would find, nothing is loaded.
func TestModulesThatCanNotBeAdded(t *testing.T) {
	one := []drtm.Module{{Content: make([]byte, 1<<20)}}
	high := prepared(1 << 40)
	high.Phys[0].Start, high.Phys[0].Size = 1<<32-8192, 1<<30
	for name, x := range map[string]struct {
		memory *kexec.Memory
		line   string
		says   string
	}{
		"another line":     {prepared(1 << 30), xenLine + " more", "no Multiboot information"},
		"the line's begin": {prepared(1 << 30), "xen dom0", "no Multiboot information"},
		"two informations": {&kexec.Memory{Segments: kexec.Segments{infoAt(1 << 20), infoAt(2 << 20)}}, xenLine, "two"},
		"no room":          {prepared(1<<20 + 1<<16), xenLine, "find room for module 1"},
		"above 4 GiB":      {high, xenLine, "below 4 GiB"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := stage1.AddModules(x.memory, x.line, one); err == nil || !strings.Contains(err.Error(), x.says) {
				t.Errorf("%v; want %q", err, x.says)
			}
		})
	}
}

func TestSegmentsThatTheKernelWouldNotTake(t *testing.T) {
	m := prepared(1 << 30)
	if err := stage1.LoadSegments(1<<30, m.Segments); err == nil || !strings.Contains(err.Error(), "entry") {
		t.Error(err)
	}
	if err := stage1.LoadSegments(1<<20, make(kexec.Segments, 17)); err == nil || !strings.Contains(err.Error(), "too many modules") {
		t.Error(err)
	}
}
