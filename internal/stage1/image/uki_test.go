package image_test

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/stage1/image"
	"github.com/antievilmaid/aem/internal/testbed"
)

// stub is the smallest program for UEFI that has a section: headers of 0x400 bytes, code of 0x200.
func stub() []byte {
	var b bytes.Buffer
	put := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	dos := make([]byte, 0x80)
	copy(dos, "MZ")
	binary.LittleEndian.PutUint32(dos[0x3c:], 0x80)
	b.Write(dos)
	b.WriteString("PE\x00\x00")
	put(pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 1, SizeOfOptionalHeader: 240, Characteristics: 0x22})
	put(pe.OptionalHeader64{
		Magic: 0x20b, SizeOfCode: 0x200, AddressOfEntryPoint: 0x1000, SectionAlignment: 0x1000, FileAlignment: 0x200,
		SizeOfImage: 0x2000, SizeOfHeaders: 0x400, Subsystem: pe.IMAGE_SUBSYSTEM_EFI_APPLICATION, NumberOfRvaAndSizes: 16,
	})
	s := pe.SectionHeader32{VirtualSize: 0x10, VirtualAddress: 0x1000, SizeOfRawData: 0x200, PointerToRawData: 0x400, Characteristics: 0x60000020}
	copy(s.Name[:], ".text")
	put(s)
	b.Write(make([]byte, 0x400-b.Len()))
	b.Write(bytes.Repeat([]byte{0xc3}, 0x200))
	return b.Bytes()
}

func TestSectionsAreAdded(t *testing.T) {
	old := stub()
	added := []image.Section{{Name: ".cmdline", Content: []byte("quiet")}, {Name: ".initrd"}, {Name: ".linux", Content: bytes.Repeat([]byte("k"), 0x1234), Room: 0x8000}}
	out, err := image.AddSections(bytes.Clone(old), added)
	if err != nil {
		t.Fatal(err)
	}
	f, err := pe.NewFile(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	type place struct {
		Name          string
		Address, Size uint32
	}
	var got []place
	for _, s := range f.Sections {
		got = append(got, place{s.Name, s.VirtualAddress, s.VirtualSize})
	}
	want := []place{{".text", 0x1000, 0x10}, {".cmdline", 0x2000, 5}, {".initrd", 0x3000, 0}, {".linux", 0x3000, 0x8000}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sections (-want +got)\n%s", diff)
	}
	for i, s := range added {
		b, err := f.Sections[1+i].Data()
		if err != nil || !bytes.HasPrefix(b, s.Content) || len(bytes.Trim(b[len(s.Content):], "\x00")) != 0 {
			t.Errorf("%s holds %.20q, %v", s.Name, b, err)
		}
	}
	if o := f.OptionalHeader.(*pe.OptionalHeader64); o.SizeOfImage != 0xb000 || o.AddressOfEntryPoint != 0x1000 {
		t.Errorf("%#x bytes in memory, begins at %#x", o.SizeOfImage, o.AddressOfEntryPoint)
	}
	if !bytes.Equal(out[0x400:0x600], old[0x400:]) {
		t.Error("the stub's own code was changed")
	}
}

func TestStubsThatAreRefused(t *testing.T) {
	const optional = 0x80 + 24
	le := binary.LittleEndian
	for name, change := range map[string]func(b []byte) []byte{
		"nothing":             func([]byte) []byte { return nil },
		"a script":            func([]byte) []byte { return []byte("#!/bin/sh\nexit 0\n") },
		"cut off":             func(b []byte) []byte { return b[:0x500] },
		"of another machine":  func(b []byte) []byte { le.PutUint16(b[0x84:], pe.IMAGE_FILE_MACHINE_ARM64); return b },
		"for Windows":         func(b []byte) []byte { le.PutUint16(b[optional+68:], pe.IMAGE_SUBSYSTEM_WINDOWS_GUI); return b },
		"signed":              func(b []byte) []byte { le.PutUint32(b[optional+112+4*8+4:], 8); return b },
		"aligned to nothing":  func(b []byte) []byte { le.PutUint32(b[optional+36:], 0); return b },
		"aligned oddly":       func(b []byte) []byte { le.PutUint32(b[optional+32:], 0x300); return b },
		"without room":        func(b []byte) []byte { le.PutUint32(b[optional+60:], 0x80+24+240+2*40); return b },
		"with something else": func(b []byte) []byte { b[0x80+24+240+40+3] = 1; return b },
		"with a .linux":       func(b []byte) []byte { copy(b[0x80+24+240:], ".linux\x00\x00"); return b },
		"code in its header":  func(b []byte) []byte { le.PutUint32(b[0x80+24+240+20:], 0x100); return b },
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := image.AddSections(change(stub()), []image.Section{{Name: ".cmdline"}, {Name: ".linux"}}); out != nil || !errors.Is(err, image.ErrStub) {
				t.Errorf("%d bytes, %v", len(out), err)
			}
		})
	}
	for _, bad := range []string{"", ".toolongname", ".text"} {
		if _, err := image.AddSections(stub(), []image.Section{{Name: bad}}); !errors.Is(err, image.ErrStub) {
			t.Errorf("a section %q: %v", bad, err)
		}
	}
}

func TestUnify(t *testing.T) {
	k, err := testbed.FindKernel()
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := os.ReadFile(k.Image)
	if err != nil {
		t.Fatal(err)
	}
	out, err := image.Unify(stub(), kernel, []byte("initramfs"), "quiet")
	if err != nil {
		t.Fatal(err)
	}
	f, err := pe.NewFile(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range f.Sections {
		names = append(names, s.Name)
	}
	if want := []string{".text", ".osrel", ".cmdline", ".initrd", ".linux"}; !slices.Equal(names, want) {
		t.Errorf("sections %q", names)
	}
	if b, err := f.Section(".linux").Data(); err != nil || !bytes.HasPrefix(b, kernel) {
		t.Errorf("another kernel is in it, %v", err)
	}
	again, err := image.Unify(stub(), kernel, []byte("initramfs"), "quiet")
	if err != nil || !bytes.Equal(out, again) {
		t.Errorf("two makings differ, %v", err)
	}
	if _, err := image.Unify(stub(), []byte("no kernel"), nil, ""); err == nil {
		t.Error("a kernel that UEFI can't start was taken")
	}
}

func FuzzAddSections(f *testing.F) {
	f.Add(stub())
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		out, err := image.AddSections(b, []image.Section{{Name: ".cmdline", Content: []byte("quiet")}})
		if !bytes.Equal(b, before) {
			t.Fatal("the stub itself was changed")
		}
		if err != nil {
			return
		}
		p, err := pe.NewFile(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		s := p.Sections[len(p.Sections)-1]
		if got, err := s.Data(); err != nil || s.Name != ".cmdline" || !bytes.HasPrefix(got, []byte("quiet")) {
			t.Errorf("the last section is %s with %q, %v", s.Name, got, err)
		}
	})
}
