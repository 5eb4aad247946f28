package doctor

import (
	"errors"

	"github.com/antievilmaid/aem/drtm/txt"
)

// noRegisters answers questions to registers that could not be read.
func (x *exam) noRegisters() finding {
	switch {
	case x.absentRegisters():
		return bad(txtAdvice, "the machine does not decode the TXT registers")
	case x.regsErr != nil:
		return unknown("", "the TXT registers can't be read: %v", x.regsErr)
	}
	advice := rootAdvice
	if l := x.Firmware.Lockdown; l != "" && l != "none" {
		advice = "the kernel's lockdown bars it; start once with Secure Boot switched off"
	}
	return unknown(advice, "the TXT registers were not read: %s", x.why(fileRegisters))
}

// behindRegisters is noRegisters for what only follows from them: TXT that is
// switched off is told once, not in every row.
func (x *exam) behindRegisters() finding {
	f := x.noRegisters()
	if f.state == Bad {
		return unknown("", "it can't be read while the machine does not decode the TXT registers")
	}
	f.advice = ""
	return f
}

func (x *exam) registers() finding {
	switch {
	case x.regs == nil:
		return x.noRegisters()
	case !x.whole():
		return good("the machine decodes them; the kernel shows a few of them")
	}
	return good("the machine decodes them")
}

const intelVendor = 0x8086

func (x *exam) chipset() finding {
	if x.regs == nil {
		return x.behindRegisters()
	}
	vendor, device, revision := x.regs.Chipset()
	switch {
	case vendor != intelVendor:
		return bad("", "TXT.DIDVID names %04x:%04x, which is no chipset of Intel's", vendor, device)
	case !x.regs.Production():
		return warning("use this machine for development only: its chipset takes modules that are not signed for production",
			"%04x:%04x, revision %#x, for debugging", vendor, device, revision)
	}
	return good("%04x:%04x, revision %#x, production", vendor, device, revision)
}

// biosData asks whether the firmware prepared the heap, as it does where TXT is on.
func (x *exam) biosData() finding {
	switch {
	case x.regs == nil:
		return x.behindRegisters()
	case !x.whole():
		return unknown("", "the kernel does not show where the TXT heap lies")
	case x.regs.HeapBase == 0 || x.regs.HeapSize == 0:
		return bad(txtAdvice, "the firmware set no TXT heap up")
	case x.Heap == nil:
		return unknown(rootAdvice, "the TXT heap was not read: %s", x.why(fileHeap))
	}
	const firmware = "the firmware's table"
	var wrong *txt.HeapError
	if x.heap.BIOS == nil || errors.As(x.heapErr, &wrong) && wrong.Table == firmware {
		return bad("update the firmware", "the firmware left no valid table in the TXT heap: %v", x.heapErr)
	}
	b := x.heap.BIOS
	kind := ""
	if server, known := b.Server(); known && server {
		kind = ", a server"
	} else if known {
		kind = ", a client"
	}
	text := "the firmware's table has version %d%s, %d processors"
	if b.SINITSize > 0 {
		return good(text+"; the firmware brings a SINIT module of %d bytes", b.Version, kind, b.LogicalProcessors, b.SINITSize)
	}
	return good(text+"; no SINIT module in the firmware", b.Version, kind, b.LogicalProcessors)
}

func (x *exam) dpr() finding {
	if x.regs == nil {
		return x.behindRegisters()
	}
	d, r := x.regs.DPR, x.regs
	end := d.Base() + d.Size()
	switch {
	case !x.whole():
		return unknown("", "the kernel does not show it")
	case d.Size() == 0:
		// From Ice Lake on it is told in the host bridge's configuration space.
		return unknown("", "the register tells of none; later chipsets keep it elsewhere")
	case r.HeapBase != 0 && (r.HeapBase < d.Base() || r.HeapBase+r.HeapSize > end || r.HeapBase+r.HeapSize < r.HeapBase):
		return bad("update the firmware", "it is %s, and the TXT heap (%#x, %d bytes) does not lie in it", d, r.HeapBase, r.HeapSize)
	case !d.Locked():
		return warning("update the firmware", "it is %s", d)
	}
	return good("%s", d)
}

// The NV indices that TXT keeps in the TPM; without the auxiliary one SINIT stops.
var (
	auxIndices20    = []Hex{0x01c10102, 0x01800003}
	policyIndices20 = []Hex{0x01c10106, 0x01400001}
	auxIndices12    = []Hex{0x50000002, 0x50000003}
	policyIndices12 = []Hex{0x40000001}
)

func (x *exam) status() finding {
	switch {
	case x.regs == nil:
		return x.behindRegisters()
	case x.regs.ResetPending():
		return bad("switch the power off, wait ten seconds, and switch it on; a restart is not enough",
			"%s (ESTS %#x): no launch is possible until the power was off", x.regs.Status(), x.regs.ESTS)
	case x.regs.Left():
		return warning("restart the machine before the next launch", "%s (STS %#x)", x.regs.Status(), x.regs.STS)
	}
	return good("%s (STS %#x)", x.regs.Status(), x.regs.STS)
}

func (x *exam) lastError() finding {
	if x.regs == nil {
		return x.behindRegisters()
	}
	c := x.regs.ErrorCode
	switch {
	case c.OK():
		return good("%s", c)
	case x.launched():
		return warning("", "%s (ERRORCODE %#x); this boot was launched all the same", c, uint32(c))
	}
	advice := c.Advice()
	if advice == "" {
		advice = "note the code, switch the power off, and try the launch again"
	}
	return bad(advice, "%s (ERRORCODE %#x)", c, uint32(c))
}

func (x *exam) secrets() finding {
	switch {
	case x.regs == nil:
		return x.behindRegisters()
	case x.regs.Secrets() && !x.launched():
		return warning("shut the machine down in order, so that the launched system clears the flag", "TXT says that secrets lie in memory, and no launched system runs: the next start clears memory, which takes a while")
	case x.regs.Secrets():
		return good("the launched system said that memory holds secrets: memory is cleared should the machine be reset")
	}
	return good("none are claimed")
}
