package txt

import (
	"fmt"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/wire"
	"github.com/antievilmaid/aem/tpm"
)

// ElementType is the kind of an extended element of the heap (SDG, appendix C.5).
type ElementType uint32

// The kinds.
const (
	ElementEnd             ElementType = 0
	ElementBIOSSpecVersion ElementType = 1
	ElementACM             ElementType = 2
	ElementSTM             ElementType = 3
	ElementCustom          ElementType = 4
	ElementEventLog12      ElementType = 5 // the address of a TPM 1.2 log
	ElementMADT            ElementType = 6
	ElementEventLogPerAlg  ElementType = 7 // a log for each algorithm
	ElementEventLogAgile   ElementType = 8
	ElementMCFG            ElementType = 9
	ElementTPRRequest      ElementType = 13
	ElementDTPR            ElementType = 14
	ElementCEDT            ElementType = 15
)

var elementNames = map[ElementType]string{
	ElementEnd: "end", ElementBIOSSpecVersion: "firmware specification version", ElementACM: "modules in the firmware", ElementSTM: "system management monitor",
	ElementCustom: "custom", ElementEventLog12: "TPM 1.2 event log", ElementMADT: "MADT table", ElementEventLogPerAlg: "event logs by algorithm",
	ElementEventLogAgile: "crypto agile event log", ElementMCFG: "MCFG table", ElementTPRRequest: "TPR request", ElementDTPR: "DTPR table", ElementCEDT: "CEDT table",
}

// String names the kind.
func (t ElementType) String() string {
	if s, ok := elementNames[t]; ok {
		return s
	}
	return fmt.Sprintf("element %d", uint32(t))
}

// Element is an extended element: a kind and its data.
type Element struct {
	Type ElementType
	Data []byte
}

// parseElements walks up to the END element. The size in an element includes the
// eight bytes before its data; a smaller one would make the walk stand still.
func parseElements(b []byte, at int, table string) ([]Element, error) {
	var list []Element
	r := wire.NewReader(b)
	for {
		here := at + r.Offset()
		typ, size := ElementType(r.U32()), r.U32()
		switch {
		case r.Short():
			return list, &HeapError{here, table, "its extended elements have no end"}
		case size < 8 || uint64(size-8) > uint64(r.Left()):
			return list, &HeapError{here, table, fmt.Sprintf("an extended element (%s) claims %d bytes, and %d are left", typ, size, r.Left()+8)}
		}
		data := r.Bytes(size - 8)
		if typ == ElementEnd {
			return list, nil
		}
		list = append(list, Element{typ, data})
	}
}

// LogPointer says where an event log lies.
type LogPointer struct {
	Kind    ElementType
	Address uint64 // physical
	// Allocated is the memory's size, First and Next where events begin and where
	// the next one would be written; all zero for a TPM 1.2 log, which says so itself.
	Allocated, First, Next uint32
	Alg                    tpm.Alg // of a log for one algorithm
}

// check demands that the pointer describes memory: no wrap, no next before first.
func (p LogPointer) check() error {
	switch {
	case p.Address == 0:
		return fmt.Errorf("the pointer to the %s is zero", p.Kind)
	case p.Kind == ElementEventLog12:
		return nil
	case p.Address+uint64(p.Allocated) < p.Address:
		return fmt.Errorf("the %s at %#x with %d bytes wraps around", p.Kind, p.Address, p.Allocated)
	case p.First > p.Next || p.Next > p.Allocated:
		return fmt.Errorf("the %s says that its events lie from %d to %d of %d bytes", p.Kind, p.First, p.Next, p.Allocated)
	}
	return nil
}

// maxPerAlg is more algorithms than any TPM has.
const maxPerAlg = 16

// LogPointers are the pointers to event logs among the elements. A pointer that
// describes no memory is an error; those before it are returned.
func LogPointers(elements []Element) ([]LogPointer, error) {
	var list []LogPointer
	for _, e := range elements {
		r := wire.NewReader(e.Data)
		var more []LogPointer
		switch e.Type {
		case ElementEventLog12:
			more = append(more, LogPointer{Kind: e.Type, Address: r.U64()})
		case ElementEventLogAgile:
			more = append(more, LogPointer{Kind: e.Type, Address: r.U64(), Allocated: r.U32(), First: r.U32(), Next: r.U32()})
		case ElementEventLogPerAlg:
			n := r.U32()
			if n > maxPerAlg {
				return list, fmt.Errorf("the element for %s lists %d of them", e.Type, n)
			}
			for range n {
				p := LogPointer{Kind: e.Type, Alg: tpm.Alg(r.U16())}
				r.U16() // reserved
				p.Address, p.Allocated, p.First, p.Next = r.U64(), r.U32(), r.U32(), r.U32()
				more = append(more, p)
			}
		}
		if r.Short() {
			return list, fmt.Errorf("the element for %s has only %d bytes", e.Type, len(e.Data))
		}
		for _, p := range more {
			if err := p.check(); err != nil {
				return list, err
			}
			list = append(list, p)
		}
	}
	return list, nil
}

// Size is how much memory the log needs to be read: what is used of a log whose
// pointer says so, and all that GRUB allocates of a TPM 1.2 log, whose own header
// tells the rest.
func (p LogPointer) Size() uint32 {
	if p.Kind == ElementEventLog12 {
		return 0x8000
	}
	return p.Next
}

// Parse reads the log from the memory that the pointer describes, or a part of it
// from the start.
func (p LogPointer) Parse(b []byte) (*eventlog.Log, error) {
	if p.Kind != ElementEventLog12 && uint64(p.Next) < uint64(len(b)) {
		b = b[:p.Next]
	}
	if p.Kind != ElementEventLog12 && uint64(p.First) <= uint64(len(b)) {
		b = b[p.First:]
	}
	return eventlog.Parse(b)
}
