// Package tpm is the vocabulary that every other room speaks: algorithms,
// PCRs, banks, localities, the two TPM families and the channel over which
// commands travel.
//
// It holds names and arithmetic, never I/O. Package tpm/device opens the
// machine's TPM; packages tpm12 and tpm2 know the commands of the two families.
package tpm
