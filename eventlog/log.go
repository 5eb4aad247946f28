package eventlog

import (
	"fmt"
	"strconv"

	"github.com/antievilmaid/aem/tpm"
)

// Event is one record of a log.
type Event struct {
	PCR     tpm.PCR // 255 and 0xffffffff occur: such events belong to no register
	Type    Type
	Digests []tpm.TaggedDigest // in the order in which they stand in the log
	Data    []byte
	Offset  int // of the record in the parsed bytes
}

// Extended reports whether the event changed a PCR.
func (e *Event) Extended() bool { return e.Type.Extended() && e.PCR < tpm.NumPCRs }

// Format is how a log is laid out.
type Format uint8

// The formats; docs/formats/eventlog.md has their byte tables.
const (
	TCG12          Format = iota + 1 // SHA-1 records, with or without a Spec ID event
	CryptoAgile                      // "Spec ID Event03": several digests for each event
	TXT12Container                   // SHA-1 records in a "TXT Event Container"
	TXTPerAlg                        // records in one algorithm other than SHA-1 ("FRMT ID EVENT00")
	SKL12                            // SHA-1 records after a Spec ID event that holds a container's header
)

// String names the format.
func (f Format) String() string {
	switch f {
	case TCG12:
		return "TCG 1.2"
	case CryptoAgile:
		return "TCG crypto agile"
	case TXT12Container:
		return "TXT event container"
	case TXTPerAlg:
		return "TXT log of one algorithm"
	case SKL12:
		return "Secure Kernel Loader, TPM 1.2"
	}
	return fmt.Sprintf("unknown format %d", uint8(f))
}

// AlgSize is a bank that a log declares, with the length of its digests.
type AlgSize struct {
	Alg  tpm.Alg
	Size uint16
}

// Log is a measurement log.
type Log struct {
	Format     Format
	Algs       []AlgSize // declared banks, in the header's order; SHA-1 alone for TPM 1.2
	Events     []Event   // without the header's own record
	VendorInfo []byte    // of the Spec ID event

	// Truncated says that the reader stopped before the log's end: what is here is
	// a prefix.
	Truncated bool

	head []byte // all before the first event, as it stands in memory
	tail []byte // all after the last event; the room left where bounded is set
	// bounded says that the log declares the memory that it lies in and how much
	// of it is used.
	bounded bool
	// room is what a table elsewhere says is left of the log's memory, where told is set.
	room int
	told bool
}

// SetRoom tells a log that does not say itself how many bytes are left of its memory,
// as the TXT heap knows of Intel's logs.
func (l *Log) SetRoom(n int) { l.room, l.told = n, true }

// Full reports whether the log's memory has no room for one more event of the
// usual size. What was measured after that is not in it.
func (l *Log) Full() bool {
	capacity, used, ok := l.memory()
	if !ok && !l.told {
		return false
	}
	room := capacity - used
	if l.told {
		room = l.room
	}
	size := 16 + 32 // fields and a short text
	for _, a := range l.Algs {
		size += 2 + int(a.Size)
	}
	return size > room
}

// memory is how many bytes the log says that it may use, and does use, of the
// memory in which it lies. A file may hold the used ones alone.
func (l *Log) memory() (capacity, used int, ok bool) {
	if !l.bounded {
		return 0, 0, false
	}
	switch l.Format {
	case CryptoAgile:
		return int(le.Uint32(l.VendorInfo[8:])), int(le.Uint32(l.VendorInfo[16:])), true
	case SKL12:
		// Offsets count from the container's header. It is read from the head, because the
		// vendor information may claim to be shorter than what lies there.
		const at = header12 + specFixed + 1
		return int(le.Uint32(l.head[at+36:])), at + int(le.Uint32(l.head[at+44:])), true
	}
	return int(le.Uint32(l.head[36:])), int(le.Uint32(l.head[44:])), true
}

// available reports whether the bank's digests can be computed here.
func (a AlgSize) available() bool { return a.Alg.Available() && int(a.Size) == a.Alg.Size() }

// SyntaxError says where and why a log can't be read on.
type SyntaxError struct {
	Offset int // of the record, in the bytes given
	Event  int // number of the record among the events
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("event log: event %d at offset %d: %s", e.Event, e.Offset, e.Reason)
}

// Printable is text from a log with everything escaped that could do something to
// a terminal, or hide what stands beside it.
func Printable(b []byte) string {
	q := strconv.QuoteToASCII(string(b))
	return q[1 : len(q)-1]
}
