// Package filter says what a guest may send to its TPM, and answers the rest as a TPM would.
//
// A command is bytes from a hostile party. Whatever they are, the guest gets a response: a driver that waits
// for one that never comes takes its guest's boot down with it. A command is refused for what
// its header and its handles say; parameters are the TPM's own to check.
//
// With TPM 2.0 the list is of what may pass: a command that is not known here, such as a vendor's, is answered as
// one that the TPM does not have. Whatever names the platform hierarchy is refused, because the platform is the
// manager, not the guest; but a firmware that asks for what the manager has done already hears that it is done.
//
// A list can be got around where commands are wrapped or a parser is wrong. So nothing that matters hangs on it
// alone: vtpm/emulator disables the platform hierarchy and locks physical presence in the TPM itself. What
// the filter adds is that the emulator's own commands, rarely used code and other protocols (Xen's
// pass-through) are out of a guest's reach.
//
// # TPM 1.2 commands at a TPM 2.0
//
// Linux's xen-tpmfront takes each TPM for a TPM 1.2. It asks for time limits, and where the
// answer is an error its limits stay zero and each command behind a slow one fails; its random number
// generator and IMA speak TPM 1.2, too. The few commands that it needs are translated: time limits, version,
// manufacturer and number of PCRs (TPM_GetCapability), TPM_GetRandom, and TPM_PCRRead and TPM_Extend for
// the SHA-1 bank, if the TPM has that. All others are answered with TPM_BAD_ORDINAL: among them sealing and keys,
// TPM_ContinueSelfTest, TPM_SaveState, TPM_ReadPubek and the flags of TPM_GetCapability.
//
// Only guests without a firmware are answered so ([Guard.Translate]).
package filter
