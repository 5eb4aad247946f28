package luks

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// What a header may hold. cryptsetup's own limit is the area's length, at most 4 MiB; 32
// key slots, 32 tokens and 8 digests are a thousand values, and a token of systemd or
// Clevis is a few dozen more.
const (
	maxDepth  = 16
	maxValues = 20000
)

type object = map[string]any

// parseJSON reads a header's metadata into objects, lists, strings, json.Number, bool and
// nil. It takes less than json-c, the reader in cryptsetup: no comments, no two members of
// one name, no zero bytes in strings, nothing but zeros after the end. In each of these
// two readers could see two headers in the same bytes.
func parseJSON(area []byte) (object, error) {
	doc, rest := area, []byte(nil)
	if i := bytes.IndexByte(area, 0); i >= 0 {
		doc, rest = area[:i], area[i:]
	}
	switch {
	case len(bytes.Trim(rest, "\x00")) > 0:
		return nil, malformed("something stands behind the end of its JSON text")
	case rest == nil:
		return nil, malformed("its JSON text has no end")
	case len(doc) == 0 || doc[0] != '{' || doc[len(doc)-1] != '}':
		return nil, malformed("its metadata are not one JSON object")
	case !utf8.Valid(doc) || !json.Valid(doc):
		return nil, malformed("its metadata are not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	p := parser{d: d}
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	return v.(object), nil
}

type parser struct {
	d      *json.Decoder
	values int
}

func (p *parser) token() (json.Token, error) {
	t, err := p.d.Token()
	if err != nil {
		return nil, malformed("its metadata are not JSON: %v", err)
	}
	if s, ok := t.(string); ok && strings.ContainsRune(s, 0) {
		return nil, malformed("a text in its JSON has a zero byte in it")
	}
	return t, nil
}

func (p *parser) value(depth int) (any, error) {
	if p.values++; p.values > maxValues || depth > maxDepth {
		return nil, malformed("its JSON has more than %d values, or more than %d levels", maxValues, maxDepth)
	}
	t, err := p.token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		return p.object(depth)
	case json.Delim('['):
		return p.list(depth)
	}
	return t, nil
}

func (p *parser) object(depth int) (any, error) {
	o := object{}
	for p.d.More() {
		t, err := p.token()
		if err != nil {
			return nil, err
		}
		name := t.(string) // json.Valid has seen to it
		if _, twice := o[name]; twice {
			return nil, malformed("an object in its JSON has two members %s", clip(name))
		}
		if o[name], err = p.value(depth + 1); err != nil {
			return nil, err
		}
	}
	_, err := p.token()
	return o, err
}

func (p *parser) list(depth int) (any, error) {
	l := []any{}
	for p.d.More() {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		l = append(l, v)
	}
	_, err := p.token()
	return l, err
}
