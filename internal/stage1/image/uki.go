package image

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrStub says that nothing can be added to a stub.
var ErrStub = errors.New("nothing can be added to this stub")

// Section is a section to add to a PE file.
type Section struct {
	Name    string // at most 8 bytes, such as ".linux"
	Content []byte
	// Room is how many bytes it takes in memory, where that is more than Content.
	Room uint32
}

// The fields of a PE file that change when sections are added (Microsoft PE Format
// Specification, "COFF File Header", "Optional Header", "Section Table").
const (
	offPE           = 0x3c // in the file: where the PE header is
	lenFileHeader   = 24   // with the signature before it
	offNumSections  = 6    // from here on in the PE header
	offInitialized  = lenFileHeader + 8
	offImageSize    = lenFileHeader + 56
	offChecksum     = lenFileHeader + 64
	lenSectionEntry = 40
	initializedRead = 0x40000040 // IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_MEM_READ
	page            = 0x1000
	certificates    = 4 // the data directory of signatures
)

// AddSections appends sections to a program for UEFI, as systemd's stub takes its kernel
// (systemd-stub(7)). What the program has stays as it is. A signed one is refused: its
// signature would not be true any more. The error wraps [ErrStub].
func AddSections(stub []byte, sections []Section) ([]byte, error) {
	out, err := addSections(stub, sections)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStub, err)
	}
	return out, nil
}

func addSections(stub []byte, sections []Section) ([]byte, error) {
	f, header, err := readStub(stub)
	if err != nil {
		return nil, err
	}
	header64 := f.OptionalHeader.(*pe.OptionalHeader64)
	table := int64(binary.LittleEndian.Uint32(stub[offPE:])) + lenFileHeader + int64(f.SizeOfOptionalHeader)
	at := table + lenSectionEntry*int64(len(f.Sections))
	end := at + lenSectionEntry*int64(len(sections))
	if end > int64(header64.SizeOfHeaders) || end > int64(len(stub)) {
		return nil, fmt.Errorf("its header has no room for %d sections more", len(sections))
	}
	for _, b := range stub[at:end] {
		if b != 0 {
			return nil, errors.New("something lies where its list of sections would go on")
		}
	}
	memory := uint64(header64.SizeOfHeaders)
	for _, s := range f.Sections {
		memory = max(memory, uint64(s.VirtualAddress)+uint64(max(s.VirtualSize, s.Size)))
		if raw := uint64(s.Offset) + uint64(s.Size); s.Size != 0 && (raw > uint64(len(stub)) || uint64(s.Offset) < uint64(end)) {
			return nil, fmt.Errorf("its section %s lies outside the file, or in the header", s.Name)
		}
	}
	out := bytes.Clone(stub)
	initialized := uint64(header64.SizeOfInitializedData)
	for i, s := range sections {
		if len(s.Name) == 0 || len(s.Name) > 8 || f.Section(s.Name) != nil {
			return nil, fmt.Errorf("it can't have a section named %q, or has one", s.Name)
		}
		memory = alignUp(memory, page)
		out = pad(out, uint64(header64.FileAlignment))
		offset := uint64(len(out))
		out = append(out, s.Content...)
		out = pad(out, uint64(header64.FileAlignment))
		size := max(uint64(len(s.Content)), uint64(s.Room))
		if uint64(len(out)) > math.MaxInt32 || memory+size > math.MaxInt32 {
			return nil, errors.New("it would be larger than 2 GiB")
		}
		entry := out[at+int64(lenSectionEntry*i):][:lenSectionEntry]
		copy(entry, s.Name)
		binary.LittleEndian.PutUint32(entry[8:], uint32(size))
		binary.LittleEndian.PutUint32(entry[12:], uint32(memory))
		binary.LittleEndian.PutUint32(entry[16:], uint32(uint64(len(out))-offset))
		binary.LittleEndian.PutUint32(entry[20:], uint32(offset))
		binary.LittleEndian.PutUint32(entry[36:], initializedRead)
		memory += size
		initialized += uint64(len(out)) - offset
	}
	h := out[header:]
	binary.LittleEndian.PutUint16(h[offNumSections:], uint16(len(f.Sections)+len(sections)))
	binary.LittleEndian.PutUint32(h[offInitialized:], uint32(min(initialized, math.MaxUint32)))
	binary.LittleEndian.PutUint32(h[offImageSize:], uint32(alignUp(memory, uint64(max(header64.SectionAlignment, page)))))
	binary.LittleEndian.PutUint32(h[offChecksum:], 0) // UEFI does not look at it
	return out, nil
}

// readStub checks all that AddSections relies on.
func readStub(stub []byte) (*pe.File, int64, error) {
	f, err := pe.NewFile(bytes.NewReader(stub))
	if err != nil {
		return nil, 0, fmt.Errorf("it is no program for UEFI: %w", err)
	}
	o, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	switch {
	case !ok || f.Machine != pe.IMAGE_FILE_MACHINE_AMD64:
		return nil, 0, errors.New("it is not for this kind of machine (x86-64)")
	case o.Subsystem != pe.IMAGE_SUBSYSTEM_EFI_APPLICATION:
		return nil, 0, errors.New("it is no program for UEFI")
	case o.NumberOfRvaAndSizes > certificates && o.DataDirectory[certificates].Size != 0:
		return nil, 0, errors.New("it is signed; take the one without a signature, and sign the result")
	case !powerOfTwo(o.FileAlignment), !powerOfTwo(o.SectionAlignment):
		return nil, 0, errors.New("its alignments are no powers of two up to 64 KiB")
	case len(stub) < offPE+4:
		return nil, 0, errors.New("it ends in its header")
	}
	header := int64(binary.LittleEndian.Uint32(stub[offPE:]))
	if header+lenFileHeader+int64(f.SizeOfOptionalHeader) > int64(len(stub)) || f.SizeOfOptionalHeader < offChecksum {
		return nil, 0, errors.New("it ends in its header")
	}
	return f, header, nil
}

func powerOfTwo(n uint32) bool { return n != 0 && n&(n-1) == 0 && n <= 1<<16 }

func alignUp(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }

func pad(b []byte, to uint64) []byte {
	return append(b, make([]byte, alignUp(uint64(len(b)), to)-uint64(len(b)))...)
}

// Unify makes a unified kernel image: a program for UEFI that is systemd's stub with the
// kernel, its command line and the initramfs in it.
func Unify(stub, kernel, initrd []byte, line string) ([]byte, error) {
	var room uint32
	// The stub of newer systemds runs the kernel where it lies, and it is larger in memory.
	k, err := pe.NewFile(bytes.NewReader(kernel))
	if err != nil {
		return nil, fmt.Errorf("the kernel can't be started by UEFI: it has no EFI stub: %w", err)
	}
	if o, ok := k.OptionalHeader.(*pe.OptionalHeader64); ok && o.SizeOfImage < 1<<30 {
		room = o.SizeOfImage
	}
	return AddSections(stub, []Section{
		{Name: ".osrel", Content: []byte("ID=aem-stage1\nNAME=\"AEM stage 1\"\nPRETTY_NAME=\"AEM stage 1\"\n")},
		{Name: ".cmdline", Content: []byte(line)},
		{Name: ".initrd", Content: initrd},
		{Name: ".linux", Content: kernel, Room: room}, // last, so that nothing lies behind it
	})
}
