// Package artifact tells what a file is that a launch left behind or wants on the
// disk, by its structure and never by its name, and says what stands in it.
package artifact

import (
	"bytes"
	"encoding/binary"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/skl"
	"github.com/antievilmaid/aem/drtm/slrt"
	"github.com/antievilmaid/aem/drtm/txt"
	"github.com/antievilmaid/aem/eventlog/cel"
	"github.com/antievilmaid/aem/eventlog/ima"
)

var le = binary.LittleEndian

// Kind is what a file is.
type Kind string

// The kinds.
const (
	EventLog  Kind = "event log" // any format of package eventlog; what nothing else fits
	IMA       Kind = "IMA list"
	IMAText   Kind = "IMA list in text"
	CELTLV    Kind = "canonical event log, TLV"
	CELCBOR   Kind = "canonical event log, CBOR"
	CELJSON   Kind = "canonical event log, JSON"
	Heap      Kind = "TXT heap"
	Registers Kind = "TXT registers"
	SLRT      Kind = "secure launch resource table"
	ACPI      Kind = "ACPI table that points to a log"
	Module    Kind = "Intel authenticated code module"
	SLB       Kind = "Secure Loader Block"
	Kernel    Kind = "Linux kernel"
	MLE       Kind = "launchable image"
	Initrd    Kind = "initramfs"
	Text      Kind = "text"
	Empty     Kind = "empty file"
)

// Prefix is how much of a file Identify needs. A list of IMA may be far longer.
const Prefix = 1 << 20

// Identify tells what a file is by its beginning, of which whole says that it is
// all of the file.
func Identify(b []byte, whole bool) Kind {
	switch {
	case len(b) == 0:
		return Empty
	case bytes.HasPrefix(b, []byte("TXT Event Container\x00")):
		return EventLog
	case len(b) >= 4 && le.Uint32(b) == slrt.Magic:
		return SLRT
	case isACPI(b):
		return ACPI
	case isModule(b):
		return Module
	case isKernel(b):
		return Kernel
	case isInitrd(b):
		return Initrd
	case isRegisters(b):
		return Registers
	case heapAt(b) >= 0:
		return Heap
	case isIMA(b):
		return IMA
	case isIMAText(b):
		return IMAText
	}
	if whole {
		if kind, ok := isCEL(b); ok {
			return kind
		}
		if block, err := skl.Parse(b); err == nil && block.Loader != nil {
			return SLB
		}
	}
	if _, err := txt.FindMLE(b); err == nil {
		return MLE
	}
	if isText(b) {
		return Text
	}
	return EventLog
}

func isACPI(b []byte) bool {
	return len(b) >= 36 && (bytes.HasPrefix(b, []byte("TPM2")) || bytes.HasPrefix(b, []byte("TCPA")) || bytes.HasPrefix(b, []byte("CCEL"))) && le.Uint32(b[4:]) < 4096
}

// isModule looks at the header alone, because the prefix may be shorter than the module.
func isModule(b []byte) bool {
	return len(b) >= 128 && le.Uint16(b) == 2 && le.Uint32(b[16:]) == 0x8086
}

func isKernel(b []byte) bool {
	_, err := drtm.BootParams(b)
	return err == nil
}

// magics begin an initramfs: cpio archives and what they are compressed with.
var magics = []string{"070701", "070702", "\x1f\x8b", "BZh", "\xfd7zXZ\x00", "\x5d\x00\x00", "\x89LZO", "\x02\x21\x4c\x18", "\x04\x22\x4d\x18", "\x28\xb5\x2f\xfd"}

func isInitrd(b []byte) bool {
	for _, m := range magics {
		if bytes.HasPrefix(b, []byte(m)) {
			return true
		}
	}
	return false
}

func isRegisters(b []byte) bool {
	if len(b) != txt.PublicSize {
		return false
	}
	const didvid = 0x110
	return le.Uint64(b) == ^uint64(0) || le.Uint16(b[didvid:]) == 0x8086
}

// heapAt is where a heap begins: at the file's first byte, or where the registers
// of its address and size say that stand in the file's first 16 bytes, as in some
// captures. It is -1 where there is none.
func heapAt(b []byte) int {
	if plausibleHeap(b) {
		return 0
	}
	if len(b) >= 16 {
		base, size := le.Uint64(b), le.Uint64(b[8:])
		if base >= 16 && base%4096 == 0 && base < uint64(len(b)) && size > 0 && plausibleHeap(b[base:]) {
			return int(base)
		}
	}
	return -1
}

// plausibleHeap reads the first two tables only: the prefix may be shorter than the heap.
func plausibleHeap(b []byte) bool {
	if len(b) < 64 {
		return false
	}
	size, version := le.Uint64(b), le.Uint32(b[8:])
	if size < 36 || size > 4096 || version < 2 || version > 16 || size+8 > uint64(len(b)) {
		return false
	}
	second := le.Uint64(b[size:])
	return second >= 8 && second < 1<<20
}

func isIMA(b []byte) bool {
	e, err := ima.NewReader(bytes.NewReader(b)).Next()
	if err == nil {
		return len(e.Fields) > 0 && e.Fields[0].Kind != "?"
	}
	// A list that is cut inside its first entry is one all the same.
	return len(b) > 34 && le.Uint32(b) < 24 && bytes.HasPrefix(b[28:], []byte("ima"))
}

func isIMAText(b []byte) bool {
	_, err := ima.NewTextReader(bytes.NewReader(b)).Next()
	return err == nil
}

func isCEL(b []byte) (Kind, bool) {
	first := bytes.TrimLeft(b, " \t\r\n")
	if len(first) > 0 && first[0] == '[' {
		if r, err := cel.ReadJSON(b); err == nil || len(r) > 0 {
			return CELJSON, true
		}
	}
	if r, err := cel.ReadTLV(b); err == nil && len(r) > 0 {
		return CELTLV, true
	}
	if r, err := cel.ReadCBOR(b); err == nil && len(r) > 0 {
		return CELCBOR, true
	}
	return "", false
}

func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}
