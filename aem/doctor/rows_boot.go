package doctor

import (
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/txt"
)

// thisBoot joins the two witnesses of a launch, the TPM and the chipset.
func (x *exam) thisBoot() finding {
	l := x.launch
	if len(x.banks) == 0 {
		return unknown("", "the PCRs were not read: %s", x.why(itemTPMPCRs))
	}
	const choose = "choose the boot entry with the launch; before the first one this is as it should be"
	const tampered = "treat this machine as tampered with until it is explained"
	switch {
	case x.Firmware.Simulated && l.State != drtm.NotLaunched:
		return warning("this protects nobody", "the launch was simulated by a program, not made by a CPU")
	case x.launched() && l.State == drtm.NotLaunched:
		return bad(tampered, "the TXT registers say that it was launched, and the TPM says that it was not: %s", l.Reason)
	case x.regs != nil && x.regs.Left() && l.State != drtm.NotLaunched:
		return warning("restart the machine", "it was launched, and the launched environment was left")
	case x.regs != nil && !x.launched() && l.State != drtm.NotLaunched:
		return bad(tampered, "the TPM says that it was launched, and the TXT registers say that it was not (STS %#x)", x.regs.STS)
	case x.platform == drtm.TXT && x.absentRegisters() && l.State != drtm.NotLaunched:
		return bad(tampered, "the TPM says that it was launched, and this machine has no TXT that could have done so")
	case l.State == drtm.NotLaunched:
		return warning(choose, "not launched: %s", l.Reason)
	case l.State == drtm.Unproven:
		return warning("", "something was launched, and what it was is not proven: %s", l.Reason)
	}
	return good("launched by %s, and the log explains PCRs 17 and 18 in every bank", l.Platform)
}

func (x *exam) launchLog() finding {
	notLaunched := x.launch.State == drtm.NotLaunched
	switch {
	case x.events == nil && notLaunched:
		return notApplicable("there was no launch to log")
	case x.events == nil:
		return unknown("", "it was not read: %s", x.why(fileLog))
	}
	const lost = "what was measured after that is missing; read the log early in the boot, and report the boot loader's log as too small"
	n, from := len(x.events.Events), x.Firmware.LogFrom
	switch {
	case x.logErr != nil:
		return bad("", "%d events can be read of it: %v", n, x.logErr)
	case x.full():
		return warning(lost, "it is full, with %d events (%s)", n, from)
	case notLaunched:
		return warning("", "there is one with %d events (%s), and there was no launch", n, from)
	case x.launch.State != drtm.Verified:
		return warning("", "%d events (%s); %s", n, from, x.launch.Reason)
	}
	return good("complete: %d events, %s (%s)", n, x.events.Format, from)
}

// full reports whether the log's memory had no room for one more event, by the
// log's own word or by that of the TXT heap.
func (x *exam) full() bool {
	const event = 128                                               // fields, three digests and a short text
	inHeap := x.regs != nil && (x.regs.Launched() || x.regs.Left()) // or it is left of another launch
	if p := logPointer(x.heap); inHeap && p != nil && p.Kind != txt.ElementEventLog12 && p.Allocated-p.Next < event {
		return true
	}
	return x.events.Full()
}
