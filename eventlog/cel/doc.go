// Package cel reads and writes canonical event logs (TCG Canonical Event Log
// Format, versions 1.0 and 1.1): one information model for what firmware, kernels
// and services measure, in three encodings. Verifiers that know no firmware's
// native log take these.
//
// A record says which PCR (or NV index) was extended, with which digests, and
// holds the event as its content: a firmware event, an entry of Linux's IMA list,
// a note about the log itself, or something that this package only carries.
//
//   - TLV: a tag of one byte, a length of four bytes in network order, the value.
//   - CBOR: an array of maps with small integers as keys, in deterministic
//     encoding (RFC 8949, clause 4.2.1). Any other encoding of the same values is
//     refused, so that a log has one form and can be signed or compared as bytes.
//   - JSON: an array of objects, byte strings as hexadecimal. An object that names
//     a member twice is refused: two readers would read two logs.
//
// What is read as TLV or CBOR is written again with the same bytes.
//
// Like every log, a canonical one is hearsay: only the digests are measured, and
// only comparing their replay with the TPM's PCRs says whether they are all.
// [ToLog] makes a log of the records that replays and verifies. A record's number
// proves nothing either, so no reader asks for numbers without holes.
package cel
