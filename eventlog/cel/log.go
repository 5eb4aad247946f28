package cel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

var le = binary.LittleEndian

const (
	header12      = 32 // PCR, type, SHA-1 digest, length of the data
	signatureSpec = "Spec ID Event03\x00"
	specFixed     = 24 // signature, class, versions, word size
)

// ErrNoBanks says that records name no algorithm.
var ErrNoBanks = errors.New("no record has a digest, so nothing says which banks the log is for")

// ErrNV says that a record extends an NV index, which no firmware's log can hold.
var ErrNV = errors.New("it extends an NV index, not a PCR")

// FromLog makes records of a log's events, numbered for each PCR from 0. A crypto
// agile log's Spec ID event becomes the first record: it declares the banks. The
// records alias the log. Of a log that could not be read to its end, they are the
// part that could.
func FromLog(log *eventlog.Log) []Record {
	next := map[tpm.PCR]uint64{}
	records := make([]Record, 0, len(log.Events)+1)
	add := func(e *eventlog.Event) {
		records = append(records, Record{
			Number: next[e.PCR], PCR: e.PCR, Digests: e.Digests,
			Content: PCClient{Type: e.Type, Data: e.Data},
		})
		next[e.PCR]++
	}
	if e, ok := specEvent(log); ok {
		add(&e)
	}
	for i := range log.Events {
		add(&log.Events[i])
	}
	return records
}

// specEvent is a crypto agile log's first record, which has the layout of TPM 1.2.
func specEvent(log *eventlog.Log) (e eventlog.Event, ok bool) {
	if log.Format != eventlog.CryptoAgile {
		return e, false
	}
	empty := *log
	empty.Events = nil
	b, err := empty.AppendTo(nil)
	if err != nil || len(b) < header12 {
		return e, false
	}
	size := uint64(le.Uint32(b[28:]))
	if size > uint64(len(b)-header12) {
		return e, false
	}
	e = eventlog.Event{
		PCR: tpm.PCR(le.Uint32(b)), Type: eventlog.Type(le.Uint32(b[4:])),
		Digests: []tpm.TaggedDigest{{Alg: tpm.SHA1, Digest: b[8:28:28]}},
		Data:    b[header12 : header12+int(size) : header12+int(size)],
	}
	_, ok = declared(e.Type, e.Data)
	return e, ok
}

// declared is what a Spec ID event says up to the end of its list of algorithms
// (TCG PFP, clause 10.4.5.1).
func declared(t eventlog.Type, data []byte) (spec []byte, ok bool) {
	if t != eventlog.NoAction || len(data) < specFixed+4 || !bytes.HasPrefix(data, []byte(signatureSpec)) {
		return nil, false
	}
	n := le.Uint32(data[specFixed:])
	if n == 0 || n > maxDigests || int(n)*4 > len(data)-specFixed-4 {
		return nil, false
	}
	return data[: specFixed+4+4*n : specFixed+4+4*n], true
}

// ToLog makes a crypto agile log of records, whose replay and verdicts are those
// of what the records tell. Banks are those that a Spec ID event declares, where
// the first record is one, and otherwise those that the records have digests in.
// What the Spec ID event says of the memory in which its log lay is left out.
//
// Records that are no firmware events become tagged events, EV_EVENT_TAG or, where
// nothing was extended, EV_NO_ACTION (TCG PFP, clause 10.4.2): the tag is "CEL" and
// the content's type, the data its value as it stands in TLV, or as it was read
// where this package doesn't know it.
//
// It fails with [ErrNV] or [ErrNoBanks], or where a record has digests that do not
// fit the banks.
func ToLog(records []Record) (*eventlog.Log, error) {
	spec, events, err := banks(records)
	if err != nil {
		return nil, err
	}
	var declared []eventlog.AlgSize
	for list := spec[specFixed+4:]; len(list) > 0; list = list[4:] {
		declared = append(declared, eventlog.AlgSize{Alg: tpm.Alg(le.Uint16(list)), Size: le.Uint16(list[2:])})
	}
	b := make([]byte, header12, header12+len(spec)+1)
	le.PutUint32(b[4:], uint32(eventlog.NoAction))
	le.PutUint32(b[28:], uint32(len(spec)+1))
	b = append(append(b, spec...), 0) // no vendor information
	for i := range events {
		if b, err = appendEvent(b, &events[i], declared); err != nil {
			return nil, fmt.Errorf("record %d: %w", i+len(records)-len(events), err)
		}
	}
	log, err := eventlog.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("the records make no log: %w", err)
	}
	if len(log.Events) != len(events) {
		return nil, fmt.Errorf("%d records make a log of %d events", len(events), len(log.Events))
	}
	return log, nil
}

// banks splits records into the Spec ID event's declaration, made where there is
// none, and the events.
func banks(records []Record) (spec []byte, events []Record, err error) {
	if len(records) > 0 {
		if c, ok := records[0].Content.(PCClient); ok && !records[0].NV {
			if spec, ok := declared(c.Type, c.Data); ok {
				return spec, records[1:], nil
			}
		}
	}
	// A client's platform, version 2.0, words of eight bytes.
	spec = append([]byte(signatureSpec), 0, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 0)
	seen := map[tpm.Alg]bool{}
	for i := range records {
		for _, d := range records[i].Digests {
			if !seen[d.Alg] && len(d.Digest) <= maxDigest {
				seen[d.Alg] = true
				spec = le.AppendUint16(le.AppendUint16(spec, uint16(d.Alg)), uint16(len(d.Digest)))
			}
		}
	}
	if len(seen) == 0 {
		return nil, nil, ErrNoBanks
	}
	if len(seen) > maxDigests {
		return nil, nil, fmt.Errorf("the records have digests in %d algorithms; a log has %d banks at most", len(seen), maxDigests)
	}
	le.PutUint32(spec[specFixed:], uint32(len(seen)))
	return spec, records, nil
}

// appendEvent appends a record in the crypto agile layout.
func appendEvent(b []byte, r *Record, banks []eventlog.AlgSize) ([]byte, error) {
	if r.NV {
		return nil, ErrNV
	}
	t, data, err := r.event()
	if err != nil {
		return nil, err
	}
	digests := r.Digests
	if len(digests) == 0 && !r.Extended() {
		// A log has no events without digests; those of an event that was not
		// extended are zeros.
		digests = []tpm.TaggedDigest{{Alg: banks[0].Alg, Digest: make([]byte, banks[0].Size)}}
	}
	b = le.AppendUint32(le.AppendUint32(b, uint32(r.PCR)), uint32(t))
	b = le.AppendUint32(b, uint32(len(digests)))
	for _, d := range digests {
		if len(d.Digest) > maxDigest || !slices.Contains(banks, eventlog.AlgSize{Alg: d.Alg, Size: uint16(len(d.Digest))}) {
			return nil, fmt.Errorf("its %s digest of %d bytes does not fit the log's banks", d.Alg, len(d.Digest))
		}
		b = append(le.AppendUint16(b, uint16(d.Alg)), d.Digest...)
	}
	return append(le.AppendUint32(b, uint32(len(data))), data...), nil
}

// event is the record's content as a firmware's log has it.
func (r *Record) event() (t eventlog.Type, data []byte, err error) {
	var value []byte
	switch c := r.Content.(type) {
	case PCClient:
		t, data = c.Type, c.Data
	case nil:
		return 0, nil, errors.New("it has no content")
	case Unknown:
		value = c.Raw
	default:
		value = appendContent(nil, c)
	}
	if len(data) > maxData || len(value) > maxData {
		return 0, nil, fmt.Errorf("its content has %d bytes, more than any log holds", len(data)+len(value))
	}
	if _, firmware := r.Content.(PCClient); firmware {
		return t, data, nil
	}
	t = eventlog.EventTag
	if !r.Extended() {
		t = eventlog.NoAction
	}
	tag := le.Uint32([]byte{byte(r.Content.Kind()), 'C', 'E', 'L'})
	data = le.AppendUint32(le.AppendUint32(nil, tag), uint32(len(value)))
	return t, append(data, value...), nil
}
