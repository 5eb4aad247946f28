package cel

import (
	"errors"
	"fmt"
	"math"

	"github.com/antievilmaid/aem/tpm"
)

// Limits against logs that claim to be huge.
const (
	maxRecords = 1 << 20
	maxDigests = 16
	maxNotes   = 256            // management events in a record
	maxDigest  = math.MaxUint16 // what a Spec ID event can declare
	maxData    = 1 << 30        // far below what a TLV length can say
)

// SyntaxError says where and why a log can't be read on.
type SyntaxError struct {
	Encoding Encoding
	Offset   int // in the bytes given: of the faulty field, or in JSON of its record
	Record   int // its position among the records, from 0
	Reason   string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("canonical event log in %s: record %d, offset %d: %s", e.Encoding, e.Record, e.Offset, e.Reason)
}

// checkDigest says why a digest can't stand behind the others, or nothing. An
// algorithm that is not known is carried with whatever length it has.
func checkDigest(d tpm.TaggedDigest, before []tpm.TaggedDigest) string {
	switch size := d.Alg.Size(); {
	case len(before) == maxDigests:
		return fmt.Sprintf("it has more than %d digests", maxDigests)
	case tpm.Find(before, d.Alg) != nil:
		return fmt.Sprintf("it has two digests in %s", d.Alg)
	case size != 0 && len(d.Digest) != size:
		return fmt.Sprintf("its %s digest has %d bytes, not %d", d.Alg, len(d.Digest), size)
	case len(d.Digest) == 0 || len(d.Digest) > maxDigest:
		return fmt.Sprintf("its %s digest has %d bytes", d.Alg, len(d.Digest))
	}
	return ""
}

// check says why a record can't be written in an encoding.
func (r *Record) check(e Encoding) error {
	for i, d := range r.Digests {
		if reason := checkDigest(d, r.Digests[:i]); reason != "" {
			return fmt.Errorf("it can't be written: %s", reason)
		}
	}
	size := 0
	switch c := r.Content.(type) {
	case PCClient:
		size = len(c.Data)
	case IMATemplate:
		size = len(c.Name) + len(c.Data)
	case IMATLV:
		size = len(c.Data)
	case Management:
		return c.check(e)
	case Unknown:
		if size = len(c.Raw); c.Encoding != e {
			return fmt.Errorf("its content %s %q is known only as %s and can't be written as %s", c.Type, c.Name, c.Encoding, e)
		}
	default:
		return fmt.Errorf("a content of Go type %T can't be written", c)
	}
	if size > maxData {
		return fmt.Errorf("its content has %d bytes, more than any log holds", size)
	}
	return nil
}

func (m Management) check(e Encoding) error {
	if len(m) == 0 {
		return errors.New("it has no management event")
	}
	if len(m) > maxNotes {
		return fmt.Errorf("it has %d management events; a record holds %d", len(m), maxNotes)
	}
	if e == CBOR && len(m) > 1 {
		return fmt.Errorf("CBOR can't hold its %d management events in one record; write one record for each", len(m))
	}
	for _, event := range m {
		switch event.Type {
		case Version, FirmwareEnd, Timestamp:
		case StateTransition:
			if event.Value > math.MaxUint32 {
				return fmt.Errorf("its state transition %d does not fit 32 bits", event.Value)
			}
		default:
			return fmt.Errorf("there is no management event %d", event.Type)
		}
	}
	return nil
}
