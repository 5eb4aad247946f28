// Package xenbed builds machines that run Xen, for tests and the demo: an initramfs for
// dom0 with Xen's toolstack in it, and in that the guests' kernels, initramfs images and
// configurations. Dom0's first process is guestinit and has a script, as in the test bed's other guests;
// internal/xenguest does what it needs besides, in dom0 and in the guests.
//
//	dom0, err := xenbed.Dom0()
//	xenbed.AddGuest(dom0, "pv", `type="pv"`+"\n"+`vtpm=["backend=0,uuid=..."]`, guest)
//	dom0.Steps = append(dom0.Steps, testbed.Run("/bin/xl", "create", xenbed.GuestConfig("pv")))
//	machine := xenbed.NewMachine(t, dom0) // or Config, where it is to be launched
//
// What guests print stays in dom0, in /var/log/xen/console/guest-NAME.log: the steps
// that [Expect] and [Consoles] give bring it to the machine's serial line.
package xenbed
