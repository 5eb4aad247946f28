package eventlog

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/antievilmaid/aem/tpm"
)

// ErrFull says that an event does not fit the memory that the log declares.
var ErrFull = errors.New("the log's memory is full")

// Header is what a new log says of itself.
type Header struct {
	Format Format
	Algs   []tpm.Alg
	// Class and Uintn are fields of a Spec ID event: 0 for a client, and the
	// machine's word in units of four bytes.
	Class uint32
	Uintn uint8
	// SKL makes a crypto agile log say where it lies, in the vendor information.
	SKL bool
	// Address and Capacity are the memory in which the log lies, for the formats
	// that declare it: the containers and SKL's. There the log's bytes fill it.
	Address  uint64
	Capacity uint32
}

// New makes an empty log.
func New(h Header) (*Log, error) {
	l := &Log{Format: h.Format}
	for _, a := range h.Algs {
		if a.Size() == 0 {
			return nil, fmt.Errorf("a log can't declare the bank %s, whose digests have no known length", a)
		}
		l.Algs = append(l.Algs, AlgSize{a, uint16(a.Size())})
	}
	if len(l.Algs) == 0 || len(l.Algs) > maxDigests || h.Format != CryptoAgile && len(l.Algs) != 1 {
		return nil, fmt.Errorf("a log of format %s can't have %d banks", h.Format, len(l.Algs))
	}
	if h.Format != CryptoAgile && h.Format != TXTPerAlg && h.Algs[0] != tpm.SHA1 {
		return nil, fmt.Errorf("a log of format %s has SHA-1 digests, not %s", h.Format, h.Algs[0])
	}
	switch h.Format {
	case TCG12:
	case CryptoAgile:
		l.head = l.specID(h)
		l.bounded = h.SKL
	case TXT12Container:
		l.head = containerHeader(h.Capacity)
		l.bounded = true
	case SKL12:
		container := containerHeader(h.Capacity)
		// Here the size counts all of the memory, the offsets from the container's header.
		data := append([]byte(signatureSpec12), 0, 0, 0, 0, 2, 1, 1, 0, byte(len(container)))
		l.head = append(noAction(len(data)+len(container)), append(data, container...)...)
		l.VendorInfo, l.bounded = l.head[len(l.head)-len(container):], true
	case TXTPerAlg:
		numbers := map[tpm.Alg]byte{tpm.SHA1: 1, tpm.SHA256: 2, tpm.SHA384: 3, tpm.SHA512: 4}
		data := append([]byte(signaturePerAlg), 1, 0, 0, 0, numbers[h.Algs[0]], 0, 0, 0)
		data = le.AppendUint32(data, uint32(h.Algs[0].Size()))
		l.head = append(noAction(len(data)), data...)
	default:
		return nil, fmt.Errorf("there is no log format %d", h.Format)
	}
	if l.bounded {
		if int64(h.Capacity) < int64(len(l.head)) {
			return nil, fmt.Errorf("%w: %d bytes don't hold even its header", ErrFull, h.Capacity)
		}
		l.tail = make([]byte, int(h.Capacity)-len(l.head))
		l.setUsed(len(l.head))
	}
	return l, nil
}

// noAction is the record in SHA-1 layout with which logs begin, without its data.
func noAction(size int) []byte {
	r := make([]byte, header12)
	le.PutUint32(r[4:], uint32(NoAction))
	le.PutUint32(r[28:], uint32(size))
	return r
}

func (l *Log) specID(h Header) []byte {
	data := le.AppendUint32([]byte(signatureAgile), h.Class)
	data = append(data, 0, 2, 0, h.Uintn) // minor 0, major 2, errata 0
	data = le.AppendUint32(data, uint32(len(l.Algs)))
	for _, a := range l.Algs {
		data = le.AppendUint16(le.AppendUint16(data, uint16(a.Alg)), a.Size)
	}
	if !h.SKL {
		return append(noAction(len(data)+1), append(data, 0)...)
	}
	data = le.AppendUint64(append(data, pointerSize), h.Address)
	data = le.AppendUint32(data, h.Capacity)
	data = append(data, make([]byte, 8)...) // first and next
	head := append(noAction(len(data)), data...)
	l.VendorInfo = head[len(head)-pointerSize:]
	return head
}

func containerHeader(capacity uint32) []byte {
	h := make([]byte, containerSize)
	copy(h, signatureContainer)
	h[32], h[34] = 1, 1 // versions 1.0 of the container and of its events
	le.PutUint32(h[36:], capacity)
	le.PutUint32(h[40:], containerSize)
	return h
}

// setUsed writes into the header how many of the memory's bytes are used.
func (l *Log) setUsed(n int) {
	switch l.Format {
	case TXT12Container:
		le.PutUint32(l.head[44:], uint32(n))
	case SKL12:
		at := header12 + specFixed + 1
		le.PutUint32(l.head[at+44:], uint32(n-at))
	case CryptoAgile:
		le.PutUint32(l.VendorInfo[16:], uint32(n))
	}
}

// Append adds an event. It must have one digest for each bank that the log
// declares, except that crypto agile logs may lack some. [ErrFull] says that the
// memory has no room for it; the log is then as it was.
func (l *Log) Append(e Event) error {
	if err := l.checkDigests(e.Digests); err != nil {
		return err
	}
	if l.bounded {
		size := len(l.appendEvent(nil, &e))
		if size > len(l.tail) {
			return fmt.Errorf("%w: an event of %d bytes does not fit the %d that are left", ErrFull, size, len(l.tail))
		}
		used := l.used() + size
		l.ownHead()
		l.setUsed(used)
		l.tail = l.tail[size:]
	}
	l.Events = append(l.Events, e)
	return nil
}

// Without returns a log without some of its events, whose room is free again.
func (l *Log) Without(drop func(event int) bool) *Log {
	left := *l
	left.Events = nil
	for i := range l.Events {
		if !drop(i) {
			left.Events = append(left.Events, l.Events[i])
		}
	}
	if l.bounded {
		used := left.used()
		left.ownHead()
		left.setUsed(used)
		left.tail = make([]byte, len(l.tail)+l.used()-used)
	}
	return &left
}

// used is how many bytes head and events have.
func (l *Log) used() int {
	n := len(l.head)
	for i := range l.Events {
		n += len(l.appendEvent(nil, &l.Events[i]))
	}
	return n
}

// ownHead makes the header the log's own, so that changing it leaves the bytes
// alone that the log was parsed from.
func (l *Log) ownHead() {
	vendor := len(l.VendorInfo)
	if at := bytes.LastIndex(l.head, l.VendorInfo); vendor > 0 && at >= 0 {
		l.head = slices.Clone(l.head)
		l.VendorInfo = l.head[at : at+vendor]
		return
	}
	l.head = slices.Clone(l.head)
}

func (l *Log) checkDigests(list []tpm.TaggedDigest) error {
	if l.Format != CryptoAgile && len(list) != 1 || len(list) == 0 || len(list) > len(l.Algs) {
		return fmt.Errorf("an event with %d digests does not fit a log of format %s", len(list), l.Format)
	}
	for i, d := range list {
		size, ok := l.size(d.Alg, len(l.Algs))
		if !ok || size != len(d.Digest) {
			return fmt.Errorf("an event's %s digest of %d bytes does not fit the log's banks", d.Alg, len(d.Digest))
		}
		if tpm.Find(list[:i], d.Alg) != nil {
			return fmt.Errorf("an event has two %s digests", d.Alg)
		}
	}
	return nil
}

// AppendTo appends the log's bytes. For a parsed log they are those that it was
// parsed from, also where the reader stopped early.
func (l *Log) AppendTo(b []byte) ([]byte, error) {
	b = append(b, l.head...)
	for i := range l.Events {
		if err := l.checkDigests(l.Events[i].Digests); err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
		b = l.appendEvent(b, &l.Events[i])
	}
	return append(b, l.tail...), nil
}

func (l *Log) appendEvent(b []byte, e *Event) []byte {
	b = le.AppendUint32(le.AppendUint32(b, uint32(e.PCR)), uint32(e.Type))
	if l.Format == CryptoAgile {
		b = le.AppendUint32(b, uint32(len(e.Digests)))
	}
	for _, d := range e.Digests {
		if l.Format == CryptoAgile {
			b = le.AppendUint16(b, uint16(d.Alg))
		}
		b = append(b, d.Digest...)
	}
	b = le.AppendUint32(b, uint32(len(e.Data)))
	return append(b, e.Data...)
}
