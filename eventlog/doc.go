// Package eventlog reads and writes measurement logs: the lists in which
// firmware, loaders and kernels note what they extended into a TPM's PCRs.
//
// A log is hearsay. Only digests are measured; an event's type, its data and even
// its presence are whatever the log's last writer chose. So the package replays:
// it computes what the PCRs would hold if the log were true, and [Log.Verify]
// compares that with what the TPM holds, for every PCR in every bank, with a
// verdict for each. What an event means is for the reader of the log to decide
// from its position and by recomputing its digest from the thing itself.
//
// Bytes in, values out: nothing here opens a file or a device. Events alias the
// bytes that they were parsed from.
package eventlog
