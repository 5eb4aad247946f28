package cel

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// ReadJSON reads a log in JSON: one array of records, and nothing after it. Where
// it is malformed, ReadJSON returns the records before that and a [*SyntaxError],
// whose offset is that of the record. Numbers may stand where the specification
// has names, as some writers put them; a member that it does not know, or one
// that stands twice, is refused.
func ReadJSON(b []byte) ([]Record, error) {
	r := jsonReader{}
	fail := func(off int64, err error) error {
		return &SyntaxError{Encoding: JSON, Offset: int(off), Record: len(r.records), Reason: err.Error()}
	}
	if !utf8.Valid(b) {
		return nil, fail(0, errors.New("the log is no UTF-8"))
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, fail(0, errors.New("the log is no JSON array"))
	}
	for d.More() {
		at := d.InputOffset()
		for at < int64(len(b)) && strings.IndexByte(" \t\r\n,", b[at]) >= 0 {
			at++
		}
		if len(r.records) == maxRecords {
			return r.records, fail(at, fmt.Errorf("there are more than %d records", maxRecords))
		}
		var raw json.RawMessage
		err := d.Decode(&raw)
		var rec Record
		if err == nil {
			rec, err = r.read(raw)
		}
		if err != nil {
			return r.records, fail(at, err)
		}
		r.records = append(r.records, rec)
	}
	if _, err := d.Token(); err != nil {
		return r.records, fail(d.InputOffset(), errors.New("the log's array does not end"))
	}
	if end := d.InputOffset(); len(bytes.TrimLeft(b[end:], " \t\r\n")) != 0 {
		return r.records, fail(end, errors.New("something follows the log's array"))
	}
	return r.records, nil
}

type jsonReader struct {
	records []Record
	types   map[string]eventlog.Type // made when the first name is met
}

// members takes an object apart. Each of its names must be among names, in their
// case; those without a question mark must be there. The values have the names'
// order, nil where a member is absent.
func members(raw json.RawMessage, names ...string) ([]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("there is no object with %s", strings.Join(names, ", "))
	}
	values := make([]json.RawMessage, len(names))
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		i := 0
		for i < len(names) && strings.TrimSuffix(names[i], "?") != t {
			i++
		}
		if i == len(names) {
			return nil, fmt.Errorf("an object has the member %q, which is not among %s", t, strings.Join(names, ", "))
		}
		if values[i] != nil {
			return nil, fmt.Errorf("an object has the member %q twice", t)
		}
		if err := d.Decode(&values[i]); err != nil {
			return nil, err
		}
	}
	for i, v := range values {
		if v == nil && !strings.HasSuffix(names[i], "?") {
			return nil, fmt.Errorf("an object lacks the member %q", names[i])
		}
	}
	return values, nil
}

// elements takes an array apart. It stops early where there are more than most: a
// long list of small values needs far more memory than its text.
func elements(raw json.RawMessage, most int, name string) ([]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, fmt.Errorf("%s is no list", name)
	}
	var list []json.RawMessage
	for d.More() {
		if len(list) == most {
			return nil, fmt.Errorf("%s has more than %d elements", name, most)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	return list, nil
}

func number(raw json.RawMessage, most uint64, name string) (uint64, error) {
	n, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil || n > most {
		return 0, fmt.Errorf("%s is %.40q, not a number up to %d", name, raw, most)
	}
	return n, nil
}

func text(raw json.RawMessage, name string) (s string, err error) {
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", fmt.Errorf("%s is %.40q, not a string", name, raw)
	}
	return s, nil
}

func hexBytes(raw json.RawMessage, name string) ([]byte, error) {
	s, err := text(raw, name)
	if err != nil {
		return nil, err
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%s is not hexadecimal: %w", name, err)
	}
	return b, nil
}

// errNotKnown is within the error for a name that nothing is known by.
var errNotKnown = errors.New("which is not known")

// named reads a name, for which of gives the value, or the value itself.
func named(raw json.RawMessage, most uint64, name string, of func(string) (uint64, bool)) (uint64, error) {
	if len(raw) == 0 || raw[0] != '"' {
		return number(raw, most, name)
	}
	s, err := text(raw, name)
	if err != nil {
		return 0, err
	}
	n, ok := of(s)
	if !ok {
		return 0, fmt.Errorf("%s has the name %.40q, %w", name, s, errNotKnown)
	}
	return n, nil
}

func (r *jsonReader) read(raw json.RawMessage) (rec Record, err error) {
	m, err := members(raw, "recnum", "pcr?", "nv_index?", "digests", "content_type", "content")
	if err != nil {
		return rec, err
	}
	if rec.Number, err = number(m[0], math.MaxUint64, "the record's number"); err != nil {
		return rec, err
	}
	index := m[1]
	if rec.NV = index == nil; rec.NV {
		index = m[2]
	} else if m[2] != nil {
		return rec, errors.New("it has both a PCR and an NV index")
	}
	n, err := number(index, math.MaxUint32, "the PCR or NV index")
	if err != nil {
		return rec, err
	}
	if rec.NV {
		rec.NVIndex = uint32(n)
	} else {
		rec.PCR = tpm.PCR(n)
	}
	list, err := elements(m[3], maxDigests, "the list of digests")
	if err != nil {
		return rec, err
	}
	for _, raw := range list {
		d, err := digest(raw)
		if err != nil {
			return rec, err
		}
		if reason := checkDigest(d, rec.Digests); reason != "" {
			return rec, errors.New(reason)
		}
		rec.Digests = append(rec.Digests, d)
	}
	rec.Content, err = r.content(m[4], m[5])
	return rec, err
}

func digest(raw json.RawMessage) (d tpm.TaggedDigest, err error) {
	m, err := members(raw, "hashAlg", "digest")
	if err != nil {
		return d, err
	}
	alg, err := named(m[0], math.MaxUint16, "a digest's algorithm", func(s string) (uint64, bool) {
		a, err := algByName(s)
		return uint64(a), err == nil
	})
	if err != nil {
		return d, err
	}
	d.Alg = tpm.Alg(alg)
	d.Digest, err = hexBytes(m[1], "a digest")
	return d, err
}

func (r *jsonReader) content(kind, raw json.RawMessage) (Content, error) {
	name := ""
	n, err := named(kind, math.MaxUint64, "the content's type", func(s string) (uint64, bool) {
		for _, t := range []ContentType{TypeManagement, TypePCClient, TypeIMATemplate, TypeIMATLV} {
			if strings.EqualFold(t.String(), s) {
				return uint64(t), true
			}
		}
		name = s
		return 0, s != ""
	})
	if err != nil {
		return nil, err
	}
	var c Content = Unknown{Type: ContentType(n), Name: name, Encoding: JSON, Raw: raw}
	switch ContentType(n) {
	case TypePCClient:
		c, err = r.pcClient(raw)
	case TypeIMATemplate:
		c, err = template(raw)
	case TypeIMATLV:
		c, err = entry(raw)
	case TypeManagement:
		c, err = management(raw)
	}
	if errors.Is(err, errNotKnown) {
		return Unknown{Type: ContentType(n), Encoding: JSON, Raw: raw}, nil
	}
	return c, err
}

func entry(raw json.RawMessage) (Content, error) {
	b, err := hexBytes(raw, "the IMA entry")
	return IMATLV{Data: b}, err
}

func (r *jsonReader) pcClient(raw json.RawMessage) (Content, error) {
	m, err := members(raw, "event_type", "event_data")
	if err != nil {
		return nil, err
	}
	t, err := named(m[0], math.MaxUint32, "the event's type", func(s string) (uint64, bool) {
		if r.types == nil {
			r.types = typesByName()
		}
		t, ok := r.types[strings.ToUpper(s)]
		return uint64(t), ok
	})
	if err != nil {
		return nil, err
	}
	b, err := hexBytes(m[1], "the event's data")
	return PCClient{Type: eventlog.Type(t), Data: b}, err
}

func template(raw json.RawMessage) (Content, error) {
	m, err := members(raw, "template_name", "template_data")
	if err != nil {
		return nil, err
	}
	name, err := text(m[0], "the template's name")
	if err != nil {
		return nil, err
	}
	b, err := hexBytes(m[1], "the template's data")
	return IMATemplate{Name: name, Data: b}, err
}

// management reads one event or a list of them.
func management(raw json.RawMessage) (Content, error) {
	list := []json.RawMessage{raw}
	if raw[0] == '[' {
		var err error
		if list, err = elements(raw, maxNotes, "the list of management events"); err != nil {
			return nil, err
		}
	}
	if len(list) == 0 {
		return nil, errors.New("it has no management event")
	}
	var events Management
	for _, raw := range list {
		e, err := managementEvent(raw)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, nil
}

func managementEvent(raw json.RawMessage) (e ManagementEvent, err error) {
	m, err := members(raw, "type", "data?")
	if err != nil {
		return e, err
	}
	t, err := named(m[0], math.MaxUint8, "the management event's type", func(s string) (uint64, bool) {
		t, ok := find(managementNames, s)
		return uint64(t), ok
	})
	if err != nil {
		return e, err
	}
	e.Type = ManagementType(t)
	if _, known := managementNames[e.Type]; known && (m[1] == nil) != (e.Type == FirmwareEnd) {
		return e, fmt.Errorf("the management event %q lacks its data, or has data and needs none", managementNames[e.Type])
	}
	switch e.Type {
	case Version:
		v, err := members(m[1], "major", "minor")
		if err != nil {
			return e, err
		}
		major, err := number(v[0], math.MaxUint16, "the major version")
		if err != nil {
			return e, err
		}
		minor, err := number(v[1], math.MaxUint16, "the minor version")
		e.Major, e.Minor = uint16(major), uint16(minor)
		return e, err
	case FirmwareEnd:
	case Timestamp:
		e.Value, err = number(m[1], math.MaxUint64, "the timestamp")
	case StateTransition:
		e.Value, err = named(m[1], math.MaxUint32, "the state transition", func(s string) (uint64, bool) {
			return find(transitionNames, s)
		})
	default:
		err = fmt.Errorf("it has the management event %d, %w", t, errNotKnown)
	}
	return e, err
}
