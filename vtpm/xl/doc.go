// Package xl starts Xen's guests through their own toolstack, xl, out of what was measured
// of them.
//
// There are two ways, and both lead to the same PCRs. [Starter.Run] starts a guest with a
// changed configuration, in which kernel and initrd are sealed files in memory. [Starter.Boot]
// is for plain xl create: libxl runs a program in the place of a boot loader, which asks for
// the same sealed files. With it, xl builds a guest that reboots by itself, and its kernel is read and
// measured anew; with Run, it is built of the same bytes again.
//
// xl and whoever may start it are trusted: they build the guest. What is made sure of
// here is that they build what was measured, whatever becomes of the files on the disk.
package xl
