package cel

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"
)

// The members of a record's object, in the order in which they are written.
type jsonRecord struct {
	Number      uint64       `json:"recnum"`
	PCR         *uint32      `json:"pcr,omitempty"`
	NVIndex     *uint32      `json:"nv_index,omitempty"`
	Digests     []jsonDigest `json:"digests"`
	ContentType any          `json:"content_type"`
	Content     any          `json:"content"`
}

type jsonDigest struct {
	Alg    string `json:"hashAlg"`
	Digest string `json:"digest"`
}

type jsonPCClient struct {
	Type any    `json:"event_type"`
	Data string `json:"event_data"`
}

type jsonTemplate struct {
	Name string `json:"template_name"`
	Data string `json:"template_data"`
}

type jsonEvent struct {
	Type string `json:"type"`
	Data any    `json:"data,omitempty"`
}

type jsonVersion struct {
	Major uint16 `json:"major"`
	Minor uint16 `json:"minor"`
}

// WriteJSON writes the records as one JSON array, a record on each line. It fails
// for what JSON can't hold: an IMA template's name that is not UTF-8, or [Unknown]
// content of another encoding; then nothing of that record is written.
func WriteJSON(w io.Writer, records []Record) error {
	begin := "[\n"
	for i := range records {
		line, err := records[i].toJSON()
		if err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
		if _, err := io.WriteString(w, begin); err != nil {
			return err
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
		begin = ",\n"
	}
	end := "\n]\n"
	if len(records) == 0 {
		end = "[]\n"
	}
	_, err := io.WriteString(w, end)
	return err
}

func (r *Record) toJSON() ([]byte, error) {
	if err := r.check(JSON); err != nil {
		return nil, err
	}
	out := jsonRecord{Number: r.Number, Digests: []jsonDigest{}, ContentType: r.Content.Kind().String()}
	if r.NV {
		out.NVIndex = &r.NVIndex
	} else {
		pcr := uint32(r.PCR)
		out.PCR = &pcr
	}
	for _, d := range r.Digests {
		out.Digests = append(out.Digests, jsonDigest{algName(d.Alg), d.Digest.String()})
	}
	switch c := r.Content.(type) {
	case PCClient:
		event := jsonPCClient{Type: uint32(c.Type), Data: hex.EncodeToString(c.Data)}
		if name := typeName(c.Type); name != "" {
			event.Type = name
		}
		out.Content = event
	case IMATemplate:
		if !utf8.ValidString(c.Name) {
			return nil, fmt.Errorf("the IMA template's name %q is no text", c.Name)
		}
		out.Content = jsonTemplate{c.Name, hex.EncodeToString(c.Data)}
	case IMATLV:
		out.Content = hex.EncodeToString(c.Data)
	case Management:
		out.Content = c.toJSON()
	case Unknown:
		out.Content = json.RawMessage(c.Raw)
		if out.ContentType = c.Name; c.Name == "" {
			out.ContentType = uint64(c.Type)
		}
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("its content is no JSON: %w", err)
	}
	return b, nil
}

// toJSON is one object, or a list where there are several.
func (m Management) toJSON() any {
	list := make([]jsonEvent, len(m))
	for i, e := range m {
		list[i].Type = managementNames[e.Type]
		switch e.Type {
		case Version:
			list[i].Data = jsonVersion{e.Major, e.Minor}
		case Timestamp:
			list[i].Data = e.Value
		case StateTransition:
			list[i].Data = e.Value
			if name, ok := transitionNames[e.Value]; ok {
				list[i].Data = name
			}
		}
	}
	if len(list) == 1 {
		return list[0]
	}
	return list
}
