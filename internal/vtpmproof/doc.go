// Package vtpmproof proves that guests inherit the trust, with everything real but the
// hardware: a machine with an emulated TPM that was really launched, the vTPM manager with its
// store sealed to that launch, and guests with Debian's kernel and tools. It is tests alone.
package vtpmproof
