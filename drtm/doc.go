// Package drtm knows what a dynamic launch measures: which things are hashed,
// into which PCR, in which order, and what the event log then says.
//
// A dynamic launch (Intel TXT's GETSEC[SENTER], AMD's SKINIT) sets PCRs 17 to 22
// to zero, which nothing else can do, and extends PCR 17 with a hash of the
// code that the CPU starts next. That code (Intel's SINIT module, or the Secure
// Kernel Loader on AMD) measures the kernel, and the kernel measures the rest
// of what it depends on: code goes into PCR 17, data into PCR 18.
//
// The package answers three questions about that:
//
//   - What will a launch of these files measure? [LinuxLaunch] and the other targets compute it from
//     the files alone, [Next] from a good log and the files of before and after.
//   - Was this machine launched, and is its log true? [Check].
//   - What was it that an event measured? [Roles].
//
// An event's text and type are not measured, only its digests are. So no answer
// here rests on a text: a role comes from an event's position, and a launch is
// believed only when the whole log replays to the PCRs in each bank.
//
// The package is bytes in, values out: no file, no device, no clock.
package drtm
