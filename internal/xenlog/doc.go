// Package xenlog gives a guest of Xen's the measurement log of its own start, over xenstore: the
// vTPM's backend writes it, the guest reads it. docs/formats/vtpm-measurements.md has where and how.
//
// To the guest it is hearsay, as every log: who could write it is dom0. What it says is
// believed where it replays to the vTPM's PCRs.
package xenlog

const (
	folder = "log" // below the backend's directory of the device
	// piece is how many bytes of the log a node holds. As text they are 1920: a node of a driver domain's
	// has 2048 bytes at most, with its permissions and what xenstored writes before them.
	piece = 1440
	// most is how many nodes there can be: their names have two digits, so that a list of them is in order.
	most = 100
)
