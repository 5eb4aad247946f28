// Package tpm12 holds the commands of TPM 1.2 that sealing, NV areas and
// counters need (TPM Main Specification 1.2, revision 116; "Part 2" and "Part 3"
// in this package's comments are its parts).
//
// A TPM 1.2 knows SHA-1 alone, and one kind of proof: whoever knows an entity's
// 20-byte authorisation value computes an HMAC with it over the command, and the
// TPM computes one over its answer. Both sides put in fresh nonces, so neither
// can be replayed. This package verifies the answer's HMAC before it looks at
// what the answer says; an answer from which the HMAC was cut off is refused.
//
// What that does not give, and what the callers must know:
//
//   - Nothing is encrypted on the bus except new authorisation values. The secret
//     of [TPM.Seal] and [TPM.Unseal] crosses it in clear: who taps the chip's
//     pins while the right software runs learns it.
//   - The new authorisation values are encrypted with a key that is derived from
//     the parent's. Where the storage root key has the well-known value, a
//     listener decrypts them too.
//   - The HMACs are keyed with the authorisation value, so a recorded exchange
//     lets its password be guessed offline.
//   - Answers without a session ([TPM.ReadPCRs], [TPM.NVRead], [TPM.ReadCounter],
//     [TPM.Defence] and the like) serve to choose and to explain. Only the TPM's
//     own comparison, inside [TPM.Unseal], is proof.
//
// Errors that the TPM reports are of type [Error] and stay reachable through
// errors.Is.
package tpm12
