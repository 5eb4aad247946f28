// Package measure says what a guest starts with, and measures it into the guest's vTPM.
//
// Nothing else can. A PV or PVH guest of Xen has no firmware and no loader of its own that
// measures: the toolstack in dom0 puts kernel and initramfs into its memory. pv-grub did
// that in the guest, and is gone. So the manager, which was measured itself when the
// machine was launched, takes what is handed to the toolstack, hashes it, and extends the
// vTPM before the guest has run an instruction.
//
// Three things make that worth something:
//
//   - The bytes hashed are the bytes started. A file could be swapped between the two, so
//     it is copied once into memory that nobody can write to any more ([Seal]), and hashed
//     and started from there.
//   - The guest can't take it back. PCRs 17 and 18 say where the guest runs and what it was
//     started with ([Host], [Launch]); they are extended at localities that no guest has.
//   - The guest, and who judges it, can recompute it: [Launch.Log] is what was extended,
//     [Launch.Predict] what the PCRs hold then, before any guest ran.
//
// docs/formats/vtpm-measurements.md has each event and each byte.
package measure
