package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/antievilmaid/aem/drtm/txt"
	"github.com/antievilmaid/aem/internal/livelog"
	"github.com/antievilmaid/aem/internal/physmem"
)

// registerImage is how much of the public space is read: all registers that say
// something lie in the first page, and those behind it are commands.
const registerImage = 0x1000

// registers reads the TXT public space, and where that is barred, the few registers that Linux shows.
// Other makers have other things at that address, so only Intel's CPUs are asked.
func (c *collector) registers() {
	if v := c.cpuField("vendor_id"); v != vendorIntel {
		c.miss(fileRegisters, errors.New("this is no CPU of Intel's"))
		return
	}
	image, err := physmem.Read(c.Memory, txt.PublicBase, registerImage)
	if err == nil {
		c.Registers, c.Firmware.RegistersBy = image, registersByMemory
		return
	}
	c.miss(fileRegisters, err)
	c.kernelRegisters()
}

const (
	registersByMemory = "memory"
	registersByKernel = "kernel"
)

// kernelRegisters makes an image of the files in securityfs (Linux, Secure Launch).
func (c *collector) kernelRegisters() {
	image := make([]byte, registerImage)
	for name, at := range map[string]int{"sts": 0, "ests": 0x8, "errorcode": 0x30, "didvid": 0x110, "ver_emif": 0x200, "scratchpad": 0x378, "e2sts": 0x8f0} {
		v, err := strconv.ParseUint(c.line("sys/kernel/security/slaunch/txt/"+name), 0, 64)
		if err != nil {
			return
		}
		binary.LittleEndian.PutUint64(image[at:], v)
	}
	c.Registers, c.Firmware.RegistersBy = image, registersByKernel
}

// heap reads the TXT heap. The boot loader's own table is blanked: loaders keep in
// it what they please, and no row needs it.
func (c *collector) heap() {
	r, err := txt.ParseRegisters(c.Registers)
	switch {
	case c.Registers == nil:
		c.miss(fileHeap, errors.New("its address is in the TXT registers, which were not read"))
		return
	case err != nil:
		c.miss(fileHeap, err)
		return
	case r.HeapBase == 0 || r.HeapSize < 64 || r.HeapSize > maxHeap:
		c.miss(fileHeap, fmt.Errorf("the TXT registers name no heap (%d bytes at %#x)", r.HeapSize, r.HeapBase))
		return
	}
	heap, err := physmem.Read(c.Memory, r.HeapBase, r.HeapSize)
	if err != nil {
		c.miss(fileHeap, err)
		return
	}
	tables, _ := txt.ParseHeap(heap)
	if tables.OSMLE != nil {
		clear(heap[tables.OSMLEOffset : tables.OSMLEOffset+len(tables.OSMLE)])
	} else {
		// Where the loader's table lies is not known: only the firmware's, before it, is kept.
		first := uint64(64)
		if size := binary.LittleEndian.Uint64(heap); size >= 8 && size <= uint64(len(heap)) {
			first = size
		}
		clear(heap[min(first, uint64(len(heap))):])
	}
	c.Heap = heap
	c.firmwareModule(r, tables)
}

// log finds the event log of the launch. What gave none is named only where nothing
// gave one.
func (c *collector) log() {
	launch, _, skipped := livelog.Find(livelog.Machine{Root: c.Root, Memory: c.Memory, XenRing: c.XenRing})
	if len(launch) > 0 {
		best := launch[0]
		c.Log, c.Firmware.LogFrom, c.Firmware.Simulated = best.Bytes, best.Name, best.Simulated
		return
	}
	reasons := []string{"none was found"}
	for _, s := range skipped {
		if !s.Absent && s.Source != livelog.Firmware {
			reasons = append(reasons, fmt.Sprintf("%s: %s", s.Name, s.Reason))
		}
	}
	c.miss(fileLog, errors.New(strings.Join(reasons, "; ")))
}

// logPointer is the best pointer to a log in the heap, or nil: a log of all banks
// before a log of one.
func logPointer(heap *txt.Heap) *txt.LogPointer {
	if heap == nil || heap.OSSINIT == nil {
		return nil
	}
	list, _ := txt.LogPointers(heap.OSSINIT.Elements)
	for _, kind := range []txt.ElementType{txt.ElementEventLogAgile, txt.ElementEventLog12, txt.ElementEventLogPerAlg} {
		if i := slices.IndexFunc(list, func(p txt.LogPointer) bool { return p.Kind == kind }); i >= 0 {
			return &list[i]
		}
	}
	return nil
}
