package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"

	"github.com/antievilmaid/aem/drtm/txt"
)

// registerImage is how much of the public space is read: all registers that say
// something lie in the first page, and those behind it are commands.
const registerImage = 0x1000

var errNoMemory = errors.New("physical memory was not read")

// registers reads the TXT public space, and where that is barred, the few registers that Linux shows.
// Other makers have other things at that address, so only Intel's CPUs are asked.
func (c *collector) registers() {
	if v := c.cpuField("vendor_id"); v != vendorIntel {
		c.miss(fileRegisters, errors.New("this is no CPU of Intel's"))
		return
	}
	image, err := c.physical(txt.PublicBase, registerImage)
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

// physical reads physical memory.
func (c *collector) physical(addr uint64, size int) ([]byte, error) {
	if c.Memory == nil {
		return nil, errNoMemory
	}
	if addr > 1<<52 {
		return nil, fmt.Errorf("%#x is no address of memory", addr)
	}
	b := make([]byte, size)
	n, err := c.Memory.ReadAt(b, int64(addr))
	if n == size {
		return b, nil
	}
	if err == nil {
		err = fmt.Errorf("%d of %d bytes were there", n, size)
	}
	return nil, reason(fmt.Errorf("read physical memory at %#x: %w", addr, err))
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
	heap, err := c.physical(r.HeapBase, int(r.HeapSize))
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

// kernelLogs are where kernels show a launch's log: Linux, and OpenXT's.
var kernelLogs = []string{
	"sys/kernel/security/slaunch/eventlog",
	"sys/kernel/security/txt/tpm20_binary_evtlog_tcg",
	"sys/kernel/security/txt/tpm12_binary_evtlog",
}

// log finds the event log of the launch.
func (c *collector) log() {
	if c.Options.Log != nil {
		b, source, err := c.Options.Log()
		if err == nil && len(b) > maxLog {
			err = errTooLong
		}
		if err != nil {
			c.miss(fileLog, err)
			return
		}
		c.Evidence.Log, c.Firmware.LogFrom = b, source
		return
	}
	for _, name := range kernelLogs {
		b, err := c.read(name, maxLog)
		if err == nil {
			c.Evidence.Log, c.Firmware.LogFrom = b, "/"+name
			return
		}
		if !errors.Is(err, fs.ErrNotExist) {
			c.miss(fileLog, err)
			return
		}
	}
	c.heapLog()
}

// heapLog reads the log that the TXT heap points to.
func (c *collector) heapLog() {
	if c.Heap == nil {
		c.miss(fileLog, errors.New("the kernel shows no launch's log, and there is no TXT heap to find it by"))
		return
	}
	tables, _ := txt.ParseHeap(c.Heap)
	p := logPointer(tables)
	if p == nil {
		c.miss(fileLog, errors.New("the kernel shows no launch's log, and the TXT heap points to none"))
		return
	}
	size := int(p.Size())
	if size > maxLog {
		c.miss(fileLog, errTooLong)
		return
	}
	b, err := c.physical(p.Address, size)
	if err != nil {
		c.miss(fileLog, err)
		return
	}
	c.Evidence.Log, c.Firmware.LogFrom = b[p.First:], fmt.Sprintf("memory at %#x", p.Address)
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
