// Package manager decides which guest gets which vTPM, and joins what that takes: the
// store that has its state, the emulator that runs it, and the launch that is measured
// into it.
//
// Its rules, from those of Xen's vTPM subsystem (docs/vtpm.md has the reasons):
//
//   - A fresh guest gets fresh PCRs, and nobody else does. A guest is fresh when its
//     birth is one that was not seen before. The same guest that connects again
//     finds its vTPM as it left it.
//   - One vTPM, one guest. A second one is refused until the first is gone, however often
//     it asks.
//   - A vTPM that can't be proved to be the newest does not start, and nothing is made in
//     its place. Making one is an act of the owner's.
//   - A command whose effect has to last is answered when the store has it, and not before.
package manager
