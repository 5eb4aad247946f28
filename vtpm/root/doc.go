// Package root ties the vTPM store to the machine: it keeps the store's root key in a
// sealed record (package seal) that opens only where PCRs 17 and 18 hold an
// approved launch, and takes the record's freshness counter for the store's epoch.
//
// To advance the epoch is to seal the same key again, for the next value of the counter,
// and to move the counter: one write to the TPM's NV memory. On a TPM 2.0 the record
// before it is then dead inside the TPM; on a TPM 1.2 this program compares, and
// the PCRs stand for this program.
//
// # What a record can't prove
//
// A TPM seals for anybody. Who can write to the disk can make a record of her own
// with a key of her own, for the approved PCRs, and a store to go with it. She gets
// no secret of a guest by it: all vTPMs in that store are other ones, so nothing
// that was sealed to the old ones opens and no attestation of theirs is repeated. A new guest that is
// set up on such a store would trust her. [Root.ID] is what to compare: the owner
// notes it when the store is made.
package root
