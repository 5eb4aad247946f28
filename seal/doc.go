// Package seal keeps what an owner entrusts so that it can be opened only on one
// machine, in an approved boot state, from the newest copy.
//
// The TPM seals one random key for each record; what the owner entrusts is
// encrypted with that key, and everything else in the record is authenticated by
// it. A [Record] is bytes in a file; docs/formats/record.md is its byte table. A
// [Backend] is one TPM family's way of sealing the key and of counting
// generations. A [Store] is the folder on a medium where generations replace each
// other so that the power may fail at any instruction.
//
// What each family promises differs in one point. A TPM 2.0 itself refuses a
// record whose generation is not the counter's. A TPM 1.2 has no such policy:
// there this package compares, and it is the measurement of the program that
// contains it which makes the comparison count.
package seal
