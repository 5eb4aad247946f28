// Package doctor tells whether a machine can make a dynamic launch, and what to do
// where it can't.
//
// It works in two steps. [Collect] reads a machine and returns [Evidence]: bytes
// and numbers as they were found and, for everything that could not be read, the
// reason. [Examine] turns evidence into [Record] rows and touches nothing, so that a
// report can be looked at on another machine, years later. [Judge] sums the rows up.
//
// [CollectSystem] and [ExamineSystem] do the same for the system that is installed on
// the machine: what it boots, what it lies on, what makes its initramfs and what time it
// believes that it is. [JudgeSetUp] says from both whether AEM can be set up.
//
// Between the two steps evidence may be written to a folder with [Evidence.Save] and
// read again with [Load]. These are the files:
//
//	missing.json        what could not be read, and why, by the names below
//	cpuinfo             the first processor's part of /proc/cpuinfo
//	txt-registers.bin   the first page of the TXT public space (0xfed30000)
//	txt-heap.bin        the TXT heap; the boot loader's own table is zeroed
//	eventlog.bin        the launch's event log
//	tpm.json            what the TPM says of itself, and its PCRs 0 to 7, 13, 17 to 22
//	firmware.json       Secure Boot, lockdown, MSRs, IOMMU, names and versions
//	xen.json            what a Xen host says of the CPU, where there is one
//	modules/list.json   SINIT modules and loaders found: path, size, SHA-256
//	modules/00.bin      the head of the first of them, and so on
//
// No file holds a secret or a serial number. The names of the
// machine's model and firmware are in firmware.json, the paths below /boot in
// modules/list.json; the log holds what boot loader and kernel wrote into it. Read
// them before you publish them.
//
// Nothing in evidence is trusted. A dump may come from anybody, and what it says is
// shown on a terminal: whatever does not parse becomes a row that says so, and all text is
// reduced to printable ASCII.
package doctor
