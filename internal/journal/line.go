package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
)

const (
	formatName    = "anti-evil-maid journal"
	formatVersion = 1
	maxLine       = 1 << 20 // bytes, with the line feed
	idSize        = 16
)

// header is the first line.
type header struct {
	N       uint64 `json:"n"`
	Format  string `json:"format"`
	Version uint64 `json:"version"`
	ID      string `json:"id"`
}

func (h header) line() []byte {
	b := fmt.Appendf(nil, `{"n":%d,"format":`, h.N)
	b = appendString(b, h.Format)
	b = fmt.Appendf(b, `,"version":%d,"id":`, h.Version)
	b = appendString(b, h.ID)
	return append(b, "}\n"...)
}

// checkHeader looks at the first line of a file. The error is ErrVersion or a
// BrokenError, for which at is the line.
func checkHeader(line []byte, at uint64) error {
	var h header
	if json.Unmarshal(line, &h) != nil || h.Format != formatName {
		return broken(at, "it does not begin as a journal does")
	}
	if h.Version != formatVersion {
		return fmt.Errorf("%w: version %d", ErrVersion, h.Version)
	}
	if id, err := hex.DecodeString(h.ID); h.N != 0 || err != nil || len(id) != idSize || !bytes.Equal(h.line(), line) {
		return broken(at, "it is not in the one form that a first line has")
	}
	return nil
}

// record is a line after the first.
type record struct {
	N          uint64            `json:"n"`
	Prev       string            `json:"prev"`
	Time       string            `json:"time"`
	Kind       Kind              `json:"kind"`
	Generation uint64            `json:"generation"`
	Text       string            `json:"text"`
	Details    map[string]string `json:"details"`
}

// appendEntry writes the members from the time on.
func appendEntry(b []byte, e Entry) []byte {
	b = fmt.Appendf(b, `"time":"%s","kind":`, e.Time.UTC().Format(time.RFC3339))
	b = appendString(b, string(e.Kind))
	if e.Generation != 0 {
		b = strconv.AppendUint(append(b, `,"generation":`...), e.Generation, 10)
	}
	if e.Text != "" {
		b = appendString(append(b, `,"text":`...), e.Text)
	}
	if len(e.Details) > 0 {
		b = append(b, `,"details":{`...)
		for i, name := range slices.Sorted(maps.Keys(e.Details)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, name), ':')
			b = appendString(b, e.Details[name])
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

// encode makes the line of an entry that follows the line with the sum prev.
func encode(e Entry, prev [sha256.Size]byte) []byte {
	b := fmt.Appendf(nil, `{"n":%d,"prev":"%x",`, e.Number, prev)
	return append(appendEntry(b, e), '\n')
}

// decode reads a line, with its line feed, and takes only what encode writes. The
// error is a BrokenError, for which at is the line.
func decode(line []byte, at uint64) (e Entry, prev [sha256.Size]byte, err error) {
	var r record
	if json.Unmarshal(line, &r) != nil {
		return e, prev, broken(at, "it is not a JSON object as journals have them")
	}
	sum, err := hex.DecodeString(r.Prev)
	if err != nil || len(sum) != len(prev) {
		return e, prev, broken(at, "it has no sum of the line before")
	}
	when, err := time.Parse(time.RFC3339, r.Time)
	if err != nil {
		return e, prev, broken(at, "it has no time")
	}
	if r.N == 0 || r.N == math.MaxUint64 {
		return e, prev, broken(at, "its number is %d", r.N)
	}
	if !r.Kind.valid() {
		return e, prev, broken(at, "its kind is not a word of small letters")
	}
	prev = [sha256.Size]byte(sum)
	e = Entry{r.N, when.UTC(), r.Kind, r.Generation, r.Text, r.Details}
	if !bytes.Equal(encode(e, prev), line) {
		return Entry{}, prev, broken(at, "it is not in the one form that a line has")
	}
	return e, prev, nil
}

// MarshalJSON gives the entry as its line has it, without the sum: in ASCII, since
// JSON lets control characters through that terminals obey.
func (e Entry) MarshalJSON() ([]byte, error) {
	return appendEntry(fmt.Appendf(nil, `{"n":%d,`, e.Number), e), nil
}

// appendString writes a JSON string in ASCII. It is not encoding/json's, whose choice
// of escapes has changed before: a line must have the same bytes for ever.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r >= ' ' && r <= '~':
			b = append(b, byte(r))
		case r > 0xffff:
			r -= 0x10000
			b = fmt.Appendf(b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return append(b, '"')
}
